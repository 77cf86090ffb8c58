/*
 * Sends UDP as fast as it can, in turn over several flows (one destination port each).
 *
 *     udp_blast INTERFACE NEXT_HOP_MAC SOURCE DESTINATION FIRST_PORT FLOWS PACKET_BYTES SECONDS
 *
 * A packet socket with sendmmsg(2) and without a queueing discipline, because the cost of a
 * sender's own UDP stack would be the limit that is measured. PACKET_BYTES is the length of
 * the IP packet. Payloads look like RTP (RFC 3550): nothing a blocker should stop. Prints
 * the number of packets that left.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64
#define HEADERS_B (sizeof(struct iphdr) + sizeof(struct udphdr))
#define MIN_PACKET_B (HEADERS_B + 12) /* an RTP header */
#define MAX_PACKET_B 1500

struct frame {
    struct ether_header ethernet;
    struct iphdr ip;
    struct udphdr udp;
    uint8_t payload[MAX_PACKET_B - HEADERS_B];
} __attribute__((packed));

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static uint16_t checksum(const void *header)
{
    uint16_t words[sizeof(struct iphdr) / 2];
    uint32_t sum = 0;

    memcpy(words, header, sizeof(words));
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        sum += words[i];
    sum = (sum & 0xffff) + (sum >> 16);
    return ~(sum + (sum >> 16));
}

static void fill_payload(struct frame *frame, int payload_b)
{
    static uint32_t noise = 2463534242u;

    for (int at = 0; at < payload_b; at++) {
        noise ^= noise << 13; /* xorshift32 */
        noise ^= noise >> 17;
        noise ^= noise << 5;
        frame->payload[at] = noise;
    }
    frame->payload[0] = 0x80; /* RTP version 2 */
    frame->payload[1] = 0x60; /* a dynamic payload type */
}

int main(int argc, char **argv)
{
    static struct frame frames[BATCH];
    static struct iovec parts[BATCH];
    static struct mmsghdr messages[BATCH];
    struct sockaddr_ll link = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP) };
    struct ifreq request = { 0 };
    struct ether_addr *next_hop;
    unsigned long sent = 0;
    uint16_t sequence = 0;
    int descriptor, flows, port, packet_b, flow = 0, one = 1;
    double end_s;

    if (argc != 9) {
        fprintf(stderr, "usage: udp_blast INTERFACE NEXT_HOP_MAC SOURCE DESTINATION "
                        "FIRST_PORT FLOWS PACKET_BYTES SECONDS\n");
        return 2;
    }
    next_hop = ether_aton(argv[2]);
    port = atoi(argv[5]);
    flows = atoi(argv[6]);
    packet_b = atoi(argv[7]);
    if (!next_hop || flows < 1 || packet_b < (int)MIN_PACKET_B || packet_b > MAX_PACKET_B) {
        fprintf(stderr, "udp_blast: needs a MAC address, at least 1 flow, and %zu to %d bytes\n",
                MIN_PACKET_B, MAX_PACKET_B);
        return 2;
    }
    descriptor = socket(AF_PACKET, SOCK_RAW, 0); /* 0: receives nothing */
    if (descriptor < 0)
        return fail("socket");
    link.sll_ifindex = if_nametoindex(argv[1]);
    if (!link.sll_ifindex)
        return fail(argv[1]);
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", argv[1]);
    if (ioctl(descriptor, SIOCGIFHWADDR, &request) < 0)
        return fail("SIOCGIFHWADDR");
    if (setsockopt(descriptor, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0)
        return fail("PACKET_QDISC_BYPASS");

    for (int i = 0; i < BATCH; i++) {
        struct frame *frame = &frames[i];

        memcpy(frame->ethernet.ether_dhost, next_hop, ETH_ALEN);
        memcpy(frame->ethernet.ether_shost, request.ifr_hwaddr.sa_data, ETH_ALEN);
        frame->ethernet.ether_type = htons(ETH_P_IP);
        frame->ip.version = 4;
        frame->ip.ihl = 5;
        frame->ip.ttl = 64;
        frame->ip.protocol = IPPROTO_UDP;
        frame->ip.tot_len = htons(packet_b);
        if (inet_pton(AF_INET, argv[3], &frame->ip.saddr) != 1 ||
            inet_pton(AF_INET, argv[4], &frame->ip.daddr) != 1) {
            fprintf(stderr, "udp_blast: not IPv4 addresses: %s %s\n", argv[3], argv[4]);
            return 2;
        }
        frame->ip.check = checksum(&frame->ip);
        frame->udp.source = htons(port);
        frame->udp.len = htons(packet_b - sizeof(frame->ip)); /* checksum 0: none */
        fill_payload(frame, packet_b - HEADERS_B);
        parts[i].iov_base = frame;
        parts[i].iov_len = sizeof(frame->ethernet) + packet_b;
        messages[i].msg_hdr.msg_name = &link;
        messages[i].msg_hdr.msg_namelen = sizeof(link);
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }

    end_s = now_s() + atof(argv[8]);
    while (now_s() < end_s) {
        int done;

        for (int i = 0; i < BATCH; i++) {
            frames[i].udp.dest = htons(port + flow);
            if (++flow == flows) {
                flow = 0;
                sequence++;
            }
            frames[i].payload[2] = sequence >> 8;
            frames[i].payload[3] = sequence;
        }
        done = sendmmsg(descriptor, messages, BATCH, 0);
        if (done > 0)
            sent += done;
        else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
            return fail("sendmmsg");
    }
    printf("%lu\n", sent);
    return 0;
}

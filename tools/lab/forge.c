/*
 * Sends UDP datagrams in the names of many, at a steady rate.
 *
 *     forge INTERFACE NEXT_HOP_MAC FIRST_SOURCE SOURCES DESTINATION COUNT PER_SECOND PAYLOAD_HEX
 *
 * Datagram N comes from address FIRST_SOURCE + N % SOURCES, and its source port changes whenever
 * all of them have had their turn: so each is of a flow of its own, until COUNT is some billion.
 * A packet socket with sendmmsg(2), because no sender's own stack would let such packets out.
 * Prints how many have left.
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

#define BATCH 32
#define MAX_PAYLOAD_B 512
#define FIRST_PORT 20000
#define PORTS 40000

struct frame {
    struct ether_header ethernet;
    struct iphdr ip;
    struct udphdr udp;
    uint8_t payload[MAX_PAYLOAD_B];
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

/* Gives the number of bytes, or -1. */
static int from_hex(const char *text, uint8_t *bytes)
{
    int length = strlen(text) / 2;

    if (strlen(text) % 2 || length > MAX_PAYLOAD_B)
        return -1;
    for (int at = 0; at < length; at++)
        if (sscanf(text + 2 * at, "%2hhx", &bytes[at]) != 1)
            return -1;
    return length;
}

int main(int argc, char **argv)
{
    static struct frame frames[BATCH];
    static struct iovec parts[BATCH];
    static struct mmsghdr messages[BATCH];
    struct sockaddr_ll link = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP) };
    struct ifreq request = { 0 };
    struct in_addr first, destination;
    struct ether_addr *next_hop;
    uint8_t payload[MAX_PAYLOAD_B];
    unsigned long sent = 0, sources, count;
    int descriptor, payload_b;
    double began_s, per_second;

    if (argc != 9) {
        fprintf(stderr, "usage: forge INTERFACE NEXT_HOP_MAC FIRST_SOURCE SOURCES DESTINATION "
                        "COUNT PER_SECOND PAYLOAD_HEX\n");
        return 2;
    }
    next_hop = ether_aton(argv[2]);
    sources = strtoul(argv[4], NULL, 10);
    count = strtoul(argv[6], NULL, 10);
    per_second = atof(argv[7]);
    payload_b = from_hex(argv[8], payload);
    if (!next_hop || inet_pton(AF_INET, argv[3], &first) != 1 || sources < 1 ||
        inet_pton(AF_INET, argv[5], &destination) != 1 || per_second <= 0 || payload_b < 0) {
        fprintf(stderr, "forge: needs a MAC address, IPv4 addresses, numbers above 0, and at "
                        "most %d bytes in hex\n", MAX_PAYLOAD_B);
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

    for (int i = 0; i < BATCH; i++) {
        struct frame *frame = &frames[i];

        memcpy(frame->ethernet.ether_dhost, next_hop, ETH_ALEN);
        memcpy(frame->ethernet.ether_shost, request.ifr_hwaddr.sa_data, ETH_ALEN);
        frame->ethernet.ether_type = htons(ETH_P_IP);
        frame->ip.version = 4;
        frame->ip.ihl = 5;
        frame->ip.ttl = 64;
        frame->ip.protocol = IPPROTO_UDP;
        frame->ip.tot_len = htons(sizeof(frame->ip) + sizeof(frame->udp) + payload_b);
        frame->ip.daddr = destination.s_addr;
        frame->udp.dest = htons(6881);
        frame->udp.len = htons(sizeof(frame->udp) + payload_b); /* checksum 0: none */
        memcpy(frame->payload, payload, payload_b);
        parts[i].iov_base = frame;
        parts[i].iov_len = sizeof(*frame) - MAX_PAYLOAD_B + payload_b;
        messages[i].msg_hdr.msg_name = &link;
        messages[i].msg_hdr.msg_namelen = sizeof(link);
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }

    began_s = now_s();
    while (sent < count) {
        double ahead_s = sent / per_second - (now_s() - began_s);
        unsigned long batch = count - sent < BATCH ? count - sent : BATCH;
        int done;

        if (ahead_s > 0) {
            struct timespec pause = { ahead_s, (ahead_s - (long)ahead_s) * 1e9 };

            nanosleep(&pause, NULL);
        }
        for (unsigned long i = 0; i < batch; i++) {
            struct frame *frame = &frames[i];

            frame->ip.saddr = htonl(ntohl(first.s_addr) + (sent + i) % sources);
            frame->ip.check = 0;
            frame->ip.check = checksum(&frame->ip);
            frame->udp.source = htons(FIRST_PORT + (sent + i) / sources % PORTS);
        }
        done = sendmmsg(descriptor, messages, batch, 0);
        if (done > 0)
            sent += done;
        else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
            return fail("sendmmsg");
    }
    printf("%lu\n", sent);
    return 0;
}

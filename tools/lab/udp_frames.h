/*
 * UDP datagrams as Ethernet frames, many for one sendmmsg(2) on a packet socket: what no
 * sender's own stack would let out, or not as fast.
 */
#ifndef UDP_FRAMES_H
#define UDP_FRAMES_H

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
#define MAX_PACKET_B 1500

struct frame {
    struct ether_header ethernet;
    struct iphdr ip;
    struct udphdr udp;
    uint8_t payload[MAX_PACKET_B - HEADERS_B];
} __attribute__((packed));

static struct frame frames[BATCH];
static struct mmsghdr messages[BATCH];

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static int fail(const char *what)
{
    perror(what);
    return -1;
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

/* Open a packet socket on an interface, and prepare the frames for it: everything but source,
 * destination, ports, payload and the checksum of IP, that of UDP being 0, none. Gives the
 * descriptor, or -1 when that failed and has been told. */
static int open_frames(const char *interface, const struct ether_addr *next_hop, int packet_b)
{
    static struct sockaddr_ll link = { .sll_family = AF_PACKET };
    static struct iovec parts[BATCH];
    struct ifreq request = { 0 };
    int descriptor = socket(AF_PACKET, SOCK_RAW, 0); /* 0: receives nothing */

    if (descriptor < 0)
        return fail("socket");
    link.sll_protocol = htons(ETH_P_IP);
    link.sll_ifindex = if_nametoindex(interface);
    if (!link.sll_ifindex)
        return fail(interface);
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
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
        frame->ip.tot_len = htons(packet_b);
        frame->udp.len = htons(packet_b - sizeof(frame->ip));
        parts[i].iov_base = frame;
        parts[i].iov_len = sizeof(frame->ethernet) + packet_b;
        messages[i].msg_hdr.msg_name = &link;
        messages[i].msg_hdr.msg_namelen = sizeof(link);
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    return descriptor;
}

/* Send the first frames; gives how many have left, 0 when the way is full, or -1. */
static int send_frames(int descriptor, unsigned int count)
{
    int done = sendmmsg(descriptor, messages, count, 0);

    if (done < 0 && (errno == ENOBUFS || errno == EAGAIN || errno == EINTR))
        return 0;
    return done < 0 ? fail("sendmmsg") : done;
}

#endif

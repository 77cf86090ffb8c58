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
#include "../lab/udp_frames.h"

#define MIN_PACKET_B (HEADERS_B + 12) /* an RTP header */

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
    descriptor = open_frames(argv[1], next_hop, packet_b);
    if (descriptor < 0)
        return 1;
    if (setsockopt(descriptor, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0) {
        perror("PACKET_QDISC_BYPASS");
        return 1;
    }
    for (int i = 0; i < BATCH; i++) {
        struct frame *frame = &frames[i];

        if (inet_pton(AF_INET, argv[3], &frame->ip.saddr) != 1 ||
            inet_pton(AF_INET, argv[4], &frame->ip.daddr) != 1) {
            fprintf(stderr, "udp_blast: not IPv4 addresses: %s %s\n", argv[3], argv[4]);
            return 2;
        }
        frame->ip.check = checksum(&frame->ip);
        frame->udp.source = htons(port);
        fill_payload(frame, packet_b - HEADERS_B);
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
        done = send_frames(descriptor, BATCH);
        if (done < 0)
            return 1;
        sent += done;
    }
    printf("%lu\n", sent);
    return 0;
}

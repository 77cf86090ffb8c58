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
#include "udp_frames.h"

#define MAX_PAYLOAD_B 512
#define FIRST_PORT 20000
#define PORTS 40000

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
    descriptor = open_frames(argv[1], next_hop, HEADERS_B + payload_b);
    if (descriptor < 0)
        return 1;
    for (int i = 0; i < BATCH; i++) {
        frames[i].ip.daddr = destination.s_addr;
        frames[i].udp.dest = htons(6881);
        memcpy(frames[i].payload, payload, payload_b);
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
        done = send_frames(descriptor, batch);
        if (done < 0)
            return 1;
        sent += done;
    }
    printf("%lu\n", sent);
    return 0;
}

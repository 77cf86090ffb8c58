/*
 * Sends UDP as fast as it can, in turn over several flows (one socket, one destination
 * port each), with sendmmsg(2).
 *
 *     udp_blast ADDRESS FIRST_PORT FLOWS PAYLOAD_BYTES SECONDS
 *
 * Payloads look like RTP (RFC 3550): nothing a blocker should stop. Prints the number of
 * packets that left.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64
#define MAX_PAYLOAD_B 1472

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    static uint8_t payloads[BATCH][MAX_PAYLOAD_B];
    static struct sockaddr_in targets[BATCH];
    static struct iovec parts[BATCH];
    static struct mmsghdr messages[BATCH];
    unsigned long sent = 0, next_flow = 0;
    uint16_t sequence = 0;
    uint32_t noise = 2463534242u;
    int descriptor, flows, port, payload_b;
    double end_s;

    if (argc != 6) {
        fprintf(stderr, "usage: udp_blast ADDRESS FIRST_PORT FLOWS PAYLOAD_BYTES SECONDS\n");
        return 2;
    }
    port = atoi(argv[2]);
    flows = atoi(argv[3]);
    payload_b = atoi(argv[4]);
    if (flows < 1 || payload_b < 12 || payload_b > MAX_PAYLOAD_B) {
        fprintf(stderr, "udp_blast: at least 1 flow, 12 to %d bytes\n", MAX_PAYLOAD_B);
        return 2;
    }
    descriptor = socket(AF_INET, SOCK_DGRAM, 0);
    if (descriptor < 0) {
        perror("socket");
        return 1;
    }
    for (int i = 0; i < BATCH; i++) {
        for (int at = 0; at < payload_b; at++) {
            noise ^= noise << 13; /* xorshift32 */
            noise ^= noise >> 17;
            noise ^= noise << 5;
            payloads[i][at] = noise;
        }
        payloads[i][0] = 0x80; /* RTP version 2 */
        payloads[i][1] = 0x60; /* dynamic payload type */
        targets[i].sin_family = AF_INET;
        if (inet_pton(AF_INET, argv[1], &targets[i].sin_addr) != 1) {
            fprintf(stderr, "udp_blast: not an IPv4 address: %s\n", argv[1]);
            return 2;
        }
        parts[i].iov_base = payloads[i];
        parts[i].iov_len = payload_b;
        messages[i].msg_hdr.msg_name = &targets[i];
        messages[i].msg_hdr.msg_namelen = sizeof(targets[i]);
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }

    end_s = now_s() + atof(argv[5]);
    while (now_s() < end_s) {
        int done;

        for (int i = 0; i < BATCH; i++) {
            targets[i].sin_port = htons(port + next_flow);
            if (++next_flow == (unsigned long)flows) {
                next_flow = 0;
                sequence++;
            }
            payloads[i][2] = sequence >> 8;
            payloads[i][3] = sequence;
        }
        done = sendmmsg(descriptor, messages, BATCH, 0);
        if (done > 0)
            sent += done;
        else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR && errno != EPERM) {
            perror("sendmmsg");
            return 1;
        }
    }
    printf("%lu\n", sent);
    return 0;
}

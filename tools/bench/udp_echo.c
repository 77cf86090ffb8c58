/*
 * Round trips of single UDP packets, at low load.
 *
 *     udp_echo serve PORT
 *     udp_echo ping ADDRESS PORT COUNT INTERVAL_MICROSECONDS
 *
 * `ping` prints each round trip in nanoseconds, one a line, and "lost" for an answer that
 * takes more than a second.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD_B 172 /* a 200-byte packet */

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int serve(int descriptor, struct sockaddr_in *own)
{
    uint8_t buffer[2048];

    if (bind(descriptor, (struct sockaddr *)own, sizeof(*own)) < 0) {
        perror("bind");
        return 1;
    }
    for (;;) {
        struct sockaddr_in peer;
        socklen_t peer_b = sizeof(peer);
        ssize_t length = recvfrom(descriptor, buffer, sizeof(buffer), 0,
                                  (struct sockaddr *)&peer, &peer_b);

        if (length >= 0)
            sendto(descriptor, buffer, length, 0, (struct sockaddr *)&peer, peer_b);
    }
}

static int ping(int descriptor, struct sockaddr_in *peer, int count, int interval_us)
{
    struct timeval patience = { .tv_sec = 1 };
    uint8_t out[PAYLOAD_B] = { 0x80, 0x60 }, in[2048]; /* looks like RTP */

    if (connect(descriptor, (struct sockaddr *)peer, sizeof(*peer)) < 0 ||
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0) {
        perror("connect");
        return 1;
    }
    for (uint32_t number = 0; number < (uint32_t)count; number++) {
        int64_t start_ns = now_ns();
        ssize_t length;

        memcpy(out + 4, &number, sizeof(number));
        send(descriptor, out, sizeof(out), 0);
        do { /* the answer to an earlier packet may come late */
            length = recv(descriptor, in, sizeof(in), 0);
        } while (length >= 0 && memcmp(in + 4, &number, sizeof(number)));
        if (length < 0)
            puts("lost");
        else
            printf("%lld\n", (long long)(now_ns() - start_ns));
        usleep(interval_us);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    int descriptor = socket(AF_INET, SOCK_DGRAM, 0);

    if (descriptor < 0) {
        perror("socket");
        return 1;
    }
    if (argc == 3 && !strcmp(argv[1], "serve")) {
        address.sin_port = htons(atoi(argv[2]));
        return serve(descriptor, &address);
    }
    if (argc == 6 && !strcmp(argv[1], "ping") &&
        inet_pton(AF_INET, argv[2], &address.sin_addr) == 1) {
        address.sin_port = htons(atoi(argv[3]));
        return ping(descriptor, &address, atoi(argv[4]), atoi(argv[5]));
    }
    fprintf(stderr, "usage: udp_echo serve PORT | ping ADDRESS PORT COUNT INTERVAL_US\n");
    return 2;
}

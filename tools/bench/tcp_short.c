/*
 * Short TCP connections: a request of 100 bytes, an answer of 200, and the end.
 *
 *     tcp_short serve PORT
 *     tcp_short connect ADDRESS PORT SECONDS CONCURRENCY
 *
 * `connect` keeps CONCURRENCY connections open, each followed by another as soon as it has its
 * whole answer and the end, and prints how many that were, and how many failed. The server closes
 * first, as with HTTP/1.0, and the client has seen that when it closes: so its ports can be used
 * again at once.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_B 100
#define ANSWER_B 200
#define EVENTS 256
#define MAX_CONCURRENCY 4096
#define MAX_DESCRIPTORS (MAX_CONCURRENCY + 64)

static char request[REQUEST_B], answer[ANSWER_B];
static uint16_t received[MAX_DESCRIPTORS]; /* bytes, by descriptor */

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* Text as HTTP has it, padded to its full size. */
static void fill(char *message, size_t size, const char *head)
{
    memset(message, 'x', size);
    memcpy(message, head, strlen(head));
    memcpy(message + size - 4, "\r\n\r\n", 4);
}

static int watch(int poll, int operation, int descriptor, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.fd = descriptor };

    return epoll_ctl(poll, operation, descriptor, &event);
}

/* Take what has come of a message; 1 when all has, and with `to_end` the end behind it, 0 before,
 * -1 if it will not come. */
static int whole(int descriptor, size_t size, int to_end)
{
    char buffer[512];
    ssize_t length = recv(descriptor, buffer, sizeof(buffer), 0);

    if (length < 0)
        return errno == EAGAIN ? 0 : -1;
    if (!length)
        return to_end && received[descriptor] >= size ? 1 : -1;
    received[descriptor] += length;
    return !to_end && received[descriptor] >= size;
}

static int serve(struct sockaddr_in *own)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    int one = 1;

    if (listener < 0 || poll < 0)
        return fail("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)own, sizeof(*own)) < 0 ||
        listen(listener, MAX_CONCURRENCY) < 0 ||
        watch(poll, EPOLL_CTL_ADD, listener, EPOLLIN) < 0)
        return fail("listen");
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poll, events, EVENTS, -1);

        for (int i = 0; i < ready; i++) {
            int descriptor = events[i].data.fd;

            if (descriptor == listener) {
                int accepted;

                while ((accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (accepted >= MAX_DESCRIPTORS) {
                        close(accepted);
                        continue;
                    }
                    received[accepted] = 0;
                    watch(poll, EPOLL_CTL_ADD, accepted, EPOLLIN);
                }
                continue;
            }
            switch (whole(descriptor, REQUEST_B, 0)) {
            case 1:
                send(descriptor, answer, ANSWER_B, MSG_NOSIGNAL);
                close(descriptor);
                break;
            case -1:
                close(descriptor);
                break;
            }
        }
    }
}

/* Begin a connection; it becomes writable when it stands. */
static int begin(int poll, struct sockaddr_in *peer)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (descriptor < 0 || descriptor >= MAX_DESCRIPTORS)
        return -1;
    received[descriptor] = 0;
    if ((connect(descriptor, (struct sockaddr *)peer, sizeof(*peer)) < 0 &&
         errno != EINPROGRESS) ||
        watch(poll, EPOLL_CTL_ADD, descriptor, EPOLLOUT) < 0) {
        close(descriptor);
        return -1;
    }
    return 0;
}

static int connect_all(struct sockaddr_in *peer, double seconds, int concurrency)
{
    int poll = epoll_create1(0);
    unsigned long done = 0, failed = 0;
    double end_s = now_s() + seconds;

    if (poll < 0)
        return fail("epoll_create1");
    for (int i = 0; i < concurrency; i++)
        if (begin(poll, peer) < 0)
            return fail("connect");
    while (now_s() < end_s) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poll, events, EVENTS, 100);

        for (int i = 0; i < ready; i++) {
            int descriptor = events[i].data.fd, came;

            if (events[i].events & EPOLLOUT) {
                if (send(descriptor, request, REQUEST_B, MSG_NOSIGNAL) == REQUEST_B &&
                    watch(poll, EPOLL_CTL_MOD, descriptor, EPOLLIN) == 0)
                    continue;
                came = -1;
            } else {
                came = whole(descriptor, ANSWER_B, 1);
            }
            if (!came)
                continue;
            if (came > 0)
                done++;
            else
                failed++;
            close(descriptor);
            if (begin(poll, peer) < 0)
                return fail("connect");
        }
    }
    printf("%lu %lu\n", done, failed);
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = { .sin_family = AF_INET };

    fill(request, sizeof(request), "GET /index.html HTTP/1.0\r\nHost: www.example.com\r\nX: ");
    fill(answer, sizeof(answer), "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nX: ");
    if (argc == 3 && !strcmp(argv[1], "serve")) {
        address.sin_port = htons(atoi(argv[2]));
        return serve(&address);
    }
    if (argc == 6 && !strcmp(argv[1], "connect") &&
        inet_pton(AF_INET, argv[2], &address.sin_addr) == 1 && atoi(argv[5]) > 0 &&
        atoi(argv[5]) <= MAX_CONCURRENCY) {
        address.sin_port = htons(atoi(argv[3]));
        return connect_all(&address, atof(argv[4]), atoi(argv[5]));
    }
    fprintf(stderr, "usage: tcp_short serve PORT | "
                    "connect ADDRESS PORT SECONDS CONCURRENCY (at most %d)\n", MAX_CONCURRENCY);
    return 2;
}

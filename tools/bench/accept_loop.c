/*
 * The limit to measure against: accepts every packet of an NFQUEUE, one verdict a
 * packet, and looks at nothing. Payload is copied to user space as a blocker needs it.
 *
 *     accept_loop QUEUE COPY_BYTES
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <libnetfilter_queue/libnetfilter_queue.h>

/* As the blocker has them: the difference is to be the work, not the buffers. */
#define RECEIVE_BUFFER_B (16 << 20)
#define QUEUE_PACKETS 8192

static int accept_packet(struct nfq_q_handle *queue, struct nfgenmsg *message,
                         struct nfq_data *data, void *context)
{
    struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);

    (void)message;
    (void)context;
    return nfq_set_verdict(queue, ntohl(header->packet_id), NF_ACCEPT, 0, NULL);
}

static int fail(const char *what)
{
    perror(what);
    return 1;
}

int main(int argc, char **argv)
{
    static char buffer[1 << 16] __attribute__((aligned));
    struct nfq_handle *handle;
    struct nfq_q_handle *queue;
    int size = RECEIVE_BUFFER_B, descriptor;
    ssize_t length;

    if (argc != 3) {
        fprintf(stderr, "usage: accept_loop QUEUE COPY_BYTES\n");
        return 2;
    }
    handle = nfq_open();
    if (!handle)
        return fail("nfq_open");
    queue = nfq_create_queue(handle, atoi(argv[1]), accept_packet, NULL);
    if (!queue)
        return fail("nfq_create_queue");
    if (nfq_set_mode(queue, NFQNL_COPY_PACKET, atoi(argv[2])) < 0)
        return fail("nfq_set_mode");
    if (nfq_set_queue_maxlen(queue, QUEUE_PACKETS) < 0)
        return fail("nfq_set_queue_maxlen");
    descriptor = nfq_fd(handle);
    if (setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
        return fail("SO_RCVBUFFORCE");

    for (;;) {
        length = recv(descriptor, buffer, sizeof(buffer), 0);
        if (length >= 0)
            nfq_handle_packet(handle, buffer, length);
        else if (errno != ENOBUFS && errno != EINTR)
            return fail("recv");
    }
}

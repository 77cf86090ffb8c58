// Drops packets from and to banned addresses at the driver hook, before the
// network stack sees them, and packets that a signature in the driver matches.
// One function per kind of link; both read the same maps, so one ban covers
// every interface.
//
// Compiled by BCC, which brings <linux/bpf.h> and the map macros and needs every
// helper inlined, with -DBAN_CAPACITY=entries (of each ban map),
// -DMARK_BITS=bits (of a hash) and -DSTREAM_PREFIX_B=bytes.
// All that reads maps stands in this one file: in included ones BCC leaves the
// calls as they are, and the verifier refuses them.
//
// A packet that cannot be parsed passes: other layers judge it. Each check
// against data_end is there because the verifier demands it before a read.

#include <linux/if_ether.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

// 802.1Q inside 802.1ad, as providers stack them.
#define MAX_VLAN_TAGS 2
#define IS_FRAGMENT 0x3fff  // more fragments, or an offset: iphdr.frag_off

struct vlan_tag {
    __be16 control;
    __be16 inner_protocol;
};

// Addresses as on the wire. Octets, not integers, so that `bpftool map dump`
// shows them in reading order; aligned, so that a copy is one load.
struct ipv4_key {
    u8 octets[4];
} __attribute__((aligned(4)));

struct ipv6_key {
    u8 octets[16];
} __attribute__((aligned(4)));

// `expires_ns` is on CLOCK_MONOTONIC. Compared here and not only cleaned up by
// user space: a ban ends on time even if nobody is left to remove it. The
// others count what it has dropped, by the lengths in the IP headers.
struct ban {
    u64 expires_ns;
    u64 packets;
    u64 bytes;
};

// Hashes that refuse when they are full, not LRU hashes: those give up what was
// not seen lately, also a ban of this second for one of last month that is hit
// all the time. User space makes room, the oldest first.
BPF_F_TABLE("hash", struct ipv4_key, struct ban, blocked_ips, BAN_CAPACITY, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct ipv6_key, struct ban, blocked_ips6, BAN_CAPACITY, BPF_F_NO_PREALLOC);

// A byte for each hash of an address, not 0 where a banned address has it. What
// is not marked is not banned, and nearly no innocent address is: it is spared
// the look-up in a hash of many megabytes. Bytes, because user space and this
// program both set them, and a byte is stored without reading its neighbours.
#define MARKS_A_LINE 64
struct mark_line {
    u8 marks[MARKS_A_LINE];
};
BPF_F_TABLE("array", u32, struct mark_line, ban_marks, (1 << MARK_BITS) / MARKS_A_LINE,
            BPF_F_MMAPABLE);

// Addresses that no ban applies to, and that no signature here bans. The value is
// 1 where all their traffic is let alone: with banned addresses as well.
#define MAX_NETWORKS 65536
struct ipv4_network {
    u32 prefix_bits;
    struct ipv4_key address;
};
struct ipv6_network {
    u32 prefix_bits;
    struct ipv6_key address;
};
BPF_F_TABLE("lpm_trie", struct ipv4_network, u32, allowed, MAX_NETWORKS, BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct ipv6_network, u32, allowed6, MAX_NETWORKS, BPF_F_NO_PREALLOC);

// How many of these are let alone. Mostly none are, and then no peer is looked up.
BPF_ARRAY(let_alone, u32, 1);

// Index of a counter, and what happened to the packet.
enum outcome { PASSED, DROPPED_SOURCE, DROPPED_DESTINATION, DROPPED_SIGNATURE, OUTCOMES };

BPF_PERCPU_ARRAY(outcomes, u64, OUTCOMES);

static __always_inline int finish(enum outcome outcome) {
    u32 index = outcome;
    u64 *packets = outcomes.lookup(&index);
    if (packets)
        (*packets)++;
    return outcome == PASSED ? XDP_PASS : XDP_DROP;
}

// The functions below take the IP version as a constant, so that the compiler
// leaves of each only the half that is about it.

// The same in engine/enforce/marks.py.
static __always_inline u32 hash_of(int version, const void *address) {
    const u32 *words = address;
    if (version == 4)
        return words[0] * 0x9e3779b1u;
    u32 sum = words[0] * 0x9e3779b1u + words[1] * 0x85ebca77u + words[2] * 0xc2b2ae3du +
              words[3] * 0x27d4eb2fu;
    return (sum ^ sum >> 15) * 0x9e3779b1u;
}

static __always_inline u8 *mark_of(int version, const void *address) {
    u32 mark = hash_of(version, address) >> (32 - MARK_BITS);
    u32 line = mark / MARKS_A_LINE;
    struct mark_line *found = ban_marks.lookup(&line);
    return found ? &found->marks[mark % MARKS_A_LINE] : 0;
}

static __always_inline const u32 *find_allowed(int version, const void *address) {
    if (version == 4) {
        struct ipv4_network host = {.prefix_bits = 32, .address = *(const struct ipv4_key *)address};
        return allowed.lookup(&host);
    }
    struct ipv6_network host = {.prefix_bits = 128, .address = *(const struct ipv6_key *)address};
    return allowed6.lookup(&host);
}

// Whether an address must not be banned, for its own sake or for that of the
// address that it speaks with here.
static __always_inline int is_spared(int version, const void *address, const void *peer) {
    if (find_allowed(version, address))
        return 1;
    u32 index = 0;
    const u32 *networks = let_alone.lookup(&index);
    if (!networks || !*networks)
        return 0;
    const u32 *is_let_alone = find_allowed(version, peer);
    return is_let_alone && *is_let_alone;
}

static __always_inline struct ban *find_ban(int version, const void *address) {
    if (version == 4) {
        struct ipv4_key key = *(const struct ipv4_key *)address;
        return blocked_ips.lookup(&key);
    }
    struct ipv6_key key = *(const struct ipv6_key *)address;
    return blocked_ips6.lookup(&key);
}

// Reads the clock only for an address that is in the map: a packet of anybody
// else does not pay for it. A clock that moves with the timer's tick costs a
// fraction, and a few milliseconds matter to no ban.
static __always_inline int is_banned(int version, const void *address, const void *peer,
                                     u32 bytes) {
    u8 *mark = mark_of(version, address);
    if (!mark || !*mark)
        return 0;
    struct ban *ban = find_ban(version, address);
    if (!ban || bpf_ktime_get_coarse_ns() >= ban->expires_ns ||
        is_spared(version, address, peer))
        return 0;
    __sync_fetch_and_add(&ban->packets, 1);
    __sync_fetch_and_add(&ban->bytes, bytes);
    return 1;
}

// --- signatures in the driver

// What user space decides about the bans that signatures set here: how long
// they last, 0 for none.
struct settings {
    u64 ban_ns;
};
BPF_ARRAY(settings, struct settings, 1);

// A signature has matched. `expires_ns` is that of the ban it has set;
// `new_ban` says whether the address was not in the map, `program` which
// signatures the number counts in. Addresses and ports are as on the wire.
struct event {
    u64 expires_ns;
    u32 program;
    u16 signature;
    u8 protocol;
    u8 ip_version;
    u8 source[16];
    u8 destination[16];
    __be16 source_port;
    __be16 destination_port;
    u8 new_ban;
    u8 unused[3];
};

#define EVENT_PAGES 64
BPF_RINGBUF_OUTPUT(events, EVENT_PAGES);

// What the conditions of signatures are made of. `payload` has `size` bytes, all
// of them before `end`. The verifier does not see that, so each read looks for
// itself, at a pointer that the compiler knows nothing about: else it would join
// the checks of several reads in ways that the verifier does not follow. What
// cannot happen ends the condition.
#define HAS(length) (size >= (length))
#define READ(type, offset)                                                                         \
    ({                                                                                             \
        const u8 *at = payload + (offset);                                                         \
        asm volatile("" : "+r"(at));                                                               \
        if (at + sizeof(type) > (const u8 *)end)                                                   \
            return 0;                                                                              \
        *(const type *)at;                                                                         \
    })
#define U8(offset) ((u64)READ(u8, offset))
#define U16(offset) ((u64)__builtin_bswap16(READ(u16, offset)))
#define U32(offset) ((u64)__builtin_bswap32(READ(u32, offset)))
#define U64(offset) ((u64)__builtin_bswap64(READ(u64, offset)))
#define U16LE(offset) ((u64)READ(u16, offset))
#define U32LE(offset) ((u64)READ(u32, offset))
#define U64LE(offset) ((u64)READ(u64, offset))

// Generated by engine/compiler/driver.py: the functions match_udp_packet,
// match_tcp_packet and match_tcp_stream, which give the number of a signature
// or NONE, HAVE_... for each that is not empty, and PROGRAM.
#define NONE (-1)
#include "signatures.h"

#if HAVE_UDP_PACKET || HAVE_TCP_PACKET || HAVE_TCP_STREAM

// Addresses are pointers into the packet; ports are as on the wire.
struct segment {
    const void *source;
    const void *destination;
    __be16 source_port;
    __be16 destination_port;
    u32 size;
    const u8 *payload;
};

#if HAVE_TCP_STREAM

struct ipv4_flow {
    struct ipv4_key source;
    struct ipv4_key destination;
    __be16 source_port;
    __be16 destination_port;
};

struct ipv6_flow {
    struct ipv6_key source;
    struct ipv6_key destination;
    __be16 source_port;
    __be16 destination_port;
};

// The sequence number that each direction's stream begins with, from its SYN.
// Without it the middle of somebody's stream could be taken for the start of
// one. Here the least recently used may give way: what is not known to be a
// start is left to the queue.
#define STREAMS 65536
BPF_TABLE("lru_hash", struct ipv4_flow, u32, stream_starts, STREAMS);
BPF_TABLE("lru_hash", struct ipv6_flow, u32, stream_starts6, STREAMS);

static __always_inline void begin_stream(int version, const struct segment *in, u32 first) {
    if (version == 4) {
        struct ipv4_flow flow = {*(const struct ipv4_key *)in->source,
                                 *(const struct ipv4_key *)in->destination, in->source_port,
                                 in->destination_port};
        stream_starts.update(&flow, &first);
    } else {
        struct ipv6_flow flow = {*(const struct ipv6_key *)in->source,
                                 *(const struct ipv6_key *)in->destination, in->source_port,
                                 in->destination_port};
        stream_starts6.update(&flow, &first);
    }
}

static __always_inline int begins_stream(int version, const struct segment *in, u32 sequence) {
    u32 *first;
    if (version == 4) {
        struct ipv4_flow flow = {*(const struct ipv4_key *)in->source,
                                 *(const struct ipv4_key *)in->destination, in->source_port,
                                 in->destination_port};
        first = stream_starts.lookup(&flow);
    } else {
        struct ipv6_flow flow = {*(const struct ipv6_key *)in->source,
                                 *(const struct ipv6_key *)in->destination, in->source_port,
                                 in->destination_port};
        first = stream_starts6.lookup(&flow);
    }
    return first && *first == sequence;
}

#endif

// Puts a ban into the map; whether it is in force now.
static __always_inline int put_ban(int version, const void *address, struct ban *ban,
                                   struct event *event) {
    int refused;
    if (version == 4) {
        struct ipv4_key key = *(const struct ipv4_key *)address;
        event->new_ban = !blocked_ips.insert(&key, ban);
        refused = event->new_ban ? 0 : blocked_ips.update(&key, ban);
    } else {
        struct ipv6_key key = *(const struct ipv6_key *)address;
        event->new_ban = !blocked_ips6.insert(&key, ban);
        refused = event->new_ban ? 0 : blocked_ips6.update(&key, ban);
    }
    u8 *mark = mark_of(version, address);
    if (refused || !mark)
        return 0;
    *mark = 1;
    return 1;
}

// Bans the source and tells user space, or lets the packet pass to the queue:
// where the source is spared, and where the map or the events have no room. So
// no ban is ever in force of which user space does not hear.
static __always_inline enum outcome enforce(int version, int signature, u8 protocol,
                                            const struct segment *in) {
    u32 index = 0;
    struct settings *set = settings.lookup(&index);
    if (!set || !set->ban_ns || is_spared(version, in->source, in->destination))
        return PASSED;
    struct event *event = events.ringbuf_reserve(sizeof(struct event));
    if (!event)
        return PASSED;
    struct ban ban = {.expires_ns = bpf_ktime_get_ns() + set->ban_ns};
    __builtin_memset(event, 0, sizeof(*event));
    event->expires_ns = ban.expires_ns;
    event->program = PROGRAM;
    event->signature = signature;
    event->protocol = protocol;
    event->ip_version = version;
    __builtin_memcpy(event->source, in->source, version == 4 ? 4 : 16);
    __builtin_memcpy(event->destination, in->destination, version == 4 ? 4 : 16);
    event->source_port = in->source_port;
    event->destination_port = in->destination_port;
    if (!put_ban(version, in->source, &ban, event)) {
        events.ringbuf_discard(event, 0);
        return PASSED;
    }
    events.ringbuf_submit(event, 0);
    return DROPPED_SIGNATURE;
}

static __always_inline enum outcome inspect_udp(int version, const void *start, const void *end,
                                                u32 length, struct segment *in) {
    const struct udphdr *udp = start;
    // Both headers must agree; else the queue decides.
    if ((const void *)(udp + 1) > end || htons(udp->len) != length || length <= sizeof(*udp))
        return PASSED;
    in->source_port = udp->source;
    in->destination_port = udp->dest;
    in->payload = (const u8 *)(udp + 1);
    in->size = length - sizeof(*udp);
    int signature = match_udp_packet(in->payload, end, in->size, ntohs(in->source_port),
                                     ntohs(in->destination_port));
    return signature == NONE ? PASSED : enforce(version, signature, IPPROTO_UDP, in);
}

static __always_inline enum outcome inspect_tcp(int version, const void *start, const void *end,
                                                u32 length, struct segment *in) {
    const struct tcphdr *tcp = start;
    if ((const void *)(tcp + 1) > end)
        return PASSED;
    u32 header = tcp->doff * 4, sequence = ntohl(tcp->seq);
    if (header < sizeof(*tcp) || header > length)
        return PASSED;
    in->source_port = tcp->source;
    in->destination_port = tcp->dest;
    in->payload = (const u8 *)start + header;
    in->size = length - header;
    // Data on a SYN (TCP Fast Open) is left to the queue.
    if (tcp->syn) {
#if HAVE_TCP_STREAM
        begin_stream(version, in, sequence + 1);
#endif
        return PASSED;
    }
    if (!in->size)
        return PASSED;
    int signature = match_tcp_packet(in->payload, end, in->size, ntohs(in->source_port),
                                     ntohs(in->destination_port));
#if HAVE_TCP_STREAM
    if (signature == NONE) {
        u32 size = in->size < STREAM_PREFIX_B ? in->size : STREAM_PREFIX_B;
        signature = match_tcp_stream(in->payload, end, size, ntohs(in->source_port),
                                     ntohs(in->destination_port));
        // Asked last: next to nobody pays for it.
        if (signature != NONE && !begins_stream(version, in, sequence))
            return PASSED;
    }
#endif
    return signature == NONE ? PASSED : enforce(version, signature, IPPROTO_TCP, in);
}

// `length` is that of what follows the IP header.
static __always_inline enum outcome inspect(int version, const void *source,
                                            const void *destination, u8 protocol,
                                            const void *start, const void *end, u32 length) {
    struct segment in = {.source = source, .destination = destination};
#if HAVE_UDP_PACKET
    if (protocol == IPPROTO_UDP)
        return inspect_udp(version, start, end, length, &in);
#endif
#if HAVE_TCP_PACKET || HAVE_TCP_STREAM
    if (protocol == IPPROTO_TCP)
        return inspect_tcp(version, start, end, length, &in);
#endif
    return PASSED;
}

#else

static __always_inline enum outcome inspect(int version, const void *source,
                                            const void *destination, u8 protocol,
                                            const void *start, const void *end, u32 length) {
    return PASSED;
}

#endif

// --- both together

static __always_inline enum outcome judge_ipv4(const void *start, const void *end) {
    const struct iphdr *ip = start;
    if ((const void *)(ip + 1) > end)
        return PASSED;
    u32 length = ntohs(ip->tot_len);
    if (is_banned(4, &ip->saddr, &ip->daddr, length))
        return DROPPED_SOURCE;
    if (is_banned(4, &ip->daddr, &ip->saddr, length))
        return DROPPED_DESTINATION;
    // Options, fragments and super-packets without a length are left to the queue,
    // and what is not all in sight: other buffers of a large frame.
    if (ip->ihl != 5 || ip->frag_off & htons(IS_FRAGMENT) || length < sizeof(*ip) ||
        start + length > end)
        return PASSED;
    return inspect(4, &ip->saddr, &ip->daddr, ip->protocol, ip + 1, end, length - sizeof(*ip));
}

static __always_inline enum outcome judge_ipv6(const void *start, const void *end) {
    const struct ipv6hdr *ip = start;
    if ((const void *)(ip + 1) > end)
        return PASSED;
    u32 length = ntohs(ip->payload_len);
    if (is_banned(6, &ip->saddr, &ip->daddr, sizeof(*ip) + length))
        return DROPPED_SOURCE;
    if (is_banned(6, &ip->daddr, &ip->saddr, sizeof(*ip) + length))
        return DROPPED_DESTINATION;
    // Extension headers, fragments among them, are left to the queue, too.
    if (start + sizeof(*ip) + length > end)
        return PASSED;
    return inspect(6, &ip->saddr, &ip->daddr, ip->nexthdr, ip + 1, end, length);
}

// Links with an Ethernet header: network cards, veth, bridges, loopback.
int btblocker_eth(struct xdp_md *ctx) {
    const void *cursor = (const void *)(long)ctx->data;
    const void *end = (const void *)(long)ctx->data_end;

    const struct ethhdr *ethernet = cursor;
    if ((const void *)(ethernet + 1) > end)
        return finish(PASSED);
    __be16 protocol = ethernet->h_proto;
    cursor = ethernet + 1;

#pragma unroll
    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
        if (protocol != htons(ETH_P_8021Q) && protocol != htons(ETH_P_8021AD))
            break;
        const struct vlan_tag *tag = cursor;
        if ((const void *)(tag + 1) > end)
            return finish(PASSED);
        protocol = tag->inner_protocol;
        cursor = tag + 1;
    }

    if (protocol == htons(ETH_P_IP))
        return finish(judge_ipv4(cursor, end));
    if (protocol == htons(ETH_P_IPV6))
        return finish(judge_ipv6(cursor, end));
    return finish(PASSED);
}

// Links whose packets begin with the IP header: TUN, WireGuard, PPP, IP tunnels.
int btblocker_ip(struct xdp_md *ctx) {
    const void *start = (const void *)(long)ctx->data;
    const void *end = (const void *)(long)ctx->data_end;

    const u8 *first = start;
    if ((const void *)(first + 1) > end)
        return finish(PASSED);
    switch (*first >> 4) {
    case 4:
        return finish(judge_ipv4(start, end));
    case 6:
        return finish(judge_ipv6(start, end));
    default:
        return finish(PASSED);
    }
}

// Drops packets from and to banned addresses at the driver hook, before the
// network stack sees them. One function per kind of link; both read the same
// maps, so one ban covers every interface.
//
// Compiled by BCC with -DBAN_CAPACITY=entries (of each ban map). BCC brings
// <linux/bpf.h> and the map macros, and needs every helper inlined.
//
// A packet that cannot be parsed passes: other layers judge it. Each check
// against data_end is there because the verifier demands it before a read.

#include <linux/if_ether.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

// 802.1Q inside 802.1ad, as providers stack them.
#define MAX_VLAN_TAGS 2

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

// On the clock of bpf_ktime_get_ns, CLOCK_MONOTONIC. Compared here and not
// only cleaned up by user space: a ban ends on time even if nobody is left to
// remove it.
struct ban {
    u64 expires_ns;
};

// Least recently used bans give way when the map is full, so that a flood of
// new ones can never make an update fail.
BPF_TABLE("lru_hash", struct ipv4_key, struct ban, blocked_ips, BAN_CAPACITY);
BPF_TABLE("lru_hash", struct ipv6_key, struct ban, blocked_ips6, BAN_CAPACITY);

// Index of a counter, and what happened to the packet.
enum outcome { PASSED, DROPPED_SOURCE, DROPPED_DESTINATION, OUTCOMES };

BPF_PERCPU_ARRAY(outcomes, u64, OUTCOMES);

static __always_inline int finish(enum outcome outcome) {
    u32 index = outcome;
    u64 *packets = outcomes.lookup(&index);
    if (packets)
        (*packets)++;
    return outcome == PASSED ? XDP_PASS : XDP_DROP;
}

// Reads the clock only for an address that is in the map: a packet of anybody
// else does not pay for it.
static __always_inline int in_force(const struct ban *ban) {
    return ban && bpf_ktime_get_ns() < ban->expires_ns;
}

static __always_inline enum outcome judge_ipv4(const void *start, const void *end) {
    const struct iphdr *ip = start;
    if ((const void *)(ip + 1) > end)
        return PASSED;
    struct ipv4_key source = *(const struct ipv4_key *)&ip->saddr;
    if (in_force(blocked_ips.lookup(&source)))
        return DROPPED_SOURCE;
    struct ipv4_key destination = *(const struct ipv4_key *)&ip->daddr;
    if (in_force(blocked_ips.lookup(&destination)))
        return DROPPED_DESTINATION;
    return PASSED;
}

static __always_inline enum outcome judge_ipv6(const void *start, const void *end) {
    const struct ipv6hdr *ip = start;
    if ((const void *)(ip + 1) > end)
        return PASSED;
    struct ipv6_key source = *(const struct ipv6_key *)&ip->saddr;
    if (in_force(blocked_ips6.lookup(&source)))
        return DROPPED_SOURCE;
    struct ipv6_key destination = *(const struct ipv6_key *)&ip->daddr;
    if (in_force(blocked_ips6.lookup(&destination)))
        return DROPPED_DESTINATION;
    return PASSED;
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

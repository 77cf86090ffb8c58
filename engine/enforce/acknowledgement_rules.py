"""The iptables rule by which mere acknowledgements of TCP pass by the queue.

They are about half of all packets, nothing is looked for in them, and what they acknowledge is of
interest only for connections that are to be left to the kernel, and then not each time. They may
overtake segments that wait in the queue: an acknowledgement means the same before and after. The
end of a connection does not, so what has FIN or RST waits with the others.
"""

from __future__ import annotations

# One in so many is needed to learn what the other side has received.
_SAMPLE = 8

# Classic BPF from the IP header on, true for a TCP packet without payload: the lengths of its
# headers (in words, in a nibble each) come to the packet's. xt_bpf takes "count,code jt jf k,...".
_EMPTY_IPV4 = (
    (0xB1, 0, 0, 0),  # ldxb 4*([0]&0xf)
    (0x50, 0, 0, 12),  # ldb [x + 12]
    (0x54, 0, 0, 0xF0),  # and #0xf0
    (0x74, 0, 0, 2),  # rsh #2
    (0x0C, 0, 0, 0),  # add x
    (0x07, 0, 0, 0),  # tax
    (0x28, 0, 0, 2),  # ldh [2]
    (0x1D, 0, 1, 0),  # jeq x
    (0x06, 0, 0, 1),  # ret #1
    (0x06, 0, 0, 0),  # ret #0
)
_EMPTY_IPV6 = (
    (0x30, 0, 0, 6),  # ldb [6]
    (0x15, 0, 7, 6),  # jeq #6: no extension header
    (0x30, 0, 0, 52),  # ldb [52]
    (0x54, 0, 0, 0xF0),  # and #0xf0
    (0x74, 0, 0, 2),  # rsh #2
    (0x07, 0, 0, 0),  # tax
    (0x28, 0, 0, 4),  # ldh [4]
    (0x1D, 0, 1, 0),  # jeq x
    (0x06, 0, 0, 1),  # ret #1
    (0x06, 0, 0, 0),  # ret #0
)


def _match(program: tuple[tuple[int, int, int, int], ...]) -> str:
    lines = ",".join(" ".join(map(str, line)) for line in program)
    return f'-m bpf --bytecode "{len(program)},{lines}"'


_EMPTY = {4: _match(_EMPTY_IPV4), 6: _match(_EMPTY_IPV6)}


def acknowledgements_pass(version: int, *, sampled: bool = False) -> str:
    """The rule, for an IP version. `sampled`: some are inspected."""
    sample = f" -m statistic --mode nth ! --every {_SAMPLE} --packet 0" if sampled else ""
    return f"-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK ACK {_EMPTY[version]}{sample} -j RETURN"

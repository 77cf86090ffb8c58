"""The iptables rules by which the kernel decides for itself about connections that are marked.

What they need of a connection's mark says `connmark`. A connection without one costs a single
comparison more on its way to the queue.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.enforce.connmark import MarkBits

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
_SYN = "-p tcp -m tcp --tcp-flags SYN SYN"


def _has(bit: int) -> str:
    return f"-m connmark --mark {bit:#x}/{bit:#x}"


def before_queue(bits: MarkBits, marked_chain: str) -> Iterator[str]:
    """In the chain that leads to the queue, before it does: where marked connections go."""
    yield f"-p tcp -m connmark ! --mark 0x0/{bits.mask:#x} -g {marked_chain}"
    yield f"-p udp {_has(bits.refused)} -j DROP"


def for_marked(bits: MarkBits, to_queue: str, version: int, *, reset: bool) -> Iterator[str]:
    """In the chain of marked TCP connections. What comes to its end goes by without us.

    A SYN may begin another connection with the same ports, so the mark is gone, and who looks at
    it says what becomes of both. A direction of which something is still looked for goes to the
    queue, but not its packets without payload: in a large download those are half of all.
    """
    yield f"{_SYN} -j CONNMARK --set-xmark 0x0/{bits.mask:#x}"
    yield f"{_SYN} -j {to_queue}"
    # REJECT stands in the filter table alone.
    yield f"{_has(bits.refused)} -j {'RETURN' if reset else 'DROP'}"
    yield f"{_has(bits.original)} -m conntrack --ctdir ORIGINAL -j RETURN"
    yield f"{_has(bits.reply)} -m conntrack --ctdir REPLY -j RETURN"
    yield f"-p tcp {_EMPTY[version]} -j RETURN"
    yield f"-j {to_queue}"


def resetting(bits: MarkBits) -> Iterator[str]:
    """In the filter table: tell both ends of a refused TCP connection that it is over.

    The resets that this sends belong to the connection, too: they, and others, pass.
    """
    yield (
        f"-p tcp {_has(bits.refused)} -m tcp ! --tcp-flags RST RST "
        "-j REJECT --reject-with tcp-reset"
    )

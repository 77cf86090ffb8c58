"""The iptables rules by which the kernel decides for itself about connections that are marked.

What they need of a connection's mark says `connmark`. A connection without one costs a single
comparison more on its way to the queue.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.enforce.acknowledgement_rules import acknowledgements_pass
from engine.enforce.connmark import MarkBits

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
    queue, but not its mere acknowledgements: in a large download those are half of all packets.
    """
    yield f"{_SYN} -j CONNMARK --set-xmark 0x0/{bits.mask:#x}"
    yield f"{_SYN} -j {to_queue}"
    # REJECT stands in the filter table alone.
    yield f"{_has(bits.refused)} -j {'RETURN' if reset else 'DROP'}"
    yield f"{_has(bits.original)} -m conntrack --ctdir ORIGINAL -j RETURN"
    yield f"{_has(bits.reply)} -m conntrack --ctdir REPLY -j RETURN"
    yield acknowledgements_pass(version)
    yield f"-j {to_queue}"


def resetting(bits: MarkBits) -> Iterator[str]:
    """In the filter table: tell both ends of a refused TCP connection that it is over.

    The resets that this sends belong to the connection, too: they, and others, pass.
    """
    yield (
        f"-p tcp {_has(bits.refused)} -m tcp ! --tcp-flags RST RST "
        "-j REJECT --reject-with tcp-reset"
    )

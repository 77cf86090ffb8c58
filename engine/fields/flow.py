"""The fields of a flow: how it goes, its turns, and what is known of its hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine.fields.context import Context
from engine.fields.reads import READS
from engine.fields.turns import HEAD_B, MAX_TURNS, TURNS_WITH_BYTES
from engine.language.vocabulary import EVERY_INSPECT, Field, Parameters, Type

_FLOW = frozenset({"flow"})
_TURN = (("n", Type.NUMBER),)


def flow_fields() -> Iterator[Field]:
    """`flow.packets`, `turns`, `turn(n).size`, `src.tagged(name)` and the like."""
    yield from _progress()
    yield from _turns()
    for side, whose in (("src", "sender"), ("dst", "receiver")):
        yield Field(
            f"{side}.tagged",
            Type.TRUTH,
            f"Whether the {whose} bears a tag that a signature has put on it.",
            _tagged(side),
            (("name", Type.TEXT),),
            certain=True,
            inspects=EVERY_INSPECT,
        )


def _tagged(side: str) -> Callable[[Context, bytes], bool]:
    def read(context: Context, name: bytes) -> bool:
        host = context.source if side == "src" else context.destination
        return context.tagged(host, name.decode("latin-1"))

    return read


def _progress() -> Iterator[Field]:
    yield Field(
        "flow.packets",
        Type.NUMBER,
        "Packets of this flow that were inspected so far, both ways, this one included. Of TCP's "
        "mere acknowledgements, a running blocker inspects few.",
        lambda context: context.flow_packets,
        certain=True,
        inspects=EVERY_INSPECT,
    )
    yield Field(
        "flow.payload_packets",
        Type.NUMBER,
        "The same, of packets with a payload.",
        lambda context: context.payload_packets,
        certain=True,
        inspects=EVERY_INSPECT,
    )
    yield Field(
        "flow.from_client",
        Type.TRUTH,
        "Whether this packet is from the side that opened the flow.",
        lambda context: context.from_client,
        inspects=EVERY_INSPECT,
    )
    yield Field(
        "flow.bytes",
        Type.NUMBER,
        "Payload bytes of this flow so far, both ways.",
        lambda context: context.turns.total,
        certain=True,
        inspects=_FLOW,
    )


def _turns() -> Iterator[Field]:
    yield Field(
        "turns",
        Type.NUMBER,
        "How many turns have begun.",
        lambda context: context.turns.begun,
        certain=True,
        inspects=_FLOW,
    )

    def turn(
        name: str,
        kind: Type,
        doc: str,
        read: Callable[..., Any],
        parameters: Parameters = (),
        **more: Any,
    ) -> Field:
        more = {"index_below": MAX_TURNS, **more}
        return Field(f"turn(n).{name}", kind, doc, read, _TURN + parameters, inspects=_FLOW, **more)

    yield turn(
        "size",
        Type.NUMBER,
        "The bytes of turn `n` so far; unknown until it has begun.",
        lambda context, n: context.turns.size(n),
        settles="grows",
    )
    yield turn(
        "ends_at",
        Type.TRUTH,
        "Whether a packet of turn `n` ended so many bytes into it.",
        lambda context, n, offset: context.turns.ends_at(n, offset),
        (("offset", Type.NUMBER),),
        certain=True,
        settles="complete",
    )
    yield turn(
        "complete",
        Type.TRUTH,
        "Whether the other side has answered turn `n`, so that it grows no more.",
        lambda context, n: context.turns.complete(n),
        certain=True,
    )
    yield turn(
        "from_client",
        Type.TRUTH,
        "Whether turn `n` is of the side that opened the flow.",
        lambda context, n: context.turns.from_client(n),
        settles="known",
    )
    kept: dict[str, Any] = {
        "index_below": TURNS_WITH_BYTES,
        "reach_b": HEAD_B,
        "settles": "known",
    }
    for read in READS:
        doc = read.doc.format(" of turn `n`")
        yield turn(read.name, read.type, doc, _of_turn(read.read), read.parameters, **kept)


def _of_turn(read: Callable[..., Any]) -> Callable[..., Any]:
    return lambda context, n, *where: read(context.turns.head(n), *where)

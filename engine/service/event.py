"""Events as programs read them: one JSON object a line, in a documented, versioned form.

The form is docs/events.schema.json, generated from the classes here. Within one version keys
are only ever added.
"""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engine.language.form import Action
from engine.language.schema import drop_titles

TroubleKind = Literal[
    "packets-lost",
    "packets-unjudged",
    "worker",
    "xdp",
    "event-log",
    "detection-log",
    "metrics",
    "state",
]
LiftCause = Literal["expired", "manual", "exempt"]


def _now() -> float:
    return round(time.time(), 6)


class _Event(BaseModel):
    # Nothing forbids further keys: a later btblocker may write them.
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    version: Literal[1] = Field(
        1, serialization_alias="schema", description="The version of this form."
    )
    time: float = Field(default_factory=_now, description="Unix time in seconds.")

    def line(self) -> bytes:
        """The event as a line of a log."""
        return self.model_dump_json(by_alias=True).encode() + b"\n"


class XdpInterface(BaseModel):
    """An interface that XDP watches."""

    model_config = ConfigDict(frozen=True)

    name: str
    mode: Literal["native", "generic"]


class Start(_Event):
    """A blocker inspects packets from now on."""

    event: Literal["start"] = "start"
    blocker: str = Field(description="The version of btblocker.")
    pid: int = Field(description="Its process.")
    queue: int = Field(description="The number of its NFQUEUE, the first of several.")
    signatures: int = Field(description="How many signatures are in force.")
    monitor_only: bool = Field(description="Whether it drops and bans nothing.")
    xdp: tuple[XdpInterface, ...] = Field(description="Empty without XDP.")


class Stop(_Event):
    """A blocker ends in good order. One that was killed leaves none."""

    event: Literal["stop"] = "stop"
    uptime_s: float = Field(description="Since its start.")
    packets: int = Field(description="Packets it has judged.")
    dropped: int = Field(description="Packets of them that it has dropped.")
    detections: int = Field(description="Detections, told or not.")


class Found(_Event):
    """A signature is true for a packet. Signatures that only set a tag are not told."""

    event: Literal["detection"] = "detection"
    signature: str = Field(description="The id of the signature.")
    rev: int = Field(description="Its revision.")
    action: Action = Field(description="What its `then` says.")
    transport: Literal["tcp", "udp"] = Field(description="Of the flow.")
    source: str = Field(description="Who sent the packet: address:port, [address]:port of IPv6.")
    destination: str = Field(description="Whom it was for, written likewise.")
    flow_packet: int = Field(
        description="The packet's number in its flow, from 1, both ways; 0 in the driver."
    )
    payload_packet: int = Field(description="The same among the packets with a payload.")
    tunnelled: bool = Field(description="Whether it came inside another IP packet.")
    in_driver: bool = Field(description="Whether the XDP program has found it.")
    monitor_only: bool = Field(description="Whether the action was left undone.")
    repeated: bool = Field(
        description="Whether it was told before, when only one side of the flow had sent anything."
    )
    banned: tuple[str, ...] = Field(description="The addresses or endpoints that it has banned.")


class Banned(_Event):
    """An address is banned, or its ban renewed."""

    event: Literal["ban"] = "ban"
    address: str = Field(description="An IP address, or with a port an endpoint.")
    reason: str = Field(description="The id of a signature, or `manual`, or somebody's words.")
    duration_s: int = Field(description="How long it holds.")
    offences: int = Field(description="How many times it was banned for a detection.")


class Lifted(_Event):
    """A ban has ended. `expired` ones are told when they are cleaned up."""

    event: Literal["unban"] = "unban"
    address: str = Field(description="An IP address, or with a port an endpoint.")
    reason: str = Field(description="Why it was banned.")
    cause: LiftCause = Field(
        description="`manual`: somebody has lifted it. `exempt`: its address is allowed now, or "
        "one that this machine needs."
    )


class Reloaded(_Event):
    """A reload has put other signatures in force, or was refused and changed nothing."""

    event: Literal["reload"] = "reload"
    outcome: Literal["ok", "refused"] = Field(description="How it went.")
    duration_s: float = Field(description="From the request until it is in force or refused.")
    signatures: int | None = Field(description="How many are in force now; null if refused.")
    message: str | None = Field(description="Why it was refused.")


class Trouble(_Event):
    """Something that the operator should know of, and when it is over."""

    event: Literal["trouble"] = "trouble"
    what: TroubleKind = Field(description="Its kind.")
    message: str = Field(description="The same sentence as in the log.")
    over: bool = Field(description="Whether this tells its end.")
    count: int = Field(description="How many packets or lines it has cost; 0 for none.")


class Suppressed(_Event):
    """Events that were not written one by one, because there were too many."""

    event: Literal["suppressed"] = "suppressed"
    topic: str = Field(description="The id of a signature, or `ban` by hand, or `unban`.")
    count: int = Field(description="How many of them.")
    window_s: int = Field(description="Within how many seconds.")


Event = Start | Stop | Found | Banned | Lifted | Reloaded | Trouble | Suppressed


def event_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one line."""
    adapter: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
    schema = adapter.json_schema(mode="serialization", by_alias=True)
    drop_titles(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "btblocker event",
        **schema,
    }


def event_schema_text() -> str:
    """The same as it stands in a file."""
    return json.dumps(event_schema(), indent=2) + "\n"

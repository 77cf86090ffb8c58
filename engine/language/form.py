"""The YAML part of a signature: its keys, and what each may hold.

One declaration serves the loader, its errors and the JSON Schema for editors.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from engine.certainty import Certainty
from engine.config import BanTarget
from engine.language.ends import WrittenEnd, read_end

_DURATION = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_DURATION_TEXT = Annotated[str, Field(pattern=f"^{_DURATION.pattern}$")]
_MAX_SECONDS = 30 * 86400
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(value: object) -> object:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return int(match[1]) * _SECONDS[match[2]]
    raise ValueError("a duration is a number and s, m, h or d: 10s, 5m, 2h, 1d")


def _bounded(value: int) -> int:
    if not 0 < value <= _MAX_SECONDS:
        raise ValueError("a duration is at least 1s and at most 30d")
    return value


Seconds = Annotated[
    int,
    BeforeValidator(_seconds, json_schema_input_type=_DURATION_TEXT),
    AfterValidator(_bounded),
    Field(description="a duration such as 10s, 5m, 2h"),
]


_ID = r"^[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+$"


def _dotted(value: str) -> str:
    if not re.fullmatch(_ID, value):
        raise ValueError("an id is words of a-z, 0-9 and `-`, with dots between: lab.chat.hello")
    return value


_TAG = r"^[a-z0-9][a-z0-9-]*$"


def _plain(value: str) -> str:
    if not re.fullmatch(_TAG, value):
        raise ValueError("a tag is a word of a-z, 0-9 and `-`")
    return value


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_Port = Annotated[int, Field(ge=0, le=65535)]


class Scope(_Form):
    """Which packets a signature looks at."""

    transport: Literal["tcp", "udp"]
    inspect: Literal["stream", "packet", "middle", "flow"] | None = Field(
        None,
        description="stream: the reassembled start of each TCP direction (tcp's default); "
        "packet: each payload by itself (udp's); middle: the same of a TCP connection whose "
        "beginning was not seen, at first; flow: the turns of both sides",
    )


class Threshold(_Form):
    """`then` takes effect from the `count`-th match on within `within`, counted `per` host."""

    count: int = Field(ge=2, le=100)
    per: Literal["src", "dst"]
    within: Seconds


class Tag(_Form):
    """A mark on one or both hosts of the packet that matched; conditions ask for it."""

    name: Annotated[str, AfterValidator(_plain)] = Field(
        max_length=40, json_schema_extra={"pattern": _TAG}
    )
    of: Literal["src", "dst", "both"]
    lasts_s: Seconds = Field(alias="for")


class Ban(_Form):
    """Whom a detection bans and for how long, where that is not as the configuration says."""

    of: BanTarget | None = Field(
        None,
        description="source: who sent the packet; remote: the side outside home_networks; both; "
        "endpoint: the source's address and port; none",
    )
    lasts_s: Seconds | None = Field(None, alias="for")


Action = Literal["block", "drop", "log", "tag"]
# What stops traffic; the others only take note.
STOPPING: frozenset[Action] = frozenset({"block", "drop"})


class Then(_Form):
    """What follows a match."""

    action: Action = Field(
        description="block: drop the flow and ban its source; drop: drop the flow; "
        "log: only say so; tag: only set the tag"
    )
    threshold: Threshold | None = None
    tag: Tag | None = None
    ban: Ban | None = None


class TaggedForm(_Form):
    """Tags that the ends of a test bear to begin with."""

    src: list[str] = []
    dst: list[str] = []


EndOfTest = Annotated[
    WrittenEnd,
    BeforeValidator(read_end, json_schema_input_type=str | _Port),
]
_END = "an address and a port, or one of them, as in 10.0.0.1:6881, [2001:db8::1]:443, 53"


def _packets(value: object) -> object:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return value
    raise ValueError("a turn is a payload, or a list of payloads")


Turn = Annotated[
    list[str],
    BeforeValidator(_packets, json_schema_input_type=str | list[str]),
    Field(min_length=1, max_length=16),
]


class TestForm(_Form):
    """A payload or a flow, and whether the signature must match it (thresholds aside)."""

    expect: Literal["match", "no match"]
    payload: str | None = None
    turns: list[Turn] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="payloads of a flow, the client's first, then each side's in turn; "
        "a list where a turn has several packets",
    )
    src: EndOfTest = Field(
        default_factory=WrittenEnd, description=f"who sends the first payload: {_END}"
    )
    dst: EndOfTest = Field(default_factory=WrittenEnd, description=f"the other end: {_END}")
    tagged: TaggedForm = Field(default_factory=TaggedForm)
    note: str = ""


# The warnings that are about one signature.
ALLOWABLE = ("S101", "S102")


def _allowable(code: str) -> str:
    if code not in ALLOWABLE:
        raise ValueError(f"what can be allowed are the warnings {' and '.join(ALLOWABLE)}")
    return code


class SignatureForm(_Form):
    """One YAML document of a signature file."""

    id: Annotated[str, AfterValidator(_dotted)] = Field(
        max_length=100,
        description="dotted, unique, never reused: what logs, metrics and bans name",
        json_schema_extra={"pattern": _ID},
    )
    rev: int = Field(1, ge=1, description="raise it with every change")
    title: str = Field(min_length=1, max_length=200, description="one line for people")
    certainty: Certainty = Field(
        "certain",
        description="certain: nothing else looks like it; likely: hardly anything else does; "
        "guess: other protocols do. The detection profile chooses among them",
    )
    status: Literal["experimental", "stable", "deprecated"] = "stable"
    description: str = Field("", description="prose")
    refs: list[str] = Field([], description="where the protocol is described: BEP-3, RFC 8446")
    enabled: bool = Field(
        True, description="false: read, compiled and tested with the others, but judges no packet"
    )
    scope: Scope
    patterns: str = Field("", description="named patterns, in a literal block")
    when: str = Field(description="the condition, in a literal block")
    prefilter: Literal["none"] | None = Field(
        None, description="none: run on every packet, because no bytes can be matched first"
    )
    allow: list[
        Annotated[str, AfterValidator(_allowable), Field(json_schema_extra={"enum": [*ALLOWABLE]})]
    ] = Field([], description="warnings of `check` that are meant to be: S102")
    then: Then
    tests: list[TestForm] = Field(
        description="payloads that must match, and look-alikes that must not: one of each at least"
    )

"""Labelled captures: reads the manifest that says which flows are BitTorrent, and scores.

A manifest is one JSON array with an object for each capture. Fields used here:

- `file`: the capture, relative to the manifest's folder;
- `class`: what sort of file it is; false positives are counted by it;
- `bt_flows`: the flows that are BitTorrent, each with `proto` ("tcp" or "udp"), `a` and
  `b` ("ip:port", IPv6 as "[ip]:port", in any order), `kind`, and `scope`;
- `arguable`, `synthetic`: true where the label can be disputed, or where the bytes come
  from a generator that no real program is; false positives there are counted apart.

Every flow that is not listed is a negative. Only flows of scope `protocol` (also the
default) count as found or missed; the other scopes are reported apart, and a
detection there is neither a hit nor a false positive. Further fields are left alone.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from engine.errors import InputError

SCOPES: Final = ("protocol", "midstream", "opaque", "nopayload", "related", "arguable")


class FlowKey(NamedTuple):
    """A bidirectional flow; endpoints as "ip:port" or "[ip]:port", a < b as strings."""

    proto: str
    a: str
    b: str

    @classmethod
    def between(cls, proto: str, one: str, other: str) -> FlowKey:
        return cls(proto, one, other) if one < other else cls(proto, other, one)

    def __str__(self) -> str:
        return f"{self.proto} {self.a} - {self.b}"


@dataclass(frozen=True, slots=True)
class LabelledFlow:
    """A flow that is BitTorrent, or belongs to it."""

    key: FlowKey
    kind: str
    scope: str


@dataclass(frozen=True, slots=True)
class LabelledCapture:
    """One entry of a manifest."""

    file: str
    file_class: str
    disputed: bool
    """Marked arguable or synthetic."""
    flows: Mapping[FlowKey, LabelledFlow]


class Manifest:
    """The labels of a collection of captures, found by the captures' place on disk."""

    def __init__(self, path: Path) -> None:
        """Raise InputError for a file that cannot be read or breaks the format."""
        try:
            text = path.read_text("utf-8")
        except OSError as err:
            raise InputError(f"{path}: cannot read: {err.strerror}") from err
        except UnicodeDecodeError as err:
            raise InputError(f"{path}: not UTF-8 text (byte {err.start})") from err
        self.path = path
        self._captures: dict[Path, LabelledCapture] = {}
        for number, capture in enumerate(parse_manifest(text, str(path))):
            place = (path.parent / capture.file).resolve()
            if place in self._captures:
                _fail(str(path), number, "file", "each file once", capture.file)
            self._captures[place] = capture

    def labels_of(self, capture: Path) -> LabelledCapture:
        """Raise InputError for a capture that the manifest does not name."""
        labels = self._captures.get(capture.resolve())
        if labels is None:
            raise InputError(f"{capture}: no entry in {self.path} names this capture")
        return labels


def parse_manifest(text: str, name: str) -> list[LabelledCapture]:
    """Read a manifest's text; raises InputError with `name`, the entry and the field."""
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as err:
        raise InputError(
            f"{name}: not JSON: {err.msg} in line {err.lineno}, column {err.colno}"
        ) from err
    except (RecursionError, ValueError) as err:  # too deep, or a number of too many digits
        raise InputError(f"{name}: not a manifest: {err}") from err
    if not isinstance(entries, list):
        raise InputError(f"{name}: not a manifest: expected a JSON array of captures")
    return [_capture(entry, name, number) for number, entry in enumerate(entries)]


def _fail(name: str, entry: int, field: str, expected: str, found: object) -> NoReturn:
    shown = "nothing" if found is _ABSENT else json.dumps(found)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    where = f"{name}: entry {entry}" + (f", {field}" if field else "")
    raise InputError(f"{where}: expected {expected}, found {shown}")


_ABSENT: Final = object()


def _capture(entry: Any, name: str, number: int) -> LabelledCapture:
    if not isinstance(entry, dict):
        _fail(name, number, "", "an object", entry)
    disputed = False
    for field in ("arguable", "synthetic"):
        value = entry.get(field, False)
        if not isinstance(value, bool):
            _fail(name, number, field, "true or false", value)
        disputed |= value
    listed = entry.get("bt_flows", _ABSENT)
    if not isinstance(listed, list):
        _fail(name, number, "bt_flows", "a list of flows", listed)
    flows: dict[FlowKey, LabelledFlow] = {}
    for index, item in enumerate(listed):
        field = f"bt_flows[{index}]"
        flow = _flow(item, name, number, field)
        if flow.key in flows:
            _fail(name, number, field, "each flow once", str(flow.key))
        flows[flow.key] = flow
    return LabelledCapture(
        file=_text(entry, "file", name, number),
        file_class=_text(entry, "class", name, number),
        disputed=disputed,
        flows=flows,
    )


def _flow(item: Any, name: str, number: int, field: str) -> LabelledFlow:
    if not isinstance(item, dict):
        _fail(name, number, field, "an object", item)
    proto = item.get("proto", _ABSENT)
    if proto not in ("tcp", "udp"):
        _fail(name, number, f"{field}.proto", '"tcp" or "udp"', proto)
    scope = item.get("scope", "protocol")
    if scope not in SCOPES:
        _fail(name, number, f"{field}.scope", f"one of {', '.join(SCOPES)}", scope)
    ends = []
    for end in ("a", "b"):
        value = item.get(end, _ABSENT)
        endpoint = _endpoint(value) if isinstance(value, str) else None
        if endpoint is None:
            _fail(name, number, f"{field}.{end}", '"ip:port" or "[ipv6]:port"', value)
        ends.append(endpoint)
    kind = _text(item, "kind", name, number, f"{field}.")
    return LabelledFlow(FlowKey.between(proto, ends[0], ends[1]), kind, scope)


def _text(entry: dict[str, Any], field: str, name: str, number: int, prefix: str = "") -> str:
    value = entry.get(field, _ABSENT)
    if not isinstance(value, str) or not value or "\0" in value:
        _fail(name, number, prefix + field, "a text that is not empty", value)
    return value


def _endpoint(text: str) -> str | None:
    """The endpoint in its canonical form (RFC 5952), or None."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 65536):
        return None
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        return None
    if (address.version == 6) is not bracketed:
        return None
    return f"[{address}]:{int(port)}" if bracketed else f"{address}:{int(port)}"


@dataclass(slots=True)
class Tally:
    """How many of some flows were detected."""

    flows: int = 0
    detected: int = 0

    def count(self, detected: bool) -> None:
        self.flows += 1
        self.detected += detected


@dataclass(frozen=True, slots=True)
class CaptureScore:
    """One capture against its labels."""

    labels: LabelledCapture
    found: tuple[LabelledFlow, ...]
    missed: tuple[LabelledFlow, ...]
    """Of scope `protocol`, and not detected or not even in the capture."""
    apart: tuple[tuple[LabelledFlow, bool], ...]
    """Of another scope, and whether it was detected."""
    false_positives: tuple[FlowKey, ...]
    negatives: int
    """Flows in the capture that are not listed, detected or not."""

    @property
    def holds(self) -> bool:
        return not self.missed and (self.labels.disputed or not self.false_positives)


def score_capture(labels: LabelledCapture, detected: Mapping[FlowKey, bool]) -> CaptureScore:
    """Score the flows of one capture; `detected` has every flow that is in it."""
    found, missed, apart = [], [], []
    for key, flow in labels.flows.items():
        hit = detected.get(key, False)
        if flow.scope != "protocol":
            apart.append((flow, hit))
        elif hit:
            found.append(flow)
        else:
            missed.append(flow)
    negatives = [key for key in detected if key not in labels.flows]
    return CaptureScore(
        labels=labels,
        found=tuple(found),
        missed=tuple(missed),
        apart=tuple(apart),
        false_positives=tuple(key for key in negatives if detected[key]),
        negatives=len(negatives),
    )


@dataclass(frozen=True, slots=True)
class Score:
    """The sums over captures, each keyed by what it is counted for."""

    kinds: Mapping[str, Tally]
    """Flows of scope `protocol`, by kind."""
    apart: Mapping[tuple[str, str], Tally]
    """Flows of other scopes, by (scope, kind)."""
    classes: Mapping[str, Tally]
    """Negative flows of undisputed captures, by the captures' class."""
    disputed: Mapping[str, Tally]
    """Negative flows of captures marked arguable or synthetic, by file."""

    @property
    def missed(self) -> int:
        return sum(tally.flows - tally.detected for tally in self.kinds.values())

    @property
    def false_positives(self) -> int:
        return sum(tally.detected for tally in self.classes.values())

    @property
    def holds(self) -> bool:
        return not self.missed and not self.false_positives

    def as_json(self) -> dict[str, Any]:
        def tallies(table: Mapping[str, Tally]) -> dict[str, dict[str, int]]:
            return {
                name: {"flows": tally.flows, "detected": tally.detected}
                for name, tally in table.items()
            }

        return {
            "missed": self.missed,
            "false_positives": self.false_positives,
            "kinds": tallies(self.kinds),
            "apart": tallies({" ".join(key): tally for key, tally in self.apart.items()}),
            "classes": tallies(self.classes),
            "disputed": tallies(self.disputed),
        }


def total(captures: Iterable[CaptureScore]) -> Score:
    """Add up; every table is sorted by its key."""
    kinds: dict[str, Tally] = {}
    apart: dict[tuple[str, str], Tally] = {}
    classes: dict[str, Tally] = {}
    disputed: dict[str, Tally] = {}
    for capture in captures:
        for flow in capture.found:
            kinds.setdefault(flow.kind, Tally()).count(True)
        for flow in capture.missed:
            kinds.setdefault(flow.kind, Tally()).count(False)
        for flow, hit in capture.apart:
            apart.setdefault((flow.scope, flow.kind), Tally()).count(hit)
        labels = capture.labels
        table, name = (disputed, labels.file) if labels.disputed else (classes, labels.file_class)
        tally = table.setdefault(name, Tally())
        tally.flows += capture.negatives
        tally.detected += len(capture.false_positives)
    return Score(
        kinds=dict(sorted(kinds.items())),
        apart=dict(sorted(apart.items())),
        classes=dict(sorted(classes.items())),
        disputed=dict(sorted(disputed.items())),
    )

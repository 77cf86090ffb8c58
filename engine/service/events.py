"""What was detected, told to people (the log) and to programs (JSON lines)."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from engine.errors import InputError
from engine.inspect.inspector import Detection
from engine.language.form import STOPPING, Action

_log = logging.getLogger(__name__)

_CONSEQUENCE: dict[Action, str] = {
    "block": "dropped",
    "drop": "dropped",
    "log": "only logged",
    "tag": "tagged",
}


class Events:
    """Counts and reports detections; `detection_log` is appended to, a JSON object a line."""

    def __init__(self, detection_log: Path | None, *, monitor_only: bool) -> None:
        """Open the detection log. Raises InputError when it cannot be written."""
        self.by_signature: Counter[str] = Counter()
        self._monitor_only = monitor_only
        self._failed = False
        try:
            # Line by line, so that a reader sees each detection at once.
            self._file = detection_log.open("a", buffering=1) if detection_log else None
        except OSError as error:
            raise InputError(f"cannot write the detection log: {error}") from error

    def detected(self, detection: Detection, addresses: Sequence[str]) -> None:
        """Report one detection and the addresses or endpoints it has banned.

        One that only sets a tag is counted, and told at the level DEBUG alone. One that is
        repeated is told, but counted already.
        """
        self.by_signature[detection.signature] += not detection.repeated
        consequence = _CONSEQUENCE[detection.action]
        if self._monitor_only and detection.action in STOPPING:
            consequence = f"not enforced (monitor only, action {detection.action})"
        elif addresses:
            consequence += f", banned {', '.join(addresses)}"
        where = (
            "in the driver"
            if detection.in_driver
            else f"packet {detection.flow_packet} of the flow"
        )
        only_tagged = detection.action == "tag"
        _log.log(
            logging.DEBUG if only_tagged else logging.INFO,
            "%s: %s %s -> %s%s, %s: %s",
            detection.signature,
            detection.transport,
            detection.source,
            detection.destination,
            " inside a tunnel" if detection.tunnelled else "",
            where,
            consequence,
        )
        if self._file is not None and not only_tagged:
            self._append(detection, addresses)

    def close(self) -> None:
        """Close the detection log."""
        if self._file is not None:
            self._file.close()

    def _append(self, detection: Detection, addresses: Sequence[str]) -> None:
        line = json.dumps(
            {
                "time": round(time.time(), 6),
                "signature": detection.signature,
                "rev": detection.rev,
                "action": detection.action,
                "transport": detection.transport,
                "source": str(detection.source),
                "destination": str(detection.destination),
                "flow_packet": detection.flow_packet,
                "payload_packet": detection.payload_packet,
                "tunnelled": detection.tunnelled,
                "in_driver": detection.in_driver,
                "monitor_only": self._monitor_only,
                "banned": list(addresses),
                "repeated": detection.repeated,
            }
        )
        try:
            assert self._file is not None
            self._file.write(line + "\n")
            self._failed = False
        except OSError as error:  # a full disk must not stop the inspection
            if not self._failed:
                _log.error("the detection log cannot be written: %s", error)
            self._failed = True

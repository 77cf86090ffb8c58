"""`python -m tools.bench [PART...]`: parses, lets the parts measure, prints."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress

from engine.errors import BtblockerError
from tools.bench import (
    ban,
    bulk,
    captures,
    connections,
    latency,
    memory,
    queue,
    signatures,
    xdp,
)
from tools.bench.options import Options, parse
from tools.bench.result import Result

# A new part is one more line here.
PARTS: Mapping[str, Callable[[Options, Progress], Result]] = {
    "queue": queue.measure,
    "bulk": bulk.measure,
    "connections": connections.measure,
    "latency": latency.measure,
    "ban": ban.measure,
    "xdp": xdp.measure,
    "memory": memory.measure,
    "captures": captures.measure,
    "signatures": signatures.measure,
    "many": queue.measure_many_signatures,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = parse(arguments, list(PARTS))
        results = _measure(options)
    except BtblockerError as err:
        print(f"bench: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        return 130
    if options.json:
        machine = {"kernel": platform.release(), "processors": os.cpu_count()}
        print(json.dumps(machine | results, default=_fields, indent=2))
    else:
        # A file or a pipe has no width: take what the longest rows need.
        console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
        for result in results.values():
            for table in result.tables():
                console.print(table)
    return 0


def _measure(options: Options) -> dict[str, Result]:
    results = {}
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        for name, measure in PARTS.items():
            if not options.parts or name in options.parts:
                results[name] = measure(options, progress)
    return results


def _fields(result: Any) -> dict[str, Any]:
    return dataclasses.asdict(result)


if __name__ == "__main__":
    sys.exit(main())

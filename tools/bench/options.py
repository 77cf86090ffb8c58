"""What a run of the benchmark is told on its command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from engine.errors import InputError


@dataclass(frozen=True, slots=True)
class Options:
    """How much each part measures; a part reads what concerns it."""

    parts: tuple[str, ...]
    json: bool
    runs: int
    seconds: int
    flows: int
    pings: int
    signatures: int
    concurrency: int
    bans: int
    remembered: int
    seen: int
    packets: int
    captures: Path | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see bench --help)")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"not a whole number above 0: {text!r}")
    return int(text)


def parse(arguments: Sequence[str] | None, parts: Sequence[str]) -> Options:
    """Read the command line; `parts` are those there are. Raises InputError."""
    parser = _Parser(prog="bench", description="Measure btblocker on this machine.")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)} (default: all)"
    )

    def add(flag: str, default: int, what: str) -> None:
        parser.add_argument(
            flag, type=_count, default=default, metavar="N", help=f"{what} (%(default)s)"
        )

    add("--runs", 5, "of each figure")
    add("--seconds", 3, "a run lasts, where it lasts a time")
    add("--flows", 64, "queue: flows that the packets belong to")
    add("--pings", 2000, "latency: packets in a run")
    add("--signatures", 10_000, "signatures: how many are generated")
    add("--concurrency", 64, "connections: how many are open at once")
    add("--bans", 1000, "ban: addresses that get banned in a run")
    add("--remembered", 100_000, "memory: flows to divide by")
    add("--seen", 1_000_000, "memory: flows in a minute")
    add("--packets", 1_000_000, "captures: packets in those that are written")
    parser.add_argument(
        "--captures",
        type=Path,
        metavar="DIR",
        help="captures: a folder of them (default: some are written)",
    )
    parser.add_argument("--json", action="store_true", help="figures of every run, as JSON")
    options = Options(**vars(parser.parse_args(arguments)))
    for part in options.parts:
        if part not in parts:
            raise InputError(f"no such part: {part!r} (there are {', '.join(parts)})")
    return options

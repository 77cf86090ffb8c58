"""`python -m tools.lab list | run CASE... | demo | clean`: parses, calls, prints."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from engine.errors import BtblockerError, InputError, UnavailableError
from tools.lab.cases import CASES, DEMO_CASES, TESTED_CASES, select_cases
from tools.lab.demo import DEFAULT_AT_ONCE, DEFAULT_OBSERVE_S, run_demo
from tools.lab.leftovers import remove_dead
from tools.lab.torrent import BLOCK_BYTES
from tools.lab.trial import DEFAULT_SIZE_B, LATE_SIZE_B, Outcome, Result, Trial

_LARGEST_B = 1 << 30
_MOST_TOGETHER = 32
_INTERRUPTED = 130  # as a shell reports SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when all was as expected, 1 when not, 2 for a wrong word."""
    arguments = _parser().parse_args(argv)
    # A service manager's or a CI runner's way to say Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments.command == "list":
            return _list(as_json=arguments.json)
        if os.geteuid() != 0:
            raise UnavailableError("lab: making network namespaces needs root: try sudo")
        if arguments.command == "clean":
            return _clean()
        if arguments.command == "run":
            return _run(arguments)
        names = TESTED_CASES if arguments.all else arguments.cases or DEMO_CASES
        as_expected = run_demo(
            select_cases(names),
            observe_s=arguments.observe,
            at_once=arguments.jobs,
            as_json=arguments.json,
        )
        return 0 if as_expected else 1
    except BtblockerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("lab: interrupted; everything is removed", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.lab",
        description="Real BitTorrent clients in network namespaces, with and without btblocker.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    listing = commands.add_parser("list", help="show the cases")
    listing.add_argument("--json", action="store_true")

    run = commands.add_parser(
        "run", help="try cases, all at once through one router; without and then with the blocker"
    )
    run.add_argument("cases", nargs="*", metavar="CASE", help="as in `list`")
    side = run.add_mutually_exclusive_group()
    side.add_argument("--without", action="store_true", help="only without the blocker")
    side.add_argument("--with", dest="blocked", action="store_true", help="only with the blocker")
    run.add_argument(
        "--late", action="store_true", help="the blocker begins in the middle of a slow transfer"
    )
    run.add_argument(
        "--ordinary", action="store_true", help="ordinary traffic beside them: HTTP, SSH, QUIC ..."
    )
    run.add_argument(
        "--observe", type=_seconds, default=30.0, metavar="S", help="seconds with the blocker (30)"
    )
    run.add_argument(
        "--size", type=_size, metavar="BYTES", help="of the torrent (2 MiB; 16 MiB with --late)"
    )
    run.add_argument(
        "--pcap", type=Path, metavar="FILE", help="capture at the router's inner side (one case)"
    )
    run.add_argument("--logs", type=Path, metavar="DIR", help="leave the programs' logs here")
    run.add_argument("--json", action="store_true")

    demo = commands.add_parser("demo", help="try cases without and with the blocker: a table")
    demo.add_argument(
        "--cases", type=_names, metavar="A,B", help="only these, instead of one of each kind"
    )
    demo.add_argument("--all", action="store_true", help="all that the tests try (some minutes)")
    demo.add_argument(
        "--observe",
        type=_seconds,
        default=DEFAULT_OBSERVE_S,
        metavar="S",
        help=f"seconds with the blocker ({DEFAULT_OBSERVE_S:.0f})",
    )
    demo.add_argument(
        "--jobs",
        type=_jobs,
        default=DEFAULT_AT_ONCE,
        metavar="N",
        help="routers at once, with 6 cases each (%(default)s)",
    )
    demo.add_argument("--json", action="store_true")

    commands.add_parser("clean", help="remove what labs left that were killed (SIGKILL)")
    return parser


def _names(text: str) -> list[str]:
    return text.split(",")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: between 0 and 3600 seconds, please")
    return value


def _size(text: str) -> int:
    value = int(text)
    if not BLOCK_BYTES <= value <= _LARGEST_B:
        raise argparse.ArgumentTypeError(f"{text}: between 16 KiB and 1 GiB, please")
    return value


def _jobs(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError(f"{text}: between 1 and 64, please")
    return value


def _list(*, as_json: bool) -> int:
    if as_json:
        cases = [{"name": case.name, **dataclasses.asdict(case)} for case in CASES.values()]
        print(json.dumps(cases, indent=2))
        return 0
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("case", "downloader", "mode", "finds the seed", "IP", "begins with", "seed"):
        table.add_column(heading, no_wrap=True)
    for case in CASES.values():
        port = f" on port {case.seed_port}" if case.seed_port else ""
        begins_with = "magnet link" if case.magnet else "metainfo"
        table.add_row(
            *(case.name, case.downloader, case.mode, case.discovery, f"IPv{case.family}"),
            *(f"{begins_with} v{case.version}".replace("vhybrid", "v1+v2"), case.seed + port),
        )
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    return 0


def _clean() -> int:
    for path in remove_dead():
        print(path)
    return 0


def _run(arguments: argparse.Namespace) -> int:
    cases = tuple(select_cases(arguments.cases))
    sides = [False] if arguments.without else [True] if arguments.blocked else [False, True]
    if arguments.late and not arguments.blocked:
        raise InputError("lab: --late is about the blocker: add --with")
    if not cases and not arguments.ordinary:
        raise InputError("lab: run what? Name cases of `list`, or add --ordinary")
    if len(cases) > _MOST_TOGETHER:
        raise InputError(f"lab: {len(cases)} cases are too many for one router: {_MOST_TOGETHER}")
    if arguments.pcap and (len(sides) > 1 or len(cases) != 1):
        raise InputError("lab: --pcap holds one trial of one case: add --without or --with")
    if arguments.pcap and not arguments.pcap.resolve().parent.is_dir():
        raise InputError(f"lab: {arguments.pcap}: no such folder to write to")
    as_expected = True
    for blocked in sides:
        result = Trial(
            cases,
            blocked=blocked,
            observe_s=arguments.observe,
            size=arguments.size or (LATE_SIZE_B if arguments.late else DEFAULT_SIZE_B),
            late=arguments.late,
            ordinary=arguments.ordinary,
            pcap=arguments.pcap and arguments.pcap.resolve(),
            logs=arguments.logs,
        ).run()
        as_expected &= result.as_expected
        if arguments.json:
            print(json.dumps(dataclasses.asdict(result)), flush=True)
        else:
            print("\n".join(_sentences(result)), flush=True)
    return 0 if as_expected else 1


def _sentences(result: Result) -> list[str]:
    lines = [_sentence(outcome) for outcome in result.outcomes]
    lines += [
        f"{usage.service}: {usage.uses - usage.failures} of {usage.uses} whole {usage.error}"
        for usage in result.ordinary
    ]
    lines += [
        f"accused: {each.signature} {each.source} {each.destination}" for each in result.accused
    ]
    if result.counters:
        lines.append(
            f"dropped by NFQUEUE {result.counters.queue_dropped}, "
            f"by XDP {result.counters.xdp_dropped}"
        )
    return lines


def _sentence(outcome: Outcome) -> str:
    side = "with" if outcome.blocked else "without"
    if outcome.error:
        return f"{outcome.case} {side} blocker: {outcome.error}"
    text = f"{outcome.case} {side} blocker: {outcome.bytes:,} of {outcome.size:,} bytes "
    text += f"in {outcome.seconds:.1f} s"
    if outcome.learned is not None:
        text += f", {outcome.learned} answers from discovery"
    for detection in outcome.detections[:5]:
        text += (
            f"\n  {detection.signature}: packet {detection.flow_packet} of {detection.source}"
            f" -> {detection.destination}, banned {', '.join(detection.banned) or 'nobody'}"
        )
    if len(outcome.detections) > 5:
        text += f"\n  and {len(outcome.detections) - 5} detections more"
    return text


if __name__ == "__main__":
    sys.exit(main())

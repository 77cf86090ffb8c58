"""`python -m tools.lab list | run CASE | demo`: parses, calls, prints."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.errors import BtblockerError, InputError, UnavailableError
from tools.lab.cases import CASES, select_cases
from tools.lab.demo import DEFAULT_AT_ONCE, DEFAULT_OBSERVE_S, run_demo
from tools.lab.torrent import BLOCK_BYTES
from tools.lab.trial import DEFAULT_SIZE_B, Outcome, Trial

_LARGEST_B = 1 << 30
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
        if arguments.command == "run":
            return _run(arguments)
        as_expected = run_demo(
            select_cases(arguments.cases.split(",") if arguments.cases else []),
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

    run = commands.add_parser("run", help="try one case; without and then with the blocker")
    run.add_argument("case", metavar="CASE", help="one of `list`")
    side = run.add_mutually_exclusive_group()
    side.add_argument("--without", action="store_true", help="only without the blocker")
    side.add_argument("--with", dest="blocked", action="store_true", help="only with the blocker")
    run.add_argument(
        "--observe", type=_seconds, default=30.0, metavar="S", help="seconds with the blocker (30)"
    )
    run.add_argument(
        "--size", type=_size, default=DEFAULT_SIZE_B, metavar="BYTES", help="of the torrent (2 MiB)"
    )
    run.add_argument("--pcap", type=Path, metavar="FILE", help="capture at the router's inner side")
    run.add_argument("--logs", type=Path, metavar="DIR", help="leave the programs' logs here")
    run.add_argument("--json", action="store_true")

    demo = commands.add_parser("demo", help="try the cases without and with the blocker: a table")
    demo.add_argument("--cases", metavar="A,B", help="only these")
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
        help="trials at once (%(default)s)",
    )
    demo.add_argument("--json", action="store_true")
    return parser


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
        print(json.dumps([dataclasses.asdict(case) for case in CASES.values()], indent=2))
        return 0
    for case in CASES.values():
        print(
            f"{case.name:26} {case.discovery:13} IPv{case.family} {case.mode:9} "
            f"{case.downloader} from {case.seed}"
        )
    return 0


def _run(arguments: argparse.Namespace) -> int:
    (case,) = select_cases([arguments.case])
    sides = [False] if arguments.without else [True] if arguments.blocked else [False, True]
    if arguments.pcap and len(sides) > 1:
        raise InputError("lab: --pcap holds one trial: add --without or --with")
    if arguments.pcap and not arguments.pcap.resolve().parent.is_dir():
        raise InputError(f"lab: {arguments.pcap}: no such folder to write to")
    outcomes = []
    for blocked in sides:
        trial = Trial(
            case,
            blocked=blocked,
            observe_s=arguments.observe,
            size=arguments.size,
            pcap=arguments.pcap and arguments.pcap.resolve(),
            logs=arguments.logs,
        )
        outcomes.append(trial.run())
        if arguments.json:
            print(json.dumps(dataclasses.asdict(outcomes[-1])), flush=True)
        else:
            print(_sentence(outcomes[-1]), flush=True)
    return 0 if all(outcome.as_expected for outcome in outcomes) else 1


def _sentence(outcome: Outcome) -> str:
    side = "with" if outcome.blocked else "without"
    text = f"{outcome.case} {side} blocker: {outcome.bytes:,} of {outcome.size:,} bytes "
    text += f"in {outcome.seconds:.1f} s"
    if outcome.learned is not None:
        text += f", {outcome.learned} answers from discovery"
    if outcome.report:
        for detection in outcome.report.detections[:5]:
            text += (
                f"\n  {detection.signature}: packet {detection.flow_packet} of {detection.source}"
                f" -> {detection.destination}, banned {', '.join(detection.banned) or 'nobody'}"
            )
        text += (
            f"\n  dropped by NFQUEUE {outcome.report.queue_dropped}, by XDP "
            f"{outcome.report.xdp_dropped}; {len(outcome.report.detections)} detections"
        )
    return text


if __name__ == "__main__":
    sys.exit(main())

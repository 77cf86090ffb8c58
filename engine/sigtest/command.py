"""The command line of `tools/sigtest`.

Exit codes: 0 when every expectation holds (the signatures' own tests; with --truth
also no flow missed and none detected falsely; with --diff no verdict changed), 1 when
one fails, 2 on bad input. A capture that is damaged does not keep the others from
being tried.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import FrameType
from typing import NoReturn

from engine.certainty import DEFAULT_PROFILE, PROFILES
from engine.errors import BtblockerError, InputError, UnavailableError
from engine.paths import shipped_signatures
from engine.sigtest import differences, explaining, listing
from engine.trial import usable_processors


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"not a number of processes: {text!r}")
    return int(text)


def command_line(name: str) -> argparse.ArgumentParser:
    """The parser, for a command that is called by `name`."""
    parser = _Parser(prog=name, description="Try the signatures on captures.")
    parser.add_argument(
        "captures",
        metavar="CAPTURE",
        nargs="+",
        type=Path,
        help="pcap or pcapng, plain or gzip; a folder means all captures in it",
    )
    parser.add_argument(
        "--signatures",
        metavar="PATH",
        type=Path,
        default=shipped_signatures(),
        help="a folder or a file, instead of the signatures that btblocker ships",
    )
    parser.add_argument(
        "--detection-profile",
        choices=PROFILES,
        default=DEFAULT_PROFILE,
        help="how sure signatures must be to judge packets (default: %(default)s)",
    )
    parser.add_argument(
        "--all", action="store_true", help="with the signatures that are switched off, too"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a flow, then the summary"
    )
    parser.add_argument(
        "-j",
        dest="processes",
        metavar="N",
        type=_positive,
        default=usable_processors(),
        help="processes (default: one for each processor, %(default)s)",
    )
    _add_trial(parser)
    explain = parser.add_argument_group("why a signature matched, or did not")
    explain.add_argument(
        "--explain",
        action="store_true",
        help="show each term of the conditions with its value, flow by flow",
    )
    explain.add_argument(
        "--flow",
        metavar="A[-B]",
        help="the flows between two endpoints, or those of one: 10.0.0.1:40000-10.0.0.2:51413, "
        "[2001:db8::1]:40000, 10.0.0.1 "
        f"(default: the first {explaining.MAX_FLOWS} of each capture)",
    )
    explain.add_argument(
        "--signature", metavar="ID", action="append", help="this one only; may be given again"
    )
    parser.add_argument_group("what a change of signatures does").add_argument(
        "--diff",
        metavar=("OLD", "NEW"),
        nargs=2,
        type=Path,
        help="show the flows that two signature folders judge differently",
    )
    return parser


def _add_trial(parser: argparse.ArgumentParser) -> None:
    trial = parser.add_argument_group("what the signatures find")
    trial.add_argument(
        "--truth",
        metavar="MANIFEST",
        type=Path,
        help="labels of the captures: score the verdicts against them",
    )
    trial.add_argument(
        "--coverage",
        action="store_true",
        help="for each signature, the tests of its own and the flows that it was found in",
    )
    trial.add_argument(
        "--isolate-flows",
        action="store_true",
        help="judge each flow as if there were no other: what is found without tags",
    )
    trial.add_argument(
        "--profile", action="store_true", help="for each signature, what it costs to ask it"
    )


def main(arguments: Sequence[str] | None = None, *, name: str = "sigtest") -> int:
    """Run the command, which is called by `name`; returns the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = _run(command_line(name).parse_args(arguments))
        sys.stdout.flush()
    except BtblockerError as err:
        print(f"{name}: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _stop(signal_number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal_number)


def _run(options: argparse.Namespace) -> int:
    _refuse_what_does_not_go_together(options)
    try:
        if options.diff:
            return differences.run(options)
        if options.explain:
            return explaining.run(options)
        return listing.run(options)
    except BrokenProcessPool as err:
        raise UnavailableError("a process that inspected captures was killed") from err


def _refuse_what_does_not_go_together(options: argparse.Namespace) -> None:
    names = ("truth", "coverage", "isolate_flows", "profile")
    trial = [name.replace("_", "-") for name in names if getattr(options, name)]
    modes = [name for name in ("explain", "diff") if getattr(options, name)]
    if len(modes) > 1 or (modes and trial):
        first, second, *_ = [*modes, *trial]
        raise InputError(f"--{first} and --{second} do not go together: run one after the other")
    for name in ("flow", "signature"):
        if getattr(options, name) and not options.explain:
            raise InputError(f"--{name} narrows --explain, which is not given")

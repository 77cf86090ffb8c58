"""The `btblocker` command: parses, calls, prints."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from engine.certainty import DEFAULT_PROFILE, PROFILES
from engine.compiler.driver import Placement, placements
from engine.compiler.ruleset import RuleSet
from engine.compiler.statistics import Statistics
from engine.config import ENVIRONMENT, Settings, load_settings
from engine.console.bans import add_ban_commands
from engine.console.doctor import add_doctor_command
from engine.console.rules import add_kernel_commands
from engine.console.status import status_page
from engine.console.top import show_top, stream_top
from engine.errors import BtblockerError
from engine.language.diagnostics import SignatureError, has_errors
from engine.language.schema import signature_schema_text
from engine.paths import shipped_signatures
from engine.selftest import self_test
from engine.service.control import ask
from engine.service.status import Status
from engine.signatures import load

EXIT_INTERRUPTED = 130

# Rich drops colours and fits no width when this is not a terminal.
_out = Console(highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 1: this machine cannot do it, or a check failed. 2: what was given is wrong.
    """
    options = command_line().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except BtblockerError as error:
        text = str(error) if isinstance(error, SignatureError) else f"btblocker: {error}"
        print(text, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `btblocker bans | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def command_line() -> argparse.ArgumentParser:
    """The parser; manual page and tab completion are made of it."""
    parser = argparse.ArgumentParser(
        prog="btblocker", description="Stops BitTorrent inline, with NFQUEUE and XDP."
    )
    version = importlib.metadata.version("btblocker")
    parser.add_argument("--version", action="version", version=f"btblocker {version}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_check(commands)
    _add_control(commands)
    add_kernel_commands(commands)
    add_doctor_command(commands)
    return parser


def _add_run(commands: Any) -> None:
    environment = ", ".join(ENVIRONMENT)
    run = commands.add_parser(
        "run",
        help="inspect packets and block BitTorrent",
        description="Inspect the packets of a queue and block BitTorrent, until stopped.",
        epilog="SIGHUP reloads the signatures; SIGTERM and SIGINT stop and clean up. "
        f"The environment can set: {environment}. Flags win over it, and it over the file.",
    )
    run.set_defaults(command=_run)

    def add(flag: str, name: str, **options: Any) -> None:
        field = Settings.model_fields[name]
        run.add_argument(flag, dest=name, help=field.description, **options)

    add("--interface", "interface", metavar="IF[,IF]")
    add("--queue-num", "queue_num", metavar="N")
    add("--workers", "workers", metavar="N")
    add("--max-flows", "max_flows", metavar="N")
    add("--signatures", "signatures", metavar="DIR")
    run.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    add("--detection-profile", "detection_profile", metavar="strict|balanced|plain")
    add("--fail-open", "fail_open", action=argparse.BooleanOptionalAction)
    add("--monitor-only", "monitor_only", action=argparse.BooleanOptionalAction)
    add("--xdp-mode", "xdp_mode", metavar="auto|native|generic|off")
    add("--keep-xdp", "keep_xdp", action=argparse.BooleanOptionalAction)
    add("--xdp-signatures", "xdp_signatures", action=argparse.BooleanOptionalAction)
    add("--manage-rules", "manage_rules", action=argparse.BooleanOptionalAction)
    add("--chain", "chain", metavar="INPUT,FORWARD,OUTPUT")
    add("--tunnels", "tunnels", action=argparse.BooleanOptionalAction)
    add("--defragment", "defragment", action=argparse.BooleanOptionalAction)
    add("--offload", "offload", action=argparse.BooleanOptionalAction)
    add("--offload-mark", "offload_mark", metavar="MASK")
    add("--offload-after", "offload_after", metavar="PACKETS")
    add("--reset", "reset", action=argparse.BooleanOptionalAction)
    add("--ban", "ban", metavar="source|remote|both|endpoint|none")
    add("--ban-duration", "ban_duration", metavar="SECONDS")
    add("--ban-growth", "ban_growth", metavar="N")
    add("--ban-duration-max", "ban_duration_max", metavar="SECONDS")
    add("--ban-memory", "ban_memory", metavar="SECONDS")
    add("--udp-bans", "udp_bans", metavar="immediate|confirmed")
    add("--home-networks", "home_networks", metavar="NET[,NET]")
    add("--allow", "allow", metavar="NET[,NET]")
    add("--state-directory", "state_directory", metavar="DIR")
    add("--cleanup-interval", "cleanup_interval", metavar="SECONDS")
    add("--log-level", "log_level", metavar="LEVEL")
    add("--event-log", "event_log", metavar="FILE|stdout|syslog[,...]")
    add("--detection-log", "detection_log", metavar="FILE")
    add("--detection-log-mb", "detection_log_mb", metavar="MIB")
    add("--log-limit", "log_limit", metavar="N")
    add("--log-limit-total", "log_limit_total", metavar="N")
    add("--metrics-listen", "metrics_listen", metavar="HOST:PORT")


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check", help="check signature files and run their tests", description=_check.__doc__
    )
    check.add_argument(
        "place",
        nargs="?",
        type=Path,
        default=shipped_signatures(),
        metavar="PATH",
        help="a folder, or one file in it (default: the signatures that btblocker ships)",
    )
    check.add_argument(
        "--detection-profile",
        choices=PROFILES,
        default=DEFAULT_PROFILE,
        help="how sure signatures must be to be in force (default: %(default)s)",
    )
    check.add_argument(
        "--json", action="store_true", help="diagnostics and statistics for editors and scripts"
    )
    check.add_argument(
        "--verbose", action="store_true", help="show what triggers and what decides each signature"
    )
    check.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of signature files instead"
    )
    check.set_defaults(command=_check)


def _add_control(commands: Any) -> None:
    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> Any:
        parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name != "metrics":  # they have a form of their own
            parser.add_argument("--json", action="store_true", help="answer in JSON")
        parser.add_argument(
            "--queue-num",
            type=int,
            default=os.environ.get("QUEUE_NUM", 0),
            metavar="N",
            help="which blocker, where several run (default: QUEUE_NUM, or 0)",
        )
        parser.set_defaults(command=command)
        return parser

    add("status", _status, "show what a running blocker does")
    top = add("top", _top, "show what it is doing, live")
    top.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="default: %(default)s"
    )
    add("metrics", _metrics, "print its metrics as Prometheus reads them")
    add_ban_commands(add)
    add("reload", _reload, "reload its signatures, as SIGHUP does")


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.1 <= (seconds := float(text)) <= 3600:
            return seconds
    raise argparse.ArgumentTypeError(f"a number of seconds from 0.1 to 3600, not {text!r}")


def _run(options: argparse.Namespace) -> int:
    flags = {name: getattr(options, name) for name in Settings.model_fields}

    def settings() -> Settings:
        return load_settings(options.config, os.environ, flags)

    from engine.service.daemon import Daemon
    from engine.service.logs import logging_to_stderr

    at_start = settings()
    with logging_to_stderr(at_start.log_level):
        Daemon(at_start, settings).run()
    return 0


def _check(options: argparse.Namespace) -> int:
    """Check a signature file, or all in a folder, and run the signatures' own tests."""
    if options.schema:
        print(signature_schema_text(), end="")
        return 0
    ruleset = None
    try:
        ruleset = load(options.place, profile=options.detection_profile)
        diagnostics = [*ruleset.warnings, *self_test(ruleset)]
    except SignatureError as error:
        diagnostics = list(error.diagnostics)
    failed = has_errors(diagnostics)
    placed = [] if ruleset is None else placements(ruleset.signatures)
    if options.json:
        found = {
            "diagnostics": [d.as_json() for d in diagnostics],
            "statistics": None if ruleset is None else ruleset.statistics.as_json(),
            "driver": [placement.as_json() for placement in placed],
        }
        print(json.dumps(found, indent=2))
    else:
        if diagnostics:
            print("\n\n".join(map(str, diagnostics)))
        if ruleset is not None and not failed:
            if options.verbose:
                print("\n".join(_signature_lines(ruleset.statistics, placed)))
            print(_summary(ruleset, placed))
    return 2 if ruleset is None else int(failed)


def _summary(ruleset: RuleSet, placed: Sequence[Placement]) -> str:
    facts = ruleset.statistics
    signatures = (*ruleset.signatures, *ruleset.disabled)
    off = f", {len(ruleset.disabled)} of them not in force" if ruleset.disabled else ""
    tests = sum(len(signature.tests) for signature in signatures)
    expressions = sum(bank.expressions for bank in facts.banks)
    in_driver = sum(placement.driver != "none" for placement in placed)
    return (
        f"{_many(len(signatures), 'signature')}{off}, {_many(tests, 'test')}: all well\n"
        f"{_many(expressions, 'expression')} in {facts.bytes / 1024:.0f} KiB; "
        f"decided by patterns alone: {len(facts.signatures) - facts.need_python}, "
        f"by Python after a trigger: {facts.need_python}"
        + (f"; in the driver, too, with --xdp-signatures: {in_driver}" if in_driver else "")
    )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _signature_lines(facts: Statistics, placed: Sequence[Placement]) -> Iterator[str]:
    in_driver = {placement.id: placement for placement in placed}
    for signature in facts.signatures:
        yield f"{signature.id}, on {signature.bank}s"
        yield f"    trigger ({signature.trigger_bits:.0f} bits): {signature.shown_trigger}"
        yield f"    Python: {', '.join(signature.python) or 'not needed'}"
        yield f"    driver: {in_driver[signature.id]}"


def _status(options: argparse.Namespace) -> int:
    status = _ask_status(options)
    if options.json:
        print(json.dumps(status, indent=2))
    else:
        _out.print(status_page(status), soft_wrap=True)
    return 0


def _top(options: argparse.Namespace) -> int:
    """Show what a running blocker is doing, again and again; once where this is no terminal."""

    def status() -> Status:
        return _ask_status(options)

    if options.json:
        stream_top(status, options.interval)
    else:
        show_top(status, _out, options.interval)
    return 0


def _metrics(options: argparse.Namespace) -> int:
    from prometheus_client import generate_latest

    from engine.service.metrics import registry

    print(generate_latest(registry(lambda: _ask_status(options))).decode(), end="")
    return 0


def _ask_status(options: argparse.Namespace) -> Status:
    return cast(Status, ask(options.queue_num, {"command": "status"}))


def _reload(options: argparse.Namespace) -> int:
    answer = ask(options.queue_num, {"command": "reload"})
    text = f"reloading {answer['reloading']}; the log and `status` tell how it went"
    print(json.dumps(answer, indent=2) if options.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

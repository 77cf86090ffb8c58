"""The `btblocker` command: parses, calls, prints."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.ban_commands import add_ban_commands
from engine.certainty import DEFAULT_PROFILE, PROFILES
from engine.compiler.driver import Placement, placements
from engine.compiler.ruleset import RuleSet
from engine.compiler.statistics import Statistics
from engine.config import ENVIRONMENT, Settings, load_settings
from engine.errors import BtblockerError
from engine.language.diagnostics import SignatureError, has_errors
from engine.language.schema import signature_schema_text
from engine.paths import shipped_signatures
from engine.selftest import self_test
from engine.service.control import ask
from engine.signatures import load

EXIT_INTERRUPTED = 130

# Rich drops colours and fits no width when this is not a terminal.
_out = Console(highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 1: this machine cannot do it, or a check failed. 2: what was given is wrong.
    """
    options = _parser().parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="btblocker", description="Stops BitTorrent inline, with NFQUEUE and XDP."
    )
    version = importlib.metadata.version("btblocker")
    parser.add_argument("--version", action="version", version=f"btblocker {version}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_check(commands)
    _add_control(commands)
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
    add("--signatures", "signatures", metavar="DIR")
    run.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    add("--detection-profile", "detection_profile", metavar="strict|balanced|plain")
    add("--fail-open", "fail_open", action=argparse.BooleanOptionalAction)
    add("--monitor-only", "monitor_only", action=argparse.BooleanOptionalAction)
    add("--xdp-mode", "xdp_mode", metavar="auto|native|generic|off")
    add("--xdp-signatures", "xdp_signatures", action=argparse.BooleanOptionalAction)
    add("--manage-rules", "manage_rules", action=argparse.BooleanOptionalAction)
    add("--chain", "chain", metavar="INPUT,FORWARD,OUTPUT")
    add("--tunnels", "tunnels", action=argparse.BooleanOptionalAction)
    add("--defragment", "defragment", action=argparse.BooleanOptionalAction)
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
    add("--detection-log", "detection_log", metavar="FILE")


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
        parser = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
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
    add_ban_commands(add)
    add("reload", _reload, "reload its signatures, as SIGHUP does")


def _run(options: argparse.Namespace) -> int:
    flags = {name: getattr(options, name) for name in Settings.model_fields}

    def settings() -> Settings:
        return load_settings(options.config, os.environ, flags)

    from engine.service.daemon import Daemon
    from engine.service.logs import set_up_logging

    at_start = settings()
    set_up_logging(at_start.log_level)
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
    return (
        f"{_many(len(signatures), 'signature')}{off}, {_many(tests, 'test')}: all well\n"
        f"{_many(expressions, 'expression')} in {facts.bytes / 1024:.0f} KiB; "
        f"decided by patterns alone: {len(facts.signatures) - facts.need_python}, "
        f"by Python after a trigger: {facts.need_python}, "
        f"with --xdp-signatures in the driver, too: {sum(p.driver != 'none' for p in placed)}"
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
    status = ask(options.queue_num, {"command": "status"})
    if options.json:
        print(json.dumps(status, indent=2))
        return 0
    queue, signatures, xdp = status["queue"], status["signatures"], status["xdp"]
    mode = " (monitor only: nothing is dropped)" if status["monitor_only"] else ""
    table = Table.grid(padding=(0, 2))
    table.add_row("running", f"pid {status['pid']}, {status['uptime_s']:.0f} s{mode}")
    table.add_row(
        "queue",
        f"{queue['number']}: {queue['packets']} packets, {queue['dropped']} dropped, "
        f"{queue['waiting']} waiting, "
        f"{queue['queue_dropped'] + queue['user_dropped']} lost, {queue['errors']} errors",
    )
    if xdp is None:
        table.add_row("XDP", "off")
    else:
        interfaces = ", ".join(f"{i['name']} ({i['mode']})" for i in xdp["interfaces"])
        dropped = sum(count for name, count in xdp.items() if name.startswith("dropped_"))
        in_driver = f", {len(xdp['signatures'])} signatures" if xdp["signatures"] else ""
        table.add_row("XDP", f"{interfaces}: {xdp['passed']} passed, {dropped} dropped{in_driver}")
    table.add_row(
        "signatures",
        f"{signatures['loaded']} from {signatures['folder']} ({signatures['profile']}), "
        f"{signatures['reloads']} reloads, "
        f"{signatures['failed_reloads']} refused",
    )
    bans, state = status["bans"], status["state"]
    table.add_row(
        "bans",
        f"{bans['active']} in force, {bans['remembered']} ended and remembered, "
        f"{_many(bans['allowed_networks'], 'network')} allowed",
    )
    table.add_row("state", state["problem"] or state["file"] or "not kept: no --state-directory")
    detections = status["detections"]
    table.add_row("detections", str(detections["total"]))
    for signature, count in sorted(detections["by_signature"].items()):
        table.add_row("", f"{count:>8}  {signature}")
    _out.print(table, soft_wrap=True)
    return 0


def _reload(options: argparse.Namespace) -> int:
    answer = ask(options.queue_num, {"command": "reload"})
    text = f"reloading {answer['reloading']}; the log and `status` tell how it went"
    print(json.dumps(answer) if options.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

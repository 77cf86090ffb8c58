"""The commands `bans`, `ban`, `unban` and `allow` of the command line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.errors import InputError
from engine.service.control import ask

# Of one request, so that packets need not wait for long.
_BATCH = 500
# A million bans are told in some ten seconds.
_LIST_TIMEOUT_S = 60.0

# Where there is no terminal, a line is as long as it is.
_out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)

# Adds a command that asks a running blocker: its name, its function, what it does.
AddCommand = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_ban_commands(add: AddCommand) -> None:
    """Add them to the command line."""
    bans = add("bans", _bans, "list who is banned")
    bans.add_argument(
        "--plain", action="store_true", help="addresses alone, one a line, as ban --file reads them"
    )

    ban = add("ban", _ban, "ban addresses by hand")
    ban.add_argument("address", nargs="*", help="an address, or an endpoint such as 10.8.0.7:6881")
    ban.add_argument(
        "--file",
        metavar="LIST",
        help="addresses from a file, or from - (standard input): one a line, or as bans --json",
    )
    ban.add_argument(
        "--duration", type=int, metavar="SECONDS", help="how long (default: BAN_DURATION)"
    )
    ban.add_argument("--reason", help="what `bans` shows (default: manual)")

    unban = add("unban", _unban, "lift the bans of addresses")
    unban.add_argument("address", nargs="+")

    allow = add("allow", _allow, "let all traffic of addresses or networks pass, or list those")
    allow.add_argument("network", nargs="*", help="an address, or a network such as 10.8.0.0/24")
    allow.add_argument("--remove", action="store_true", help="no longer")


def _bans(options: argparse.Namespace) -> int:
    answer = ask(options.queue_num, {"command": "bans"}, timeout_s=_LIST_TIMEOUT_S)
    bans: list[dict[str, Any]] = answer["bans"]
    if options.json:
        print(json.dumps(bans, indent=2))
        return 0
    if options.plain:
        for ban in bans:
            print(ban["address"])
        return 0
    columns = ("address", "reason", "since", "ends in", "offences", "dropped")
    table = Table(*columns, box=None, pad_edge=False)
    for ban in bans:
        table.add_row(
            ban["address"],
            ban["reason"],
            _moment(ban["last_seen"]),
            f"{ban['remaining_s']} s",
            str(ban["offences"]),
            f"{ban['packets']} packets, {ban['bytes']} bytes",
        )
    _out.print(table if bans else "nobody is banned", soft_wrap=True)
    return 0


def _ban(options: argparse.Namespace) -> int:
    wanted: list[dict[str, Any]] = [{"address": address} for address in options.address]
    if options.file is not None:
        wanted += _read_bans(options.file)
    if not wanted:
        raise InputError("ban whom? Give addresses, or --file LIST")
    for ban in wanted:
        if options.duration is not None:
            ban["duration_s"] = options.duration
        if options.reason is not None:
            ban["reason"] = options.reason
    banned: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for batch in _batches(wanted):
        answer = ask(options.queue_num, {"command": "ban", "bans": batch})
        banned += answer["banned"]
        refused += answer["refused"]
    if options.json:
        print(json.dumps({"banned": banned, "refused": refused}, indent=2))
    elif options.file is not None:
        print(f"{len(banned)} banned, {len(refused)} refused")
    else:
        for ban in banned:
            print(f"{ban['address']} is banned for {ban['remaining_s']} s")
    return _tell_refused(refused)


def _unban(options: argparse.Namespace) -> int:
    unbanned: list[str] = []
    refused: list[dict[str, Any]] = []
    for batch in _batches(options.address):
        answer = ask(options.queue_num, {"command": "unban", "addresses": batch})
        unbanned += answer["unbanned"]
        refused += answer["refused"]
    if options.json:
        print(json.dumps({"unbanned": unbanned, "refused": refused}, indent=2))
    else:
        for address in unbanned:
            print(f"{address} is no longer banned")
    return _tell_refused(refused)


def _allow(options: argparse.Namespace) -> int:
    if not options.network:
        if options.remove:
            raise InputError("allow --remove whom? `btblocker allow` lists what is allowed")
        return _list_allowed(options)
    command = "disallow" if options.remove else "allow"
    answer = ask(options.queue_num, {"command": command, "networks": options.network})
    if options.json:
        print(json.dumps(answer, indent=2))
        return 0
    if options.remove:
        print(f"no longer allowed: {', '.join(answer['disallowed'])}")
        return 0
    print(f"allowed: {', '.join(answer['allowed'])}; bans lifted: {answer['lifted']}")
    if answer["kept_in"] is None:
        print("This ends with the blocker: no state is kept (see --state-directory).")
    return 0


def _list_allowed(options: argparse.Namespace) -> int:
    allowed = ask(options.queue_num, {"command": "allowed"})["allowed"]
    if options.json:
        print(json.dumps(allowed, indent=2))
        return 0
    table = Table("network", "allowed by", box=None, pad_edge=False)
    for entry in allowed:
        since = entry["since"]
        origin = "the configuration" if since is None else f"hand, {_moment(since)}"
        table.add_row(entry["network"], origin)
    _out.print(table if allowed else "nothing is allowed specially", soft_wrap=True)
    return 0


def _tell_refused(refused: Sequence[dict[str, Any]]) -> int:
    for refusal in refused:
        print(f"btblocker: {refusal['why']}", file=sys.stderr)
    return int(bool(refused))


def _moment(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(items), _BATCH):
        yield items[first : first + _BATCH]


def _read_bans(file: str) -> list[dict[str, Any]]:
    """The bans of a list: addresses, one a line, or what `bans --json` has printed."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from error
    if not text.lstrip().startswith("["):
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        return [{"address": line} for line in lines if line]
    try:
        return [
            {
                "address": ban["address"],
                "duration_s": max(1, ban["remaining_s"]),
                "reason": ban["reason"],
            }
            for ban in json.loads(text)
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file} is not what bans --json prints: {error!r}") from error

"""The commands `rules` and `detach`: what a blocker puts into the kernel, with none running."""

from __future__ import annotations

import argparse
import json
from typing import Any

from engine.console.settings import RULE_SETTINGS, add_settings, settings_of
from engine.enforce.pins import Pins
from engine.enforce.redirect import redirect_for
from engine.service.control import while_none_runs


def add_kernel_commands(commands: Any) -> None:
    """Add them to the command line."""
    text = "print, apply or remove the iptables rules that hand packets to the queue"
    rules = commands.add_parser(
        "rules",
        help=text,
        description=f"{text.capitalize()}, with the same settings as `run`. What is in place "
        "already stays, what is not there need not be removed.",
    )
    rules.add_argument("what", choices=("print", "apply", "remove"))
    add_settings(rules, RULE_SETTINGS)
    rules.add_argument("--json", action="store_true", help="answer in JSON")
    rules.set_defaults(command=_rules)

    text = "remove what a blocker has left in the kernel: rules, XDP programs, pins"
    detach = commands.add_parser(
        "detach",
        help=text,
        description=f"{text.capitalize()}. Only while none runs on the queue; programs of others "
        "stay where they are.",
    )
    add_settings(detach, ("queue_num",))
    detach.add_argument("--json", action="store_true", help="answer in JSON")
    detach.set_defaults(command=_detach)


def _rules(options: argparse.Namespace) -> int:
    redirect = redirect_for(settings_of(options))
    if options.what == "print":
        rules = redirect.rules()
        print(json.dumps({"rules": rules}, indent=2) if options.json else "\n".join(rules))
        return 0
    if options.what == "apply":
        redirect.install()
        answer: dict[str, Any] = {"applied": redirect.rules()}
        text = "all rules are in place"
    else:
        removed = redirect.remove()
        answer = {"removed": removed}
        text = f"removed from {' and '.join(removed)}" if removed else "there were none"
    print(json.dumps(answer, indent=2) if options.json else text)
    return 0


def _detach(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    with while_none_runs(settings.queue_num):
        dropped = []
        try:
            dropped = Pins(settings.queue_num).drop_others()
        finally:
            ruled = redirect_for(settings).remove()
    if options.json:
        shown = [{"interface": place.interface, "hook": place.hook} for place in dropped]
        print(json.dumps({"xdp": shown, "rules": ruled}))
        return 0
    for place in dropped:
        print(f"XDP is off {place}")
    if ruled:
        print(f"the rules are removed from {' and '.join(ruled)}")
    if not dropped and not ruled:
        print(f"nothing of queue {settings.queue_num} was left")
    return 0

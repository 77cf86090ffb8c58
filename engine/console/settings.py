"""Settings of a blocker as flags of commands that run without one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from engine.config import Settings, load_settings

# What the queue's rules depend on, in the order of `--help`.
RULE_SETTINGS = (
    *("queue_num", "workers", "chain", "fail_open", "tunnels", "defragment"),
    *("offload", "offload_mark", "reset"),
)

_VALUES = {
    "chain": "INPUT,FORWARD,OUTPUT",
    "interface": "IF[,IF]",
    "offload_mark": "MASK",
    "queue_num": "N",
    "signatures": "DIR",
    "state_directory": "DIR",
    "workers": "N",
    "xdp_mode": "auto|native|generic|off",
}


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add flags for these settings, and for the file that all may come from."""
    for name in names:
        field = Settings.model_fields[name]
        flag = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=field.description)
        else:
            parser.add_argument(flag, metavar=_VALUES[name], help=field.description)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings from file, environment and flags, as `run` reads them. Raises InputError."""
    flags = {name: getattr(options, name, None) for name in Settings.model_fields}
    return load_settings(options.config, os.environ, flags)

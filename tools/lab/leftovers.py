"""What a lab has on the machine while it runs, by name; and removing it, also for the dead.

A lab removes everything itself, however it ends, except by SIGKILL or with the machine's
memory. So each name tells whose it is: `btb<pid>-`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

_NAMESPACES = Path("/run/netns")
_NETNS_FILES = Path("/etc/netns")
_WIREGUARD_SOCKETS = Path("/run/wireguard")
_FOLDER_PREFIX = "btblocker-lab-"
_COMMAND_TIMEOUT_S = 10.0
_serial = itertools.count(1)


def unique_name() -> str:
    """A name that no other lab on this machine has, and that tells this process."""
    return f"btb{os.getpid()}-{next(_serial)}"


def make_folder() -> Path:
    """A folder for a lab's files, likewise."""
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}btb{os.getpid()}-"))


def remove_namespace(name: str) -> None:
    """Remove a namespace, if it is there, with its files in /etc/netns, and end what runs in it."""
    if (_NAMESPACES / name).exists():
        _end_programs(name)
        subprocess.run(["ip", "netns", "delete", name], timeout=_COMMAND_TIMEOUT_S, check=True)
    shutil.rmtree(_NETNS_FILES / name, ignore_errors=True)
    with contextlib.suppress(OSError):  # other labs may have theirs there
        _NETNS_FILES.rmdir()


def remove_dead() -> list[str]:
    """Remove what labs left whose process is gone; returns the names.

    A number that is in use again, by whatever process, keeps its dead lab's things until
    that ends too.
    """
    removed = []
    for path in _lab_paths():
        owner = re.search(r"btb([0-9]+)-", path.name)
        if owner is None or Path("/proc", owner[1]).exists() or not path.exists():
            continue  # in use, or gone together with another
        if path.parent == _NAMESPACES:
            remove_namespace(path.name)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        removed.append(str(path))
    return removed


def _lab_paths() -> list[Path]:
    patterns = (
        (_NAMESPACES, "btb*"),
        (_NETNS_FILES, "btb*"),
        (_WIREGUARD_SOCKETS, "btb*"),
        (Path(tempfile.gettempdir()), f"{_FOLDER_PREFIX}btb*"),
    )
    return [path for folder, pattern in patterns for path in sorted(folder.glob(pattern))]


def _end_programs(namespace: str) -> None:
    """Kill what still runs in a namespace: what a program has started and left, or a dead lab."""
    done = subprocess.run(
        ["ip", "netns", "pids", namespace],
        capture_output=True,
        text=True,
        timeout=_COMMAND_TIMEOUT_S,
        check=False,
    )
    for pid in done.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)

"""Links that outlive their blocker: pinned in the BPF file system, where the next one finds them.

A BPF link detaches when nobody holds it any more. A name in the BPF file system holds it, so that
the program drops what is banned while no blocker runs; the next one has the same link run its own
program, from one packet to the next (`bpf_link_update`).

    /sys/fs/bpf/btblocker/net-4026531840-queue-0/3-native

names a network namespace (by its inode), a queue, and an interface by its index, because the file
system takes no dots, which names of interfaces may have.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple

from engine.enforce.libbpf import check, libbpf
from engine.errors import UnavailableError

Hook = Literal["native", "generic"]
_HOOKS: dict[str, Hook] = {"native": "native", "generic": "generic"}

BPF_FILE_SYSTEM = Path("/sys/fs/bpf")
_OURS = BPF_FILE_SYSTEM / "btblocker"
_NAMESPACE = Path("/proc/self/ns/net")


class Place(NamedTuple):
    """Where a link is attached: the index of an interface, and its hook."""

    interface_index: int
    hook: Hook

    def __str__(self) -> str:
        return f"{self.interface} ({self.hook})"

    @property
    def interface(self) -> str:
        """Its name now, or what it was."""
        try:
            return socket.if_indextoname(self.interface_index)
        except OSError:
            return f"interface {self.interface_index}, which is gone"


class Pins:
    """The kept links of the blocker on one queue, in this network namespace."""

    def __init__(self, queue_num: int) -> None:
        self._folder = _OURS / f"net-{_NAMESPACE.stat().st_ino}-queue-{queue_num}"

    def places(self) -> list[Place]:
        """What is kept. Raises UnavailableError without the right to look."""
        try:
            names = sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return []
        except PermissionError:
            raise UnavailableError(f"it needs root to look into {self._folder}") from None
        found = []
        for name in names:
            index, _, hook = name.partition("-")
            if index.isdecimal() and hook in _HOOKS:
                found.append(Place(int(index), _HOOKS[hook]))
        return found

    def keep(self, link_fd: int, place: Place) -> None:
        """Let a link outlive us. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check(libbpf().bpf_obj_pin(link_fd, os.fsencode(self._folder / _name(place))))

    def take(self, place: Place) -> int | None:
        """The file descriptor of a kept link that is still attached; None where there is none."""
        link_fd = self._open(place)
        if link_fd is None:
            return None
        facts = Path(f"/proc/self/fdinfo/{link_fd}").read_text().splitlines()
        # Of a link whose interface is gone the kernel says 0.
        if f"ifindex:\t{place.interface_index}" in facts:
            return link_fd
        os.close(link_fd)
        return None

    def forget(self, place: Place) -> None:
        """Let a link end with those who hold it."""
        (self._folder / _name(place)).unlink(missing_ok=True)
        for folder in (self._folder, _OURS):
            with contextlib.suppress(OSError):  # others are in it, or it is not there
                folder.rmdir()

    def drop(self, place: Place) -> None:
        """Detach what is kept here, whoever holds it, and forget it."""
        link_fd = self._open(place)
        if link_fd is not None:
            libbpf().bpf_link_detach(link_fd)
            os.close(link_fd)
        self.forget(place)

    def drop_others(self, than: Collection[Place] = ()) -> list[Place]:
        """Drop all but these, and give what was dropped. Raises UnavailableError."""
        others = [place for place in self.places() if place not in than]
        for place in others:
            self.drop(place)
        return others

    def _open(self, place: Place) -> int | None:
        path = self._folder / _name(place)
        if not path.exists():
            return None
        try:
            return check(libbpf().bpf_obj_get(os.fsencode(path)))
        except OSError as error:
            raise UnavailableError(f"cannot open {path}: {error.strerror}") from error


def why_not_kept() -> str:
    """Why no link can be kept here, and what to do; nothing where it can."""
    if BPF_FILE_SYSTEM.is_mount():
        return ""
    return (
        f"there is no BPF file system to keep XDP in: mount -t bpf bpf {BPF_FILE_SYSTEM}"
        " (systemd does it at boot)"
    )


def _name(place: Place) -> str:
    return f"{place.interface_index}-{place.hook}"

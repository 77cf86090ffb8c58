"""A BPF file system of a test's own; what is pinned there goes away with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class BpfFileSystem:
    """Mounted at `root`; a command with `prefix` before it sees it where it is on machines.

    That is for commands under `ip netns exec`, which gives each a /sys of its own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        bind = f'mount --bind {root} /sys/fs/bpf && exec "$@"'
        self.prefix = ("sh", "-c", bind, "sh")

    def pins(self) -> list[str]:
        """The names of what btblocker has pinned."""
        ours = (self.root / "btblocker").rglob("*")
        return sorted(path.name for path in ours if not path.is_dir())


@contextmanager
def bpf_file_system(root: Path) -> Iterator[BpfFileSystem]:
    root.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(root)], check=True)
    try:
        yield BpfFileSystem(root)
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)

"""A torrent nobody has seen before, and how much of it has arrived somewhere."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import libtorrent

BLOCK_BYTES = 16 * 1024  # the unit peers ask each other for (BEP 3)
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Torrent:
    """One file of random bytes in `folder`, and the metainfo (BEP 3) at `metainfo`."""

    folder: Path
    name: str
    size: int
    metainfo: Path
    info_hash: str
    """SHA-1 of the info dictionary, 40 hex digits."""
    trackers: tuple[str, ...]

    def bytes_present(self, folder: Path) -> int:
        """How many bytes below `folder` equal the source, counted in whole 16 KiB blocks.

        The source is random, so a block that equals it was transferred: a client's own
        counters are not believed.
        """
        arrived = folder / self.name
        if not arrived.exists():
            return 0
        present = 0
        with (self.folder / self.name).open("rb") as source, arrived.open("rb") as copy:
            while block := source.read(BLOCK_BYTES):
                if copy.read(BLOCK_BYTES) == block:
                    present += len(block)
        return present


def make_torrent(folder: Path, size: int, trackers: Sequence[str] = ()) -> Torrent:
    """Write `size` random bytes and their v1 metainfo, with its announce URLs, to `folder`."""
    content = folder / "content"
    content.mkdir()
    name = f"payload-{random.randbytes(4).hex()}.bin"
    (content / name).write_bytes(os.urandom(size))

    files = libtorrent.file_storage()
    files.add_file(name, size)
    maker = libtorrent.create_torrent(files, _PIECE_BYTES, libtorrent.create_torrent.v1_only)
    for url in trackers:
        maker.add_tracker(url)
    libtorrent.set_piece_hashes(maker, str(content))
    metainfo = folder / f"{name}.torrent"
    metainfo.write_bytes(libtorrent.bencode(maker.generate()))
    info_hash = str(libtorrent.torrent_info(str(metainfo)).info_hashes().v1)
    return Torrent(content, name, size, metainfo, info_hash, tuple(trackers))

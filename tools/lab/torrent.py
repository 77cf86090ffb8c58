"""A torrent nobody has seen before, and how much of it has arrived somewhere."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import libtorrent

BLOCK_BYTES = 16 * 1024  # the unit peers ask each other for (BEP 3)
PIECE_BYTES = 64 * 1024

Version = Literal["1", "2", "hybrid"]
_FLAGS = {
    "1": libtorrent.create_torrent.v1_only,
    "2": libtorrent.create_torrent.v2_only,
    "hybrid": 0,
}


@dataclass(frozen=True, slots=True)
class Torrent:
    """One file of random bytes in `folder`, and the metainfo (BEP 3, BEP 52) at `metainfo`."""

    folder: Path
    name: str
    size: int
    metainfo: Path
    info_hashes: tuple[str, ...]
    """What peers and trackers call it, 40 hex digits: SHA-1, the start of SHA-256, or both."""
    magnet: str
    """The link (BEP 9), with its trackers."""
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


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a torrent's metainfo says that it, or peers for it, can be found: URLs."""

    trackers: tuple[str, ...] = ()
    web_seed: str = ""
    """A folder on a web server (BEP 19)."""
    http_seed: str = ""
    """A script on a web server (BEP 17)."""


def make_torrent(
    folder: Path, size: int, sources: Sources = Sources(), version: Version = "1"
) -> Torrent:
    """Write `size` random bytes and their metainfo to `folder`."""
    content = folder / "content"
    content.mkdir()
    name = f"payload-{random.randbytes(4).hex()}.bin"
    (content / name).write_bytes(os.urandom(size))

    files = libtorrent.file_storage()
    files.add_file(name, size)
    maker = libtorrent.create_torrent(files, PIECE_BYTES, _FLAGS[version])
    for url in sources.trackers:
        maker.add_tracker(url)
    if sources.web_seed:
        maker.add_url_seed(sources.web_seed)
    if sources.http_seed:
        maker.add_http_seed(sources.http_seed)
    libtorrent.set_piece_hashes(maker, str(content))
    metainfo = folder / f"{name}.torrent"
    metainfo.write_bytes(libtorrent.bencode(maker.generate()))
    info = libtorrent.torrent_info(str(metainfo))
    return Torrent(
        folder=content,
        name=name,
        size=size,
        metainfo=metainfo,
        info_hashes=tuple(_info_hashes(info.info_hashes())),
        magnet=libtorrent.make_magnet_uri(info),
        trackers=sources.trackers,
    )


def _info_hashes(hashes: libtorrent.info_hash_t) -> Sequence[str]:
    names = []
    if hashes.has_v1():
        names.append(str(hashes.v1))
    if hashes.has_v2():
        names.append(str(hashes.v2)[:40])  # BEP 52: trackers and peers see 20 bytes of it
    return names

from __future__ import annotations

from pathlib import Path

from tools.lab.torrent import BLOCK_BYTES, Sources, make_torrent


def test_counts_only_blocks_that_equal_the_source(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path, 4 * BLOCK_BYTES + 100)
    arrived = tmp_path / "arrived"
    arrived.mkdir()
    assert torrent.bytes_present(arrived) == 0

    content = bytearray((torrent.folder / torrent.name).read_bytes())
    (arrived / torrent.name).write_bytes(content)
    assert torrent.bytes_present(arrived) == torrent.size

    content[2 * BLOCK_BYTES] ^= 1  # one wrong bit spoils its block
    (arrived / torrent.name).write_bytes(content)
    assert torrent.bytes_present(arrived) == torrent.size - BLOCK_BYTES

    (arrived / torrent.name).write_bytes(content[: BLOCK_BYTES + 10])  # a block begun counts not
    assert torrent.bytes_present(arrived) == BLOCK_BYTES


def test_is_new_every_time(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    first, second = (make_torrent(folder, BLOCK_BYTES) for folder in folders)
    assert first.info_hashes != second.info_hashes
    assert first.name != second.name


def test_magnet_link_names_torrent_and_trackers(tmp_path: Path) -> None:
    sources = Sources(trackers=("http://tracker.example/announce",))
    torrent = make_torrent(tmp_path, BLOCK_BYTES, sources, "hybrid")
    assert f"urn:btih:{torrent.info_hashes[0]}" in torrent.magnet
    assert f"urn:btmh:1220{torrent.info_hashes[1]}" in torrent.magnet
    assert "tracker.example" in torrent.magnet

"""Web servers that have the payload and know nothing of peers (BEP 19, BEP 17)."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.lab.addresses import endpoint
from tools.lab.program import Program
from tools.lab.topology import Line
from tools.lab.torrent import PIECE_BYTES, Torrent

HTTP_SEED_PATH = "seed"
_HTTP_SEED_DRIVER = Path(__file__).parent / "drivers" / "http_seed.py"
_READY_TIMEOUT_S = 10.0


def start_web_seed(line: Line, folder: Path, address: str, port: int) -> Program:
    """Serve a folder at the server; returns when it listens."""
    argv = ["busybox", "httpd", "-f", "-p", endpoint(address, port), "-h", str(folder)]
    return _started(line.spawn(line.server, argv, name="web-seed"), port)


def start_http_seed(line: Line, torrent: Torrent, address: str, port: int) -> Program:
    """Serve a torrent's pieces at the server, by number; returns when it listens."""
    payload = str(torrent.folder / torrent.name)
    argv = [sys.executable, str(_HTTP_SEED_DRIVER), address, str(port), payload, str(PIECE_BYTES)]
    return _started(line.spawn(line.server, argv, name="http-seed"), port)


def _started(program: Program, port: int) -> Program:
    program.wait_for(lambda: program.listens("tcp", port), _READY_TIMEOUT_S)
    return program

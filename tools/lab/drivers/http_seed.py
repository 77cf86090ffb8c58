"""An HTTP seed (BEP 17): hands out one torrent's pieces by number.

python http_seed.py ADDRESS PORT PAYLOAD PIECE_BYTES
"""

from __future__ import annotations

import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class _Seed(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, payload: bytes, piece_bytes: int, *details: Any) -> None:
        self._payload = payload
        self._piece_bytes = piece_bytes
        super().__init__(*details)

    def do_GET(self) -> None:
        """Answer `?info_hash=...&piece=N&ranges=A-B,C-D` with those bytes of the piece."""
        # The info-hash is bytes, not text; there is one torrent here, so it is not looked at.
        query = parse_qs(urlsplit(self.path).query, encoding="latin-1")
        start = int(query["piece"][0]) * self._piece_bytes
        piece = self._payload[start : start + self._piece_bytes]
        ranges = query.get("ranges", [f"0-{len(piece) - 1}"])[0].split(",")
        bounds = [tuple(map(int, each.split("-"))) for each in ranges]
        body = b"".join(piece[first : last + 1] for first, last in bounds)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(address: str, port: str, payload: str, piece_bytes: str) -> None:
    """Serve until ended."""
    handler = partial(_Seed, Path(payload).read_bytes(), int(piece_bytes))
    ThreadingHTTPServer((address, int(port)), handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What ordinary traffic carries: bytes nobody could guess, and text about BitTorrent."""

from __future__ import annotations

import os
from pathlib import Path

from tools.lab.program import LabError
from tools.lab.torrent import Sources, make_torrent

_PAYLOAD_BYTES = 2 * 1024 * 1024
# What a careless rule would take for the thing itself.
_PAGE = b"""\
<!doctype html><title>How BitTorrent works</title>
<p>A peer begins with \x13BitTorrent protocol, eight reserved bytes, the info_hash and peer_id.
<p>It asks GET /announce?info_hash=%124Vx%9A&amp;peer_id=-TR3000-abcdefghijkl&amp;port=6881 HTTP/1.1
<p>The DHT is asked d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe at
router.bittorrent.com:6881, neighbours with BT-SEARCH * HTTP/1.1 at 239.192.152.143:6771.
<p>A link: magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567
"""


class Content:
    """Files in a folder, to be served, and the check that one of them has arrived."""

    payload = "payload.bin"
    """Random bytes."""
    page = "bittorrent.html"
    """Text about BitTorrent."""
    torrent = "example.torrent"
    """Metainfo, as people download it from web pages."""

    def __init__(self, folder: Path) -> None:
        """Write the files to `folder`."""
        self.folder = folder / "www"
        self.folder.mkdir()
        (self.folder / self.payload).write_bytes(os.urandom(_PAYLOAD_BYTES))
        (self.folder / self.page).write_bytes(_PAGE)
        trackers = ("http://tracker.example/announce", "udp://tracker.example:6969/announce")
        made = make_torrent(folder, _PAYLOAD_BYTES, Sources(trackers))
        made.metainfo.rename(self.folder / self.torrent)

    def check(self, arrived: Path, name: str) -> None:
        """Raise LabError unless `arrived` equals the file `name`; remove it for the next time."""
        same = arrived.exists() and arrived.read_bytes() == (self.folder / name).read_bytes()
        arrived.unlink(missing_ok=True)
        if not same:
            raise LabError(f"lab: {name} did not arrive whole")

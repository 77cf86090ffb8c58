"""pybtracker on an IPv6 address, which its own command line cannot say.

python udp_tracker.py ADDRESS PORT
"""

from __future__ import annotations

import asyncio
import sys

from pybtracker import TrackerServer


async def main(address: str, port: int) -> None:
    """Serve until ended."""
    tracker = TrackerServer(local_addr=(address, port), loop=asyncio.get_running_loop(), interval=1)
    await tracker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

"""Routes one multicast group between two interfaces (Linux, include/uapi/linux/mroute.h).

python3 multicast_router.py TABLE GROUP INTERFACE SOURCE INTERFACE SOURCE
"""

from __future__ import annotations

import signal
import socket
import struct
import sys

_MRT_INIT, _MRT_ADD_VIF, _MRT_ADD_MFC, _MRT_TABLE = 200, 202, 204, 209
_VIFF_USE_IFINDEX = 8
_MAXVIFS = 32


def main(table: str, group: str, *sides: str) -> None:
    """Route until ended: the kernel forgets its routes when the socket closes."""
    interfaces, sources = sides[0::2], sides[1::2]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP) as control:
        control.setsockopt(socket.IPPROTO_IP, _MRT_TABLE, int(table))
        control.setsockopt(socket.IPPROTO_IP, _MRT_INIT, 1)
        for number, interface in enumerate(interfaces):
            # struct vifctl: number, flags, threshold, rate limit, interface, remote address
            index = socket.if_nametoindex(interface)
            vif = struct.pack("=HBBIiI", number, _VIFF_USE_IFINDEX, 1, 0, index, 0)
            control.setsockopt(socket.IPPROTO_IP, _MRT_ADD_VIF, vif)
        for number, source in enumerate(sources):
            # struct mfcctl: source, group, from where, and the least TTL to each interface
            thresholds = bytes(
                1 if each != number and each < len(interfaces) else 0 for each in range(_MAXVIFS)
            )
            route = socket.inet_aton(source) + socket.inet_aton(group)
            route += struct.pack("=H32s2x16x", number, thresholds)
            control.setsockopt(socket.IPPROTO_IP, _MRT_ADD_MFC, route)
        print("routing", flush=True)
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])

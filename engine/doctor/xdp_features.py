"""Whether a driver has native XDP, as the kernel tells since Linux 6.3.

Generic netlink, family `netdev` (Documentation/netlink/specs/netdev.yaml).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

_GENERIC = 16  # NETLINK_GENERIC
_REQUEST = 1  # NLM_F_REQUEST
_ERROR = 2  # NLMSG_ERROR
_CONTROL, _GET_FAMILY = 16, 3  # GENL_ID_CTRL, CTRL_CMD_GETFAMILY
_FAMILY_ID, _FAMILY_NAME = 1, 2
_GET_DEVICE, _INTERFACE_INDEX, _XDP_FEATURES = 1, 1, 3
_BASIC = 1  # NETDEV_XDP_ACT_BASIC: aborts, drops, passes, sends back


def has_native_xdp(interface_index: int) -> bool | None:
    """None where the kernel does not say."""
    with (
        contextlib.suppress(OSError, KeyError, struct.error),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC) as netlink,
    ):
        netlink.settimeout(1)
        named = _asked(netlink, _CONTROL, _GET_FAMILY, _FAMILY_NAME, b"netdev\0")
        (family,) = struct.unpack_from("=H", named[_FAMILY_ID])
        index = struct.pack("=I", interface_index)
        device = _asked(netlink, family, _GET_DEVICE, _INTERFACE_INDEX, index)
        return bool(struct.unpack("=Q", device[_XDP_FEATURES])[0] & _BASIC)
    return None


def _asked(
    netlink: socket.socket, family: int, command: int, kind: int, value: bytes
) -> dict[int, bytes]:
    """The attributes of the answer to a question with one attribute. Raises OSError."""
    padded = value + bytes(-len(value) % 4)
    body = struct.pack("=BBH", command, 1, 0) + struct.pack("=HH", 4 + len(value), kind) + padded
    netlink.send(struct.pack("=IHHII", 16 + len(body), family, _REQUEST, 1, 0) + body)
    answer = netlink.recv(65536)
    if struct.unpack_from("=4xH", answer)[0] == _ERROR:
        raise OSError("refused")
    return dict(_attributes(answer[20:]))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kinds and values, struct nlattr of include/uapi/linux/netlink.h."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind, data[4:length]
        data = data[(length + 3) & ~3 :]

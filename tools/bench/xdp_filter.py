"""xdp-filter's program with as many addresses as asked for: the peer of ours.

`xdp-filter load` makes maps for 10,000 addresses, and its `ip` command puts in one at a time.
So its program is loaded here, by libbpf from Debian's package, with larger maps; what runs for
a packet is the same.
"""

from __future__ import annotations

import ctypes as ct
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.enforce.libbpf import check, libbpf
from engine.errors import UnavailableError

# Addresses of both versions, everything else passes; Debian's multiarch folder.
_PROGRAM = "lib/*/bpf/xdpfilt_alw_ip.o"
_PROG_TYPE_XDP = 6
_SOURCE = 1  # MAP_FLAG_SRC: `--mode src`
_BATCH = 10_000


@contextmanager
def xdp_filter(addresses: Sequence[bytes]) -> Iterator[int]:
    """The file descriptor of the program, which drops packets from these addresses.

    Raises UnavailableError without Debian's package xdp-tools.
    """
    library = libbpf()
    # It tells of sections that only xdp-tools' own loader knows.
    library.libbpf_set_print(None)
    for name in ("bpf_object__open_file", "bpf_object__next_program", "bpf_object__next_map"):
        getattr(library, name).restype = ct.c_void_p
    library.bpf_object__find_map_by_name.restype = ct.c_void_p
    found = next(Path("/usr").glob(_PROGRAM), None)
    if found is None:
        raise UnavailableError("xdp-filter is not installed: apt-get install xdp-tools")
    handle = ct.c_void_p(library.bpf_object__open_file(str(found).encode(), None))
    try:
        tables = {
            4: ct.c_void_p(library.bpf_object__find_map_by_name(handle, b"filter_ipv4")),
            16: ct.c_void_p(library.bpf_object__find_map_by_name(handle, b"filter_ipv6")),
        }
        each = ct.c_void_p(library.bpf_object__next_map(handle, None))
        while each:
            library.bpf_map__set_pin_path(each, None)
            each = ct.c_void_p(library.bpf_object__next_map(handle, each))
        for table in tables.values():
            check(library.bpf_map__set_max_entries(table, len(addresses)))
        program = ct.c_void_p(library.bpf_object__next_program(handle, None))
        library.bpf_program__set_type(program, _PROG_TYPE_XDP)
        check(library.bpf_object__load(handle))
        for width, table in tables.items():
            keys = [address for address in addresses if len(address) == width]
            _fill(library, check(library.bpf_map__fd(table)), keys)
        yield check(library.bpf_program__fd(program))
    finally:
        library.bpf_object__close(handle)


def _fill(library: ct.CDLL, map_fd: int, keys: Sequence[bytes]) -> None:
    """A hit counter for each CPU, whose lowest bits are flags."""
    value = struct.pack("=Q", _SOURCE) * check(library.libbpf_num_possible_cpus())
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        count = ct.c_uint32(len(batch))
        check(
            library.bpf_map_update_batch(
                map_fd, b"".join(batch), value * len(batch), ct.byref(count), None
            )
        )

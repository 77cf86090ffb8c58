"""The calls of libbpf that the blocker needs, as ctypes; the one file that knows the library.

libbpf 1.x returns -errno; `ctypes.get_errno()` is not needed.
"""

from __future__ import annotations

import ctypes as ct
import functools
import os

from engine.errors import UnavailableError


class ProgLoadOptions(ct.Structure):
    """struct bpf_prog_load_opts of libbpf's bpf.h."""

    _fields_ = (
        ("size", ct.c_size_t),
        ("attempts", ct.c_int),
        ("expected_attach_type", ct.c_uint32),
        ("prog_btf_fd", ct.c_uint32),
        ("prog_flags", ct.c_uint32),
        ("prog_ifindex", ct.c_uint32),
        ("kern_version", ct.c_uint32),
        ("attach_btf_id", ct.c_uint32),
        ("attach_prog_fd", ct.c_uint32),
        ("attach_btf_obj_fd", ct.c_uint32),
        ("fd_array", ct.c_void_p),
        ("func_info", ct.c_void_p),
        ("func_info_cnt", ct.c_uint32),
        ("func_info_rec_size", ct.c_uint32),
        ("line_info", ct.c_void_p),
        ("line_info_cnt", ct.c_uint32),
        ("line_info_rec_size", ct.c_uint32),
        ("log_level", ct.c_uint32),
        ("log_size", ct.c_uint32),
        ("log_buf", ct.c_char_p),
    )


class MapCreateOptions(ct.Structure):
    """struct bpf_map_create_opts of libbpf's bpf.h, as far as the blocker needs it."""

    _fields_ = (
        ("size", ct.c_size_t),
        ("btf_fd", ct.c_uint32),
        ("btf_key_type_id", ct.c_uint32),
        ("btf_value_type_id", ct.c_uint32),
        ("btf_vmlinux_value_type_id", ct.c_uint32),
        ("inner_map_fd", ct.c_uint32),
        ("map_flags", ct.c_uint32),
        ("map_extra", ct.c_uint64),
        ("numa_node", ct.c_uint32),
        ("map_ifindex", ct.c_uint32),
    )


class LinkCreateOptions(ct.Structure):
    """struct bpf_link_create_opts of libbpf's bpf.h, as far as XDP needs it."""

    _fields_ = (
        ("size", ct.c_size_t),
        ("flags", ct.c_uint32),
        ("iter_info", ct.c_void_p),
        ("iter_info_len", ct.c_uint32),
        ("target_btf_id", ct.c_uint32),
    )


# int (*)(void *context, void *data, size_t size) of libbpf.h.
SampleCallback = ct.CFUNCTYPE(ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_size_t)


@functools.cache
def libbpf() -> ct.CDLL:
    """The library. Raises UnavailableError where it is not installed."""
    try:
        library = ct.CDLL("libbpf.so.1")
    except OSError:
        raise UnavailableError("libbpf is not installed: apt-get install libbpf1") from None
    library.ring_buffer__new.restype = ct.c_void_p
    for name in ("ring_buffer__consume", "ring_buffer__epoll_fd", "ring_buffer__free"):
        getattr(library, name).argtypes = [ct.c_void_p]
    return library


def check(result: int) -> int:
    """What a call returned, or OSError for -errno."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result

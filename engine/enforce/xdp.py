"""The XDP tier: drops what is banned at the driver hook of each interface.

The one file that knows BCC and libbpf. What is not obvious about them:

- BCC compiles bpf/blocker.bpf.c and holds the maps; it prints its reasons on file
  descriptor 2, raises bare `Exception`, and changes the working directory while it
  compiles.
- BCC attaches XDP over netlink, where a program outlives a killed process and anybody can
  replace it. We attach with BPF_LINK_CREATE (Linux 5.9) through libbpf, which BCC is linked
  against: the program leaves the interface with the last file descriptor of the link, even
  after SIGKILL; the kernel refuses a second program, and a link never replaces one.
- libbpf 1.x returns -errno, and does not need `ctypes.get_errno()`.
- Which ARPHRD type an interface has is asked by ioctl: /sys shows the network namespace it
  was mounted in, which need not be ours.
"""

from __future__ import annotations

import ctypes as ct
import errno
import fcntl
import functools
import json
import logging
import os
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from engine.enforce.kernel_headers import kernel_source
from engine.errors import InputError, UnavailableError
from engine.paths import bpf_source

_log = logging.getLogger(__name__)

DEFAULT_CAPACITY = 262_144

# Program names in bpf/blocker.bpf.c, by what a packet begins with.
_ETHERNET_PROGRAM = "btblocker_eth"
_IP_PROGRAM = "btblocker_ip"
_PROGRAM_PREFIX = "btblocker_"

# include/uapi/linux/if_arp.h. Packets of the second group begin with the IP header.
_ETHERNET_LINKS = {1: "ETHER", 772: "LOOPBACK"}
_IP_LINKS = {
    512: "PPP",
    519: "RAWIP",
    768: "TUNNEL",
    769: "TUNNEL6",
    776: "SIT",
    778: "IPGRE",
    823: "IP6GRE",
    65534: "NONE",
}

_SIOCGIFHWADDR = 0x8927  # include/uapi/linux/sockios.h
_BPF_XDP = 37  # enum bpf_attach_type, include/uapi/linux/bpf.h
_XDP_FLAGS = {"native": 1 << 2, "generic": 1 << 1}  # include/uapi/linux/if_link.h

_EXPIRES_NS = struct.Struct("=Q")
_BATCH_ENTRIES = 4096


class XdpMode(StrEnum):
    """Where the program runs; AUTO is native where the driver can, else generic."""

    AUTO = "auto"
    NATIVE = "native"
    GENERIC = "generic"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface that the program watches."""

    interface: str
    mode: Literal["native", "generic"]
    program_id: int


@dataclass(frozen=True, slots=True)
class XdpCounters:
    """Packets since the filter was loaded, over all interfaces."""

    passed: int
    dropped_source: int
    dropped_destination: int


class XdpFilter:
    """Bans in the kernel: attached while this object is open, and never longer.

    Every interface shares the same bans. Use it as a context manager, and from one thread:
    calls are not synchronized. A forked child may call `ban`, `unban`, `banned` and
    `counters`; its `close` leaves the parent's programs attached.
    """

    def __init__(
        self, interfaces: Sequence[str], mode: XdpMode, *, capacity: int = DEFAULT_CAPACITY
    ) -> None:
        """Compile, load and attach to every interface, or raise and leave nothing attached.

        `capacity` is the number of bans per IP version; the least recently used give way.

        Raises InputError for an interface that does not exist, UnavailableError for what
        this machine or an interface cannot do.
        """
        if mode is XdpMode.OFF:
            raise ValueError("XDP is off: do not build a filter")
        programs = {name: _program_for(name) for name in dict.fromkeys(interfaces)}
        self._libbpf = _libbpf()
        self._module = _load(capacity, set(programs.values()))
        self._owner_pid = os.getpid()
        self._links: list[int] = []
        self._attachments: list[Attachment] = []
        try:
            self._map_fds = {
                4: self._module["blocked_ips"].map_fd,
                16: self._module["blocked_ips6"].map_fd,
            }
            self._outcomes_fd: int = self._module["outcomes"].map_fd
            for interface, program in programs.items():
                self._attach(interface, program, mode)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return tuple(self._attachments)

    def ban(self, address: bytes, expires_ns: int) -> None:
        """Drop packets from and to `address` until CLOCK_MONOTONIC reaches `expires_ns`.

        `address` is 4 or 16 bytes in network order. A later call replaces the expiry.
        """
        _check(
            self._libbpf.bpf_map_update_elem(
                self._map_fds[len(address)], address, _EXPIRES_NS.pack(expires_ns), ct.c_uint64(0)
            )
        )

    def unban(self, address: bytes) -> bool:
        """Let `address` pass again; returns whether it was in the map."""
        result = self._libbpf.bpf_map_delete_elem(self._map_fds[len(address)], address)
        if result == -errno.ENOENT:
            return False
        _check(result)
        return True

    def banned(self) -> Iterator[tuple[bytes, int]]:
        """Each (address, expires_ns) in the maps, those that have expired included."""
        for address_bytes, map_fd in self._map_fds.items():
            yield from self._entries(map_fd, address_bytes)

    def counters(self) -> XdpCounters:
        cpus = _check(self._libbpf.libbpf_num_possible_cpus())
        per_cpu = (ct.c_uint64 * cpus)()
        packets = []
        for outcome in range(3):  # enum outcome in bpf/blocker.bpf.c
            key = ct.c_uint32(outcome)
            _check(self._libbpf.bpf_map_lookup_elem(self._outcomes_fd, ct.byref(key), per_cpu))
            packets.append(sum(per_cpu))
        return XdpCounters(*packets)

    def close(self) -> None:
        """Detach from every interface and free the maps. Safe to call again."""
        for link_fd in self._links:
            # Children may hold copies of the link, so the owner does not rely on being the
            # last. An interface that is gone has detached itself (ENOLINK).
            if os.getpid() == self._owner_pid:
                self._libbpf.bpf_link_detach(link_fd)
            os.close(link_fd)
        self._links.clear()
        self._attachments.clear()
        self._module.cleanup()

    def _attach(self, interface: str, program: str, mode: XdpMode) -> None:
        program_fd = self._module.funcs[program.encode()].fd
        wanted: tuple[Literal["native", "generic"], ...]
        wanted = ("native", "generic") if mode is XdpMode.AUTO else (mode.value,)  # type: ignore[assignment]
        for attempt in wanted:
            try:
                link_fd = self._create_link(program_fd, interface, _XDP_FLAGS[attempt])
            except OSError as refusal:
                _refuse_occupied(interface)
                if attempt != wanted[-1]:
                    _log.debug("%s: no native XDP: %s", interface, refusal.strerror)
                    continue
                raise _refused(interface, attempt, refusal) from refusal
            self._links.append(link_fd)
            self._attachments.append(Attachment(interface, attempt, _program_id(program_fd)))
            return

    def _create_link(self, program_fd: int, interface: str, flags: int) -> int:
        options = _LinkCreateOptions(size=ct.sizeof(_LinkCreateOptions), flags=flags)
        index = socket.if_nametoindex(interface)
        return _check(self._libbpf.bpf_link_create(program_fd, index, _BPF_XDP, ct.byref(options)))

    def _entries(self, map_fd: int, address_bytes: int) -> Iterator[tuple[bytes, int]]:
        # In batches: walking key by key starts over when the current key vanishes.
        addresses = ct.create_string_buffer(address_bytes * _BATCH_ENTRIES)
        expiries = (ct.c_uint64 * _BATCH_ENTRIES)()
        position = ct.c_uint32()
        start = None
        result = 0
        while result != -errno.ENOENT:
            count = ct.c_uint32(_BATCH_ENTRIES)
            result = self._libbpf.bpf_map_lookup_batch(
                map_fd, start, ct.byref(position), addresses, expiries, ct.byref(count), None
            )
            if result != -errno.ENOENT:
                _check(result)
            for i in range(count.value):
                yield addresses.raw[i * address_bytes : (i + 1) * address_bytes], expiries[i]
            start = ct.byref(position)


class _LinkCreateOptions(ct.Structure):
    """struct bpf_link_create_opts of libbpf's bpf.h, as far as XDP needs it."""

    _fields_ = (
        ("size", ct.c_size_t),
        ("flags", ct.c_uint32),
        ("iter_info", ct.c_void_p),
        ("iter_info_len", ct.c_uint32),
        ("target_btf_id", ct.c_uint32),
    )


@functools.cache
def _libbpf() -> ct.CDLL:
    try:
        return ct.CDLL("libbpf.so.1")
    except OSError:
        raise UnavailableError("libbpf is not installed: apt-get install libbpf1") from None


def _check(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def _program_for(interface: str) -> str:
    """The BPF function that reads what this interface receives."""
    request = struct.pack("16s16x", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            # struct ifreq: the name, then a sockaddr whose family is the ARPHRD type.
            reply = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, request)
        except OSError:
            present = ", ".join(sorted(name for _, name in socket.if_nameindex()))
            raise InputError(
                f"there is no interface {interface!r} on this machine; it has: {present}"
            ) from None
    (link_type,) = struct.unpack_from("=H", reply, 16)
    if link_type in _ETHERNET_LINKS:
        return _ETHERNET_PROGRAM
    if link_type in _IP_LINKS:
        return _IP_PROGRAM
    raise UnavailableError(
        f"{interface}: XDP cannot read links of type {link_type}"
        " (neither Ethernet nor bare IP packets); leave it out of --interface"
    )


def _load(capacity: int, programs: Set[str]) -> Any:
    """The BCC module with its maps made and these programs accepted by the kernel."""
    try:
        import bcc
    except ModuleNotFoundError:
        raise UnavailableError(
            "python3-bpfcc is not installed: apt-get install python3-bpfcc"
            " linux-headers-$(uname -r)"
        ) from None
    with kernel_source() as headers, _stderr_captured() as complaints:
        try:
            if headers is not None:
                os.environ["BCC_KERNEL_SOURCE"] = str(headers)
            module = bcc.BPF(src_file=str(bpf_source()), cflags=[f"-DBAN_CAPACITY={capacity}"])
            for program in programs:
                module.load_func(program.encode(), bcc.BPF.XDP)
            return module
        except Exception as failure:
            raise _not_loaded(capacity, complaints.read_text(errors="replace")) from failure
        finally:
            if headers is not None:
                del os.environ["BCC_KERNEL_SOURCE"]


def _not_loaded(capacity: int, complaints: str) -> UnavailableError:
    _log.debug("BCC said: %s", complaints)
    if os.strerror(errno.EPERM) in complaints:
        return UnavailableError("loading an XDP program needs root (CAP_BPF and CAP_NET_ADMIN)")
    if os.strerror(errno.ENOMEM) in complaints:
        return UnavailableError(f"no memory for the XDP program's maps of {capacity} bans each")
    reasons = [line for line in complaints.splitlines() if "error" in line.lower()]
    return UnavailableError(
        f"BCC cannot load {bpf_source()}: {(reasons or ['no reason given'])[0]}"
    )


@contextmanager
def _stderr_captured() -> Iterator[Path]:
    """File descriptor 2 into a file for a while, since BCC's reasons go nowhere else."""
    saved = os.dup(2)
    with tempfile.NamedTemporaryFile(prefix="btblocker-bcc-") as capture:
        os.dup2(capture.fileno(), 2)
        try:
            yield Path(capture.name)
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _program_id(program_fd: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{program_fd}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "prog_id":
            return int(value)
    raise ValueError(f"file descriptor {program_fd} is no BPF program")


def _refuse_occupied(interface: str) -> None:
    """Raise UnavailableError if an XDP program is on the interface already."""
    shown = subprocess.run(
        ["ip", "-json", "-details", "link", "show", "dev", interface],
        capture_output=True,
        check=False,
    )
    xdp = json.loads(shown.stdout)[0].get("xdp") if shown.returncode == 0 else None
    if xdp is None:
        return
    program = xdp["attached"][0]["prog"]
    name, number = program.get("name", "without a name"), program["id"]
    if name.startswith(_PROGRAM_PREFIX):
        raise UnavailableError(
            f"{interface}: another btblocker runs here (XDP program {name}, id {number});"
            " stop it first"
        )
    raise UnavailableError(
        f"{interface}: the XDP program {name} (id {number}) is there already and was left alone;"
        f" to take it off: ip link set dev {interface} xdp off"
    )


def _refused(interface: str, mode: str, refusal: OSError) -> UnavailableError:
    if refusal.errno == errno.EPERM:
        return UnavailableError("attaching an XDP program needs root (CAP_BPF and CAP_NET_ADMIN)")
    hint = "; try --xdp-mode auto or generic" if mode == "native" else ""
    return UnavailableError(f"{interface}: {mode} XDP is refused: {refusal.strerror}{hint}")

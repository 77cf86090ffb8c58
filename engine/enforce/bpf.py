"""The blocker's BPF programs and maps in the kernel: loaded, linked, read and written.

BCC could attach, too, but over netlink, where a program outlives a killed process and anybody
can replace it. We attach with BPF_LINK_CREATE (Linux 5.9): the program leaves the interface
with the last file descriptor of its link, even after SIGKILL, and the kernel never lets a
link replace another program. We load, too, because BCC knows no BPF_F_XDP_HAS_FRAGS, without
which drivers refuse native mode for large frames.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import struct
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import NamedTuple

from engine.enforce.compilation import NEEDS_ROOT, Bytecode, Function, MapDefinition
from engine.enforce.libbpf import (
    LinkCreateOptions,
    MapCreateOptions,
    ProgLoadOptions,
    SampleCallback,
    check,
    libbpf,
)
from engine.enforce.marks import Marks
from engine.errors import UnavailableError

# include/uapi/linux/bpf.h
_PROG_TYPE_XDP = 6
_ATTACH_XDP = 37
_XDP_HAS_FRAGS = 1 << 5
_NOEXIST = 1
_INSTRUCTION_B = 8

_LOG_B = 1 << 20
_BATCH_ENTRIES = 4096

# As in bpf/blocker.bpf.c.
_BAN = struct.Struct("=QQQ")
_SETTINGS = struct.Struct("=Q")
_EVENT = struct.Struct("=QIHBB16s16s4sB3x")
_BAN_MAPS = {4: "blocked_ips", 16: "blocked_ips6"}
_LET_ALONE = struct.Struct("=I")  # the values of those below, and how many are let alone
_ALLOWED_MAPS = {4: "allowed", 6: "allowed6"}


class RejectedError(Exception):
    """The kernel's verifier does not take a program; carries its reason."""


class BanEntry(NamedTuple):
    """A ban in a map: `address` in network byte order, `expires_ns` on CLOCK_MONOTONIC.

    `packets` and `bytes` of IP it has dropped so far.
    """

    address: bytes
    expires_ns: int
    packets: int
    bytes: int


class Event(NamedTuple):
    """What the driver tells of a packet that a signature matched there.

    `program` and `signature` say which; `key` is that of `engine.inspect.packet.Packet`;
    `expires_ns` is the end of the ban it has set.
    """

    program: int
    signature: int
    protocol: int
    key: bytes
    expires_ns: int


class BlockerProgram:
    """bpf/blocker.bpf.c in the kernel. Closing it frees the maps when no link is left."""

    def __init__(self, bytecode: Bytecode) -> None:
        """Make the maps and load the functions.

        Raises RejectedError, or UnavailableError where capabilities or memory are missing.
        """
        self._libbpf = libbpf()
        self._maps: dict[str, int] = {}
        self._functions: dict[str, int] = {}
        self._marks: Marks | None = None
        self._let_alone: set[IPv4Network | IPv6Network] = set()
        self._ring: ct.c_void_p | None = None
        # libbpf holds no reference to the callback.
        self._callback = SampleCallback(self._take)
        self._taken: list[Event] = []
        try:
            self.load(bytecode)
            self._marks = Marks(self._maps["ban_marks"])
            ring = self._libbpf.ring_buffer__new(self._maps["events"], self._callback, None, None)
            if not ring:
                raise UnavailableError("no memory for the driver's events")
            self._ring = ct.c_void_p(ring)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._ring is not None:
            self._libbpf.ring_buffer__free(self._ring)
            self._ring = None
        if self._marks is not None:
            self._marks.close()
            self._marks = None
        for fd in (*self._functions.values(), *self._maps.values()):
            os.close(fd)
        self._functions.clear()
        self._maps.clear()

    def load(self, bytecode: Bytecode) -> None:
        """Load functions in place of those loaded; the maps, and what is in them, stay.

        Links run the old functions until they are switched. On an error nothing has changed.
        """
        for definition in bytecode.maps:
            if definition.name not in self._maps:
                self._maps[definition.name] = self._create(definition)
        loaded: dict[str, int] = {}
        try:
            for name, function in bytecode.functions.items():
                loaded[name] = self._verify(name, function)
        except BaseException:
            for fd in loaded.values():
                os.close(fd)
            raise
        self._functions, replaced = loaded, self._functions
        for fd in replaced.values():
            os.close(fd)

    # --- links

    def link(self, function: str, interface_index: int, xdp_flags: int) -> int:
        """Attach to an interface; returns the link's file descriptor. Raises OSError."""
        options = LinkCreateOptions(size=ct.sizeof(LinkCreateOptions), flags=xdp_flags)
        return check(
            self._libbpf.bpf_link_create(
                self._functions[function], interface_index, _ATTACH_XDP, ct.byref(options)
            )
        )

    def switch(self, link_fd: int, function: str) -> None:
        """Have a link run the function loaded last, from one packet to the next.

        Raises OSError, where the interface is gone.
        """
        check(self._libbpf.bpf_link_update(link_fd, self._functions[function], None))

    def unlink(self, link_fd: int) -> None:
        """Detach for every process that holds the link. Fine if the interface is gone."""
        self._libbpf.bpf_link_detach(link_fd)

    def program_id(self, function: str) -> int:
        facts = Path(f"/proc/self/fdinfo/{self._functions[function]}").read_text()
        for line in facts.splitlines():
            name, _, value = line.partition(":")
            if name == "prog_id":
                return int(value)
        raise LookupError(f"the kernel gives {function} no id")

    # --- maps

    def put(self, address: bytes, expires_ns: int) -> None:
        """Add a ban, or renew it and keep its counts. `address` has 4 or 16 bytes."""
        assert self._marks is not None
        map_fd = self._maps[_BAN_MAPS[len(address)]]
        new = self._update(map_fd, address, _BAN.pack(expires_ns, 0, 0), _NOEXIST)
        if new != -errno.EEXIST:
            check(new)
            self._marks.add(address)
            return
        old = ct.create_string_buffer(_BAN.size)
        check(self._libbpf.bpf_map_lookup_elem(map_fd, address, old))
        _, packets, dropped_b = _BAN.unpack(old.raw)
        check(self._update(map_fd, address, _BAN.pack(expires_ns, packets, dropped_b)))

    def delete(self, address: bytes) -> bool:
        """Remove a ban; False if there was none."""
        assert self._marks is not None
        map_fd = self._maps[_BAN_MAPS[len(address)]]
        result = self._libbpf.bpf_map_delete_elem(map_fd, address)
        if result == -errno.ENOENT:
            return False
        check(result)
        self._marks.discard(address)
        return True

    def bans(self) -> Iterator[BanEntry]:
        """Each ban in the maps."""
        for address_b, name in _BAN_MAPS.items():
            yield from self._entries(self._maps[name], address_b)

    def allow(self, network: IPv4Network | IPv6Network, *, let_alone: bool = False) -> None:
        """Let no ban apply to these addresses, and no signature in the driver ban them.

        Where they are `let_alone`, neither applies to whoever speaks with them.
        """
        if let_alone:
            self._let_alone.add(network)
            self._count_let_alone()
        map_fd = self._maps[_ALLOWED_MAPS[network.version]]
        check(self._update(map_fd, _prefix(network), _LET_ALONE.pack(let_alone)))
        if not let_alone:
            self._let_alone.discard(network)
            self._count_let_alone()

    def disallow(self, network: IPv4Network | IPv6Network) -> None:
        map_fd = self._maps[_ALLOWED_MAPS[network.version]]
        check(self._libbpf.bpf_map_delete_elem(map_fd, _prefix(network)))
        self._let_alone.discard(network)
        self._count_let_alone()

    def _count_let_alone(self) -> None:
        """Tell the program, which looks for them only while there are some."""
        count = _LET_ALONE.pack(len(self._let_alone))
        check(self._update(self._maps["let_alone"], bytes(4), count))

    def set_ban_duration(self, duration_ns: int) -> None:
        """How long the bans last that signatures in the driver set."""
        check(self._update(self._maps["settings"], bytes(4), _SETTINGS.pack(duration_ns)))

    def outcomes(self) -> list[int]:
        """Packets by `enum outcome` of bpf/blocker.bpf.c, summed over CPUs."""
        per_cpu = (ct.c_uint64 * check(self._libbpf.libbpf_num_possible_cpus()))()
        packets = []
        for outcome in range(self._outcomes):
            key = ct.c_uint32(outcome)
            map_fd = self._maps["outcomes"]
            check(self._libbpf.bpf_map_lookup_elem(map_fd, ct.byref(key), per_cpu))
            packets.append(sum(per_cpu))
        return packets

    def events_fd(self) -> int:
        """Readable when there are events."""
        return check(self._libbpf.ring_buffer__epoll_fd(self._ring))

    def events(self) -> list[Event]:
        """What has come since the last call; each that has set a ban is marked by it."""
        check(self._libbpf.ring_buffer__consume(self._ring))
        taken, self._taken = self._taken, []
        return taken

    def _take(self, _context: int, data: int, size: int) -> int:
        assert self._marks is not None
        expires_ns, program, signature, protocol, version, source, destination, ports, new = (
            _EVENT.unpack(ct.string_at(data, size))
        )
        width = 4 if version == 4 else 16
        if new:
            self._marks.add(source[:width])
        key = source[:width] + destination[:width] + ports
        self._taken.append(Event(program, signature, protocol, key, expires_ns))
        return 0

    def _update(self, map_fd: int, key: bytes, value: bytes, flags: int = 0) -> int:
        return int(self._libbpf.bpf_map_update_elem(map_fd, key, value, ct.c_uint64(flags)))

    def _entries(self, map_fd: int, address_b: int) -> Iterator[BanEntry]:
        # In batches: walking key by key starts over when the current key vanishes.
        addresses = ct.create_string_buffer(address_b * _BATCH_ENTRIES)
        bans = ct.create_string_buffer(_BAN.size * _BATCH_ENTRIES)
        position = ct.c_uint32()
        start = None
        result = 0
        while result != -errno.ENOENT:
            count = ct.c_uint32(_BATCH_ENTRIES)
            result = self._libbpf.bpf_map_lookup_batch(
                map_fd, start, ct.byref(position), addresses, bans, ct.byref(count), None
            )
            if result != -errno.ENOENT:
                check(result)
            keys = addresses.raw
            for i in range(count.value):
                key = keys[i * address_b : (i + 1) * address_b]
                yield BanEntry(key, *_BAN.unpack_from(bans, i * _BAN.size))
            start = ct.byref(position)

    # --- loading

    def _create(self, definition: MapDefinition) -> int:
        options = MapCreateOptions(size=ct.sizeof(MapCreateOptions), map_flags=definition.flags)
        if definition.name == "outcomes":
            self._outcomes = definition.entries
        try:
            return check(
                self._libbpf.bpf_map_create(
                    definition.type,
                    definition.name.encode(),
                    definition.key_b,
                    definition.value_b,
                    definition.entries,
                    ct.byref(options),
                )
            )
        except PermissionError:
            raise UnavailableError(NEEDS_ROOT) from None
        except OSError as refusal:
            raise UnavailableError(
                f"the kernel refuses a map of {definition.entries} entries for the XDP program"
                f" ({definition.name}): {refusal.strerror}"
            ) from refusal

    def _verify(self, name: str, function: Function) -> int:
        """Load one function; returns its file descriptor."""
        instructions = bytearray(function.instructions)
        for position, wanted in function.maps.items():
            # The immediate value of struct bpf_insn.
            struct.pack_into("=i", instructions, position * _INSTRUCTION_B + 4, self._maps[wanted])
        fd = self._prog_load(name, instructions, _XDP_HAS_FRAGS)
        if fd == -errno.EINVAL:  # before Linux 5.18
            fd = self._prog_load(name, instructions, 0)
        if fd >= 0:
            return fd
        if fd in (-errno.EPERM, -errno.ENOMEM):
            reason = NEEDS_ROOT if fd == -errno.EPERM else "no memory for the XDP program"
            raise UnavailableError(reason)
        log = ct.create_string_buffer(_LOG_B)
        self._prog_load(name, instructions, 0, log)
        raise RejectedError(_reason(log.value.decode(errors="replace")) or os.strerror(-fd))

    def _prog_load(
        self,
        name: str,
        instructions: bytearray,
        flags: int,
        log: ct.Array[ct.c_char] | None = None,
    ) -> int:
        options = ProgLoadOptions(
            size=ct.sizeof(ProgLoadOptions),
            expected_attach_type=_ATTACH_XDP,
            prog_flags=flags,
        )
        if log is not None:
            options.log_level = 1
            options.log_size = _LOG_B
            options.log_buf = ct.cast(log, ct.c_char_p)
        return int(
            self._libbpf.bpf_prog_load(
                _PROG_TYPE_XDP,
                name.encode(),
                b"GPL",
                bytes(instructions),
                ct.c_size_t(len(instructions) // _INSTRUCTION_B),
                ct.byref(options),
            )
        )


def _prefix(network: IPv4Network | IPv6Network) -> bytes:
    """The key of a longest-prefix-match trie: struct bpf_lpm_trie_key."""
    return struct.pack("=I", network.prefixlen) + network.network_address.packed


def _reason(log: str) -> str:
    """The verifier's last word before its statistics."""
    lines = [line for line in log.splitlines() if line and not line.startswith("processed ")]
    return lines[-1].strip() if lines else ""

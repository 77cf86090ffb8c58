"""What a process may still do once it has begun: as little as its work needs.

Python has no calls for capabilities; capset(2), capget(2) and prctl(2) are glibc's.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Collection, Iterator
from enum import IntEnum

_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, include/uapi/linux/capability.h
# include/uapi/linux/prctl.h
_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2

_libc = ctypes.CDLL(None, use_errno=True)


class Capability(IntEnum):
    """Those that the blocker has a use for; capabilities(7) says what they allow."""

    DAC_READ_SEARCH = 2
    SETGID = 6
    SETUID = 7
    NET_ADMIN = 12
    SYS_ADMIN = 21
    PERFMON = 38
    BPF = 39


BPF = frozenset({Capability.BPF, Capability.PERFMON})
"""To make maps, and programs that the verifier lets do what root's may."""


def drop_privileges(keep: Collection[Capability] = (), *, inherited: bool = False) -> None:
    """Become nobody, and keep no other capabilities than these; no program gains any back.

    Those that the process does not have are not asked for. CAP_SYS_ADMIN stands for CAP_BPF and
    CAP_PERFMON where only that is there, as the kernel sees it, too. Who may not change its user,
    as in some containers, stays who it is. With `inherited`, programs that are run keep the same.

    For the thread that calls, and those it starts: to be called before there are others.
    Raises OSError.
    """
    has = _permitted()
    kept = {capability for capability in keep if capability in has}
    if set(keep) & BPF - kept and Capability.SYS_ADMIN in has:
        kept.add(Capability.SYS_ADMIN)
    if os.geteuid() == 0 and {Capability.SETUID, Capability.SETGID} <= has:
        _prctl(_PR_SET_KEEPCAPS, 1)
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
        os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    _set(kept, kept if inherited else ())
    if inherited:
        for capability in kept:
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    """32 capabilities; the call takes two of these."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _permitted() -> frozenset[int]:
    data = (_Data * 2)()
    _call(_libc.capget, ctypes.byref(_Header(_VERSION, 0)), data)
    return frozenset(
        32 * word + bit for word in range(2) for bit in range(32) if data[word].permitted >> bit & 1
    )


def _set(permitted: Collection[int], inheritable: Collection[int]) -> None:
    data = (_Data * 2)(
        *(
            _Data(allowed, allowed, passed)
            for allowed, passed in zip(_words(permitted), _words(inheritable), strict=True)
        )
    )
    _call(_libc.capset, ctypes.byref(_Header(_VERSION, 0)), data)


def _words(capabilities: Collection[int]) -> Iterator[int]:
    bits = sum(1 << capability for capability in capabilities)
    yield bits & 0xFFFFFFFF
    yield bits >> 32


def _prctl(option: int, *arguments: int) -> None:
    # As long as the kernel's: what is not given is 0, which it looks at.
    words = [ctypes.c_ulong(number) for number in (*arguments, 0, 0, 0, 0)[:4]]
    _call(_libc.prctl, option, *words)


def _call(function: object, *arguments: object) -> None:
    assert callable(function)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

"""Finds the kernel headers that BCC needs to compile the XDP program."""

from __future__ import annotations

import os
import platform
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import UnavailableError

_MODULES = Path("/lib/modules")
_KHEADERS = Path("/sys/kernel/kheaders.tar.xz")
_PACKAGED = Path("/usr/src")

# The kernel's own folder names under arch/, by what uname says.
_KERNEL_ARCH = {
    "x86_64": "x86",
    "aarch64": "arm64",
    "ppc64le": "powerpc",
    "riscv64": "riscv",
    "s390x": "s390",
}


@contextmanager
def kernel_source() -> Iterator[Path | None]:
    """A tree of kernel headers, valid inside the `with`; None where BCC finds one itself.

    BCC looks into /lib/modules/RELEASE/build, and the operator may point it elsewhere with
    BCC_KERNEL_SOURCE. The kernel's own archive, /sys/kernel/kheaders.tar.xz, is unpacked here:
    BCC would do it under a name in /tmp that any user could have taken before. Without any of
    them, headers of another kernel that the distribution installed will do: an XDP program uses
    only structures of the kernel's stable user interface.

    Raises UnavailableError if this machine has no kernel headers at all.
    """
    release = platform.release()
    if "BCC_KERNEL_SOURCE" in os.environ or (_MODULES / release / "build").exists():
        yield None
        return
    if _KHEADERS.exists():
        with tempfile.TemporaryDirectory(prefix="btblocker-headers-") as unpacked:
            with tarfile.open(_KHEADERS) as archive:
                archive.extractall(unpacked)
            yield Path(unpacked)
        return
    headers = _newest_packaged()
    if headers is None:
        raise UnavailableError(
            f"no kernel headers for {release}: apt-get install linux-headers-{release}"
            " (where that does not exist: linux-headers-amd64 on Debian,"
            " linux-headers-generic on Ubuntu)"
        )
    if _is_whole(headers):
        yield headers
        return
    with tempfile.TemporaryDirectory(prefix="btblocker-headers-") as merged:
        _merge(_common_half(headers), headers, Path(merged))
        yield Path(merged)


def _newest_packaged() -> Path | None:
    """The newest usable linux-headers-* folder that was configured for an architecture."""
    usable = [
        path
        for path in _PACKAGED.glob("linux-headers-*")
        if (path / "include/generated/autoconf.h").exists()
        and (path / "arch" / _kernel_arch()).is_dir()
        and (_is_whole(path) or _common_half(path).is_dir())
    ]
    return max(usable, key=_version, default=None)


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def _is_whole(headers: Path) -> bool:
    """True for Ubuntu's folders, which link to their common half already."""
    return (headers / "include/linux/kconfig.h").exists()


def _common_half(headers: Path) -> Path:
    """Debian's folder for an architecture names the common one in its one-line Makefile."""
    makefile = headers / "Makefile"
    named = re.match(r"include (\S+)/Makefile", makefile.read_text() if makefile.exists() else "")
    return Path(named[1]) if named else headers / "no-common-half"


def _kernel_arch() -> str:
    machine = platform.machine()
    return _KERNEL_ARCH.get(machine, machine)


def _merge(common: Path, configured: Path, into: Path) -> None:
    """Make one tree of both halves: real folders where they meet, links below."""
    for part in ("include", f"arch/{_kernel_arch()}/include"):
        (into / part).mkdir(parents=True)
        for half in (configured, common):
            for child in (half / part).iterdir():
                link = into / part / child.name
                if not link.exists():
                    link.symlink_to(child)

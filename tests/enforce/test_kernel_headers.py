from __future__ import annotations

import platform
import tarfile
from pathlib import Path

import pytest

from engine.enforce import kernel_headers
from engine.enforce.kernel_headers import kernel_source
from engine.errors import UnavailableError


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An x86 machine without headers; tests put some under its root."""
    monkeypatch.setattr(kernel_headers, "_MODULES", tmp_path / "modules")
    monkeypatch.setattr(kernel_headers, "_KHEADERS", tmp_path / "kheaders.tar.xz")
    monkeypatch.setattr(kernel_headers, "_PACKAGED", tmp_path / "src")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
    return tmp_path


def put(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(file))


def put_debian_halves(source: Path, version: str) -> None:
    common, configured = (
        source / f"linux-headers-{version}-{half}" for half in ("common", "amd64")
    )
    put(
        common / "include/linux/kconfig.h",
        common / "arch/x86/include/asm/types.h",
        configured / "include/generated/autoconf.h",
        configured / "arch/x86/include/generated/uapi/asm/types.h",
    )
    (configured / "Makefile").write_text(f"include {common}/Makefile\n")


def test_debians_halves_are_merged_for_as_long_as_they_are_needed(machine: Path) -> None:
    put_debian_halves(machine / "src", "6.1.0-9")
    put_debian_halves(machine / "src", "6.1.0-10")
    with kernel_source() as merged:
        assert merged is not None
        for half, file in (
            ("common", "include/linux/kconfig.h"),
            ("common", "arch/x86/include/asm/types.h"),
            ("amd64", "include/generated/autoconf.h"),
            ("amd64", "arch/x86/include/generated/uapi/asm/types.h"),
        ):
            # Of two versions the newer one, by number and not by letters.
            original = machine / "src" / f"linux-headers-6.1.0-10-{half}" / file
            assert (merged / file).resolve() == original
    assert not merged.exists()
    assert (machine / "src/linux-headers-6.1.0-10-common/include/linux/kconfig.h").exists()


def test_ubuntus_folder_that_links_to_its_common_half_is_taken_as_it_is(machine: Path) -> None:
    generic = machine / "src/linux-headers-6.8.0-31-generic"
    put(
        generic / "include/generated/autoconf.h",
        generic / "include/linux/kconfig.h",
        generic / "arch/x86/Makefile",
        machine / "src/linux-headers-6.8.0-31/include/linux/kconfig.h",
    )
    with kernel_source() as headers:
        assert headers == generic


def test_half_a_tree_is_not_enough(machine: Path) -> None:
    configured = machine / "src/linux-headers-6.1.0-9-amd64"
    put(configured / "include/generated/autoconf.h", configured / "arch/x86/Makefile")
    with pytest.raises(UnavailableError, match="linux-headers"), kernel_source():
        pass


def test_a_machine_without_headers_is_told_what_to_install(machine: Path) -> None:
    with pytest.raises(UnavailableError) as refusal, kernel_source():
        pass
    assert f"apt-get install linux-headers-{platform.release()}" in str(refusal.value)


def test_bcc_is_left_to_find_the_running_kernels_own_headers(machine: Path) -> None:
    put_debian_halves(machine / "src", "6.1.0-9")
    put(machine / f"modules/{platform.release()}/build/Makefile")
    with kernel_source() as headers:
        assert headers is None


def test_the_kernel_s_archive_is_unpacked_where_nobody_else_writes(machine: Path) -> None:
    put_debian_halves(machine / "src", "6.1.0-9")
    put(machine / "include/linux/kconfig.h")
    with tarfile.open(machine / "kheaders.tar.xz", "w:xz") as archive:
        archive.add(machine / "include", "include")
    with kernel_source() as headers:
        assert headers is not None
        assert (headers / "include/linux/kconfig.h").exists()
        assert headers.stat().st_mode & 0o777 == 0o700
    assert not headers.exists()


def test_the_operators_own_tree_has_the_last_word(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BCC_KERNEL_SOURCE", "/somewhere/linux")
    with kernel_source() as headers:
        assert headers is None

"""Links that are kept in the BPF file system, at their edges."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bpffs import BpfFileSystem, bpf_file_system
from tests.enforce.conftest import ROOT, FilterProcess, attached_program, wire
from tests.netns import Namespace, connect

pytestmark = pytest.mark.lab

DROP_ALL = "from engine.enforce.pins import Pins; print(*Pins(0).drop_others(), sep='; ')"


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[BpfFileSystem]:
    with bpf_file_system(tmp_path / "bpf") as mounted:
        yield mounted


def test_another_mode_replaces_what_is_kept_and_what_is_gone_is_cleared_away(
    bpffs: BpfFileSystem,
) -> None:
    with Namespace("gate") as gate:
        # Dots are no part of a name in the BPF file system.
        connect(gate, "left0.100", gate, "right0")
        foreign = str(Path(__file__).with_name("foreign_xdp.py"))
        gate.run(["env", f"PYTHONPATH={ROOT}", sys.executable, foreign, "right0"])
        there = attached_program(gate, "right0")

        def start(mode: str) -> FilterProcess:
            return FilterProcess(
                gate, "left0.100", mode, prefix=bpffs.prefix, banned=wire("10.0.0.1")
            )

        first = start("generic")
        assert [at["mode"] for at in first.attachments] == ["generic"], first.refusal
        first.kill()
        (generic,) = bpffs.pins()
        assert generic.endswith("-generic")

        second = start("native")
        assert [at["mode"] for at in second.attachments] == ["native"], second.refusal
        second.kill()
        assert bpffs.pins() == [generic.replace("generic", "native")]
        assert attached_program(gate, "left0.100")

        gate.run(["ip", "link", "set", "dev", "left0.100", "name", "other0"])
        dropped = gate.run(
            [*bpffs.prefix, "env", f"PYTHONPATH={ROOT}", sys.executable, "-c", DROP_ALL]
        )
        assert dropped.stdout == "other0 (native)\n"
        assert attached_program(gate, "other0") is None
        assert not (bpffs.root / "btblocker").exists()
        assert attached_program(gate, "right0") == there

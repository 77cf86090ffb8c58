"""`python -m tools.lab` as a person meets it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAB = [sys.executable, "-m", "tools.lab"]


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAB, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_lists_the_cases() -> None:
    listed = lab("list", "--json")
    assert listed.returncode == 0
    assert {case["family"] for case in json.loads(listed.stdout)} == {4, 6}


@pytest.mark.lab
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("run", "carrier-pigeon"), "lab: no case carrier-pigeon; there are tcp4"),
        (("demo", "--cases", "tcp4,nope"), "lab: no case nope; there are tcp4"),
        (("run", "tcp4", "--pcap", "both.pcap"), "lab: --pcap holds one trial"),
        (("run", "tcp4", "--with", "--pcap", "/no/such/x.pcap"), "/no/such/x.pcap: no such folder"),
        (("demo", "--jobs", "0"), "between 1 and 64"),
        (("run", "tcp4", "--observe", "0"), "between 0 and 3600 seconds"),
        (("run", "tcp4", "--size", "-1"), "between 16 KiB and 1 GiB"),
    ],
)
def test_says_what_is_wrong_in_one_line(arguments: tuple[str, ...], complaint: str) -> None:
    refused = lab(*arguments)
    assert refused.returncode == 2
    assert complaint in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr


@pytest.mark.lab
def test_writes_a_capture(tmp_path: Path) -> None:
    pcap = tmp_path / "tcp4.pcap"
    done = lab("run", "tcp4", "--without", "--json", "--pcap", str(pcap))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == json.loads(done.stdout)["size"]
    assert b"\x13BitTorrent protocol" in pcap.read_bytes()


@pytest.mark.lab
@pytest.mark.parametrize("arguments", [("run", "tcp4-transmission", "--without"), ("demo",)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_removes_everything_when_interrupted(
    arguments: tuple[str, ...], number: signal.Signals, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*LAB, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(tmp_path)},
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("btblocker-lab-*/downloader.log")):
        assert time.monotonic() < deadline, "no trial started"
        time.sleep(0.05)
    owners = {process.pid, *children(process.pid)}
    process.send_signal(number)
    process.send_signal(number)  # the impatient
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "lab: interrupted; everything is removed" in complaints
    assert list(tmp_path.iterdir()) == []
    ours = tuple(f"btb{owner}-" for owner in owners)
    assert [each.name for each in Path("/run/netns").iterdir() if each.name.startswith(ours)] == []


def children(pid: int) -> list[int]:
    """Direct children of a process (proc(5), task/children)."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

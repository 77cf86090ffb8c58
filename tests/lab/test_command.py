"""`python -m tools.lab` as a person meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CASE = "libtorrent-tcp-dial4"
LAB = [sys.executable, "-m", "tools.lab"]


def lab(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAB, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )


def test_lists_the_cases() -> None:
    listed = lab("list", "--json")
    assert listed.returncode == 0
    assert {case["family"] for case in json.loads(listed.stdout)} == {4, 6}
    assert CASE in lab("list").stdout


@pytest.mark.lab
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("run", "carrier-pigeon"), "lab: no case carrier-pigeon; `list` shows them all"),
        (("run", "libtorrent-tcp-dail4"), "did you mean libtorrent-tcp-dial4"),
        (("demo", "--cases", "libtorrent-tcp-dial4,nope"), "lab: no case nope"),
        (("run",), "lab: run what? Name cases of `list`"),
        (("run", CASE, "--pcap", "both.pcap"), "lab: --pcap holds one trial"),
        (("run", CASE, "--with", "--pcap", "/no/such/x.pcap"), "/no/such/x.pcap: no such folder"),
        (("demo", "--jobs", "0"), "between 1 and 64"),
        (("run", CASE, "--observe", "0"), "between 0 and 3600 seconds"),
        (("run", CASE, "--size", "-1"), "between 16 KiB and 1 GiB"),
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
    done = lab("run", CASE, "--without", "--json", "--pcap", str(pcap))
    assert done.returncode == 0, done.stderr
    (outcome,) = json.loads(done.stdout)["outcomes"]
    assert outcome["bytes"] == outcome["size"]
    assert b"\x13BitTorrent protocol" in pcap.read_bytes()


@pytest.mark.lab
@pytest.mark.parametrize(
    "arguments", [("run", "transmission-tcp-told4", "--ordinary", "--without"), ("demo",)]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_removes_everything_when_interrupted(
    arguments: tuple[str, ...], number: signal.Signals, tmp_path: Path
) -> None:
    process = start(arguments, tmp_path)
    owners = {process.pid, *children(process.pid)}
    process.send_signal(number)
    process.send_signal(number)  # the impatient
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "lab: interrupted; everything is removed" in complaints
    assert list(tmp_path.iterdir()) == []
    assert leftovers(owners) == []


@pytest.mark.lab
def test_clean_removes_what_the_killed_left_and_nothing_else(tmp_path: Path) -> None:
    arguments = ("run", "transmission-tcp-told4", "--ordinary", "--without")
    killed, living = start(arguments, tmp_path), start(arguments, tmp_path)
    try:
        before = leftovers({living.pid})
        killed.kill()
        killed.communicate()
        assert leftovers({killed.pid})
        cleaned = lab("clean", environment={**os.environ, "TMPDIR": str(tmp_path)})
        assert cleaned.returncode == 0
        assert f"btb{killed.pid}-" in cleaned.stdout
        assert f"btb{living.pid}-" not in cleaned.stdout
        assert leftovers({killed.pid}) == []
        assert list(tmp_path.glob(f"*btb{killed.pid}-*")) == []
        assert leftovers({living.pid}) == before
    finally:
        living.terminate()
        living.communicate(timeout=120)


def start(arguments: tuple[str, ...], folder: Path) -> subprocess.Popen[str]:
    """A lab with its files in `folder`, in the middle of a trial."""
    process = subprocess.Popen(
        [*LAB, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(folder)},
    )
    deadline = time.monotonic() + 30
    pids = {process.pid}
    while not any(list(folder.glob(f"*btb{pid}-*/line1/downloader.log")) for pid in pids):
        if time.monotonic() > deadline or process.poll() is not None:
            process.terminate()
            raise AssertionError(f"no trial started: {process.communicate(timeout=120)[1]}")
        time.sleep(0.05)
        pids = {process.pid, *children(process.pid)}
    return process


def leftovers(owners: set[int]) -> list[str]:
    """Namespaces, their files, and sockets of WireGuard that these labs have."""
    ours = tuple(f"btb{owner}-" for owner in owners)
    folders = (Path("/run/netns"), Path("/etc/netns"), Path("/run/wireguard"))
    found = [each for folder in folders if folder.exists() for each in folder.iterdir()]
    return sorted(str(each) for each in found if each.name.startswith(ours))


def children(pid: int) -> list[int]:
    """Direct children of a process (proc(5), task/children)."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

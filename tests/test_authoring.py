"""docs/authoring.md, followed to the letter: every file is written, every command is run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.captures import ethernet, pcap, udp
from tests.service.traffic import Datagrams
from tools.lab.blocker import run_blocker
from tools.lab.program import wait_until
from tools.lab.topology import LAN_INTERFACE, Topology

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = (ROOT / "docs" / "authoring.md").read_text("utf-8")
CAPTURE = "telegraph.pcap"
HELLO = b"TLG1\x01\0\0\x05hello"
LOG_LINE = b"<30>telegraph: TLG1 session opened"


@dataclass(frozen=True)
class Command:
    """What stands behind a `$`, and what is printed, where the tutorial shows it."""

    text: str
    printed: str

    @property
    def needs_root(self) -> bool:
        return self.text.startswith("sudo ")

    def prints(self, output: str) -> bool:
        """Whether the output is as shown; `...` stands for anything in a line."""
        pattern = re.escape(self.printed.rstrip()).replace(re.escape("..."), "[^\n]*")
        return not self.printed or re.fullmatch(pattern, output.expandtabs(4).rstrip()) is not None


@dataclass(frozen=True)
class SignatureFile:
    """A version of telegraph.yaml."""

    text: str


def steps() -> Iterator[Command | SignatureFile]:
    """The blocks of the tutorial, in order."""
    for kind, body in re.findall(r"```(console|yaml)\n(.*?)```", TUTORIAL, re.DOTALL):
        if kind == "yaml":
            yield SignatureFile(body)
        else:
            for command in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                text, _, printed = command.partition("\n")
                yield Command(text, printed)


COMMANDS = [step for step in steps() if isinstance(step, Command)]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a checkout has, so that the commands run as they are written."""
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    shutil.copytree(ROOT / "signatures", tmp_path / "signatures")
    return tmp_path


def run(command: Command, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run(
        ["bash", "-c", command.text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def telegraph_capture(path: Path) -> None:
    """A conversation, a query for its name, and a log line about it."""
    program, server = ("192.168.1.10", 40000), ("203.0.113.5", 4711)
    resolver = ("192.168.1.1", 53)
    query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\x09telegraph\7example\0\0\1\0\1"
    packets = [
        udp(*program, *server, HELLO),
        udp(*server, *program, b"TLG1\x02\0\0\x07welcome"),
        udp("192.168.1.10", 5353, *resolver, query),
        udp("192.168.1.10", 514, "192.168.1.2", 514, LOG_LINE),
        udp(*program, *server, b"TLG1\x03\0\0\0"),
    ]
    path.write_bytes(pcap(map(ethernet, packets)))


def test_the_tutorial_runs_as_it_is_written(checkout: Path) -> None:
    telegraph_capture(checkout / CAPTURE)
    for step in steps():
        if isinstance(step, SignatureFile):
            (checkout / "telegraph.yaml").write_text(step.text)
        elif not step.needs_root:
            done = run(step, checkout)
            assert done.stderr == "" or step.text.startswith("tcpdump"), step.text
            # 1 is what `--diff` says when something changes.
            assert done.returncode == ("--diff" in step.text), step.text
            assert step.prints(done.stdout), f"$ {step.text}\n{done.stdout}"


def test_the_tutorial_shows_the_whole_way() -> None:
    text = "\n".join(command.text for command in COMMANDS)
    for wanted in ("tcpdump", "check", "sigtest", "--explain", "--diff", "reload"):
        assert wanted in text
    assert [command.text for command in COMMANDS if command.needs_root] == [
        f"sudo tcpdump -i eth0 -U -w {CAPTURE} udp",
        "sudo .venv/bin/btblocker reload",
    ]


@pytest.mark.lab
def test_what_needs_root_does_what_the_tutorial_says(checkout: Path) -> None:
    capture, reload = (command for command in COMMANDS if command.needs_root)
    *_, last = (step for step in steps() if isinstance(step, SignatureFile))
    with (
        Topology() as topology,
        run_blocker(topology, "--signatures", str(checkout / "signatures")) as blocker,
        Datagrams(topology) as datagrams,
    ):
        command = capture.text.removeprefix("sudo ").replace("eth0", LAN_INTERFACE).split()
        program = topology.spawn(
            topology.router, ["env", "-C", str(checkout), *command], name="tcpdump"
        )
        wait_until(lambda: "listening on" in program.log.read_text(), 10, "tcpdump")
        assert datagrams.pass_through(HELLO)
        assert datagrams.pass_through(LOG_LINE)
        # The kernel hands packets over in blocks.
        wait_until(lambda: LOG_LINE in (checkout / CAPTURE).read_bytes(), 10, "captured")
        program.stop(signal.SIGINT)
        (checkout / "telegraph.yaml").write_text(last.text)
        found = run(Command(f"tools/sigtest --signatures telegraph.yaml {CAPTURE}", ""), checkout)
        assert "1 flow: example.telegraph" in found.stdout

        shutil.copy(checkout / "telegraph.yaml", checkout / "signatures")
        done = topology.router.run(
            ["bash", "-c", f"cd {checkout} && {reload.text.removeprefix('sudo ')}"]
        )
        assert reload.prints(done.stdout), done.stdout
        log = blocker.program.log
        wait_until(lambda: "signatures in force" in log.read_text(), 20, "reloaded")
        assert not datagrams.pass_through(HELLO)
        told = re.search(r"```\n(reloaded:.*?)```", TUTORIAL, re.DOTALL)
        assert told is not None
        for line in told[1].splitlines():
            pattern = re.escape(anonymous(line)).replace(re.escape("..."), ".*")
            assert re.search(pattern, anonymous(log.read_text())), line


def anonymous(log: str) -> str:
    """A log with other endpoints and after other packets reads the same."""
    return re.sub("packet [0-9]+", "packet N", re.sub(r"[0-9]+(\.[0-9]+){3}:[0-9]+", "END", log))

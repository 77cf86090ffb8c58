"""docs/tutorial.md, as somebody follows it who has nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.lab.leftovers import unique_name

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ("customer", "gateway", "internet")
STEP_S = 30.0


class Terminal:
    """A shell that is told one block after the other."""

    def __init__(self) -> None:
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # As in a terminal that is wide enough.
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def type(self, block: str) -> str:
        """What comes of it. Raises AssertionError where a command fails."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        # In this very shell, for its jobs; `-e` would end it.
        self._shell.stdin.write(f"trap 'failed=1' ERR; failed=0\n{block}\necho \"@@ $failed\"\n")
        self._shell.stdin.flush()
        said = ""
        for line in self._shell.stdout:
            if line.startswith("@@ "):
                assert line == "@@ 0\n", f"{block}\n{said}"
                return said
            said += line
        raise AssertionError(f"the shell has ended: {block}\n{said}")

    def close(self) -> None:
        if self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.communicate()


@pytest.fixture
def names(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the document's names stand for here, where others may follow it, too."""
    unique = unique_name()
    hosts = {host: f"{unique}-{host}" for host in HOSTS}
    yield {**hosts, "/tmp/btblocker-tutorial": str(tmp_path / "tutorial")}
    for host in hosts.values():
        subprocess.run(["ip", "netns", "delete", host], capture_output=True, check=False)


def _steps(names: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Each block of commands, and the lines that shall come of it."""
    text = (ROOT / "docs/tutorial.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", text, re.DOTALL)
    for commands, expected in blocks:
        typed = commands.replace("sudo ", "")
        for name, here in names.items():
            # Not in `--chain`, or in a path: as words.
            typed = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w])", here, typed)
        yield typed, expected.splitlines()


def _shows(said: str, line: str) -> bool:
    """Whether a line is in the output; `…` stands for what differs, blanks for any blanks."""
    parts = (r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in line.split("…"))
    return re.search(rf"^\s*{'.*'.join(parts)}", said, re.MULTILINE) is not None


def test_the_tutorial(names: dict[str, str]) -> None:
    terminal = Terminal()
    try:
        for commands, expected in _steps(names):
            said = terminal.type(commands)
            deadline = time.monotonic() + STEP_S
            # What only looks can look again.
            while not all(_shows(said, line) for line in expected) and commands.startswith("tail "):
                assert time.monotonic() < deadline, f"{expected} not in {said}"
                time.sleep(0.2)
                said = terminal.type(commands)
            for line in expected:
                assert _shows(said, line), f"{line!r} does not come of\n{commands}\nbut\n{said}"
    finally:
        terminal.close()
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert not any(host in listed.stdout for host in names.values()), "it cleans up"

"""A machine to install on: this one's files under an overlay, with a systemd of its own.

Nothing written there reaches this machine's disk. Its processes, mounts, host name and control
groups are its own, its network is a namespace of the lab's.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.lab.leftovers import unique_name
from tools.lab.program import Program, wait_until
from tools.lab.topology import Topology

_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parent.parent
_BOOT_TIMEOUT_S = 20.0
_END_TIMEOUT_S = 5.0
_COMMAND_TIMEOUT_S = 60.0

_UNSHARE = "unshare --mount --pid --cgroup --uts --ipc --fork --kill-child --propagation private"


@dataclass(frozen=True, slots=True)
class Machine:
    """A running one; `boot` makes it."""

    program: Program
    base: Path

    @property
    def first_process(self) -> str:
        """The number of systemd, the only child of what made the namespaces; "" at first."""
        pid = self.program.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()

    @property
    def root(self) -> Path:
        """Its root folder, as this machine sees it."""
        return Path("/proc", self.first_process, "root")

    @property
    def service_log(self) -> Path:
        """What the service has said."""
        return self.root / "run/btblocker.log"

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command to its end; gives what it printed. Raises RuntimeError if it fails."""
        return self._enter(["--all", "--root", "--wd=/"], command, check)

    def changed(self) -> set[str]:
        """All files that are not as on this machine, without those that dpkg keeps of its work."""
        upper = f"{self.base}/upper"
        shown = self._enter(["--mount"], ["find", upper, "-not", "-type", "d"], True)
        files = {line.removeprefix(upper) for line in shown.splitlines()}
        kept = ("/var/lib/dpkg/", "/var/lib/systemd/", "/var/log/", "/var/cache/")
        return {file for file in files if not file.startswith(kept)}

    def is_up(self) -> bool:
        """Whether its systemd has started all that it shall."""
        if not self.first_process:
            return False
        state = self.run("systemctl", "is-system-running", check=False)
        return state.strip() in ("running", "degraded")

    def _enter(self, how: list[str], command: tuple[str, ...] | list[str], check: bool) -> str:
        done = subprocess.run(
            ["nsenter", "--target", self.first_process, *how, *command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stdout}")
        return done.stdout


@contextlib.contextmanager
def boot(topology: Topology) -> Iterator[Machine]:
    """A machine whose network is the router's, while the block lasts."""
    base = topology.folder / "machine"
    base.mkdir()
    with _control_group() as group:
        # In a network namespace of `ip netns` there is another /sys, without control groups.
        begin = (
            f"mount -t cgroup2 cgroup2 {base} && echo $$ >{base}/{group.name}/cgroup.procs && "
            f"umount {base} && exec {_UNSHARE} bash {_HERE}/boot.sh"
        )
        program = topology.spawn(
            topology.router,
            ["bash", "-c", begin],
            name="machine",
            environment={"BASE": str(base), "HIDDEN": str(_CHECKOUT)},
        )
        machine = Machine(program, base)
        try:
            program.wait_for(machine.is_up, _BOOT_TIMEOUT_S)
            yield machine
        finally:
            if (log := machine.service_log).exists():
                print(log.read_text())  # pytest shows it if the test failed
            # Its processes end with the one that made their namespace.
            program.stop(signal.SIGKILL)


@contextlib.contextmanager
def _control_group() -> Iterator[Path]:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    place = next(line.split()[4] for line in mounts if " - cgroup2 " in line)
    group = Path(place, unique_name())
    group.mkdir()
    try:
        yield group
    finally:
        events = group / "cgroup.events"
        wait_until(lambda: "populated 0" in events.read_text(), _END_TIMEOUT_S, "machine off")
        for folder in sorted(group.rglob("*/"), reverse=True):
            folder.rmdir()
        group.rmdir()

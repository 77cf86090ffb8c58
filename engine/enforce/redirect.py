"""The iptables rules that hand TCP and UDP packets, and tunnels with some inside, to the queue.

They sit in the mangle table, in a chain of their own. After a verdict of ACCEPT a packet
goes on with the next hook, not with the next rule: in the filter table it would skip the
operator's own firewall. For the same reason the jump is appended: the operator's rules in
mangle (MSS clamping, marks) come before it and keep working. `--queue-bypass` lets packets
pass while nobody listens on the queue; who would rather cut the traffic off goes without.

The kernel puts fragments together for connection tracking, before any packet comes here, in a
network namespace in which a rule asks for its states. So one of ours does, and does nothing
else. Without it the first fragment of a packet would come alone, and all the others without
ports.
"""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.config import Settings
from engine.errors import InputError, UnavailableError

_log = logging.getLogger(__name__)

DEFAULT_CHAINS = ("INPUT", "FORWARD")

_TABLE = "mangle"
_HOOKS = ("INPUT", "FORWARD", "OUTPUT")
# A tunnel that begins or ends on this machine is seen without its outer header anyway.
_FORWARDED = "-m addrtype ! --src-type LOCAL ! --dst-type LOCAL"
_PROTOCOLS = ("-p tcp", "-p udp")
# IPv4 and IPv6 in IP, and GRE.
_TUNNELS = tuple(f"-p {number} {_FORWARDED}" for number in (4, 41, 47))
_FRAGMENTS = "-m conntrack --ctstate UNTRACKED"
_MAX_QUEUE_NUM = 65_535
_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


_IPV4 = "iptables"
_IPV6 = "ip6tables"


class Redirect:
    """The rules for one queue, in both IP versions. As a context manager, there while open.

    The chain's name carries the queue number, so that instances with other queues do not
    meet. What a killed run left behind is replaced by `install` and taken away by `remove`.
    """

    def __init__(
        self,
        queue_num: int,
        chains: Sequence[str] = DEFAULT_CHAINS,
        *,
        queues: int = 1,
        fail_open: bool = True,
        tunnels: bool = True,
        defragment: bool = True,
    ) -> None:
        """Packets are spread over `queues` queues from `queue_num` on, both ways of a flow to one.

        Where nobody listens they pass if `fail_open`, and are dropped otherwise. `tunnels`: those
        that pass through are queued as well; `defragment`: fragments come as the packets they are
        of.

        Raises InputError for a queue number or a chain that iptables does not know.
        """
        last = queue_num + queues - 1
        if not 0 <= queue_num <= last <= _MAX_QUEUE_NUM:
            raise InputError(f"queue number {last} is out of range: 0 to {_MAX_QUEUE_NUM}")
        for chain in chains:
            if chain not in _HOOKS:
                raise InputError(f"there is no chain {chain!r}: choose from {', '.join(_HOOKS)}")
        self._own_chain = f"BTBLOCKER-{queue_num}"
        target = (
            f"--queue-num {queue_num}" if queues == 1 else f"--queue-balance {queue_num}:{last}"
        )
        if fail_open:
            target += " --queue-bypass"
        queued = _PROTOCOLS + _TUNNELS if tunnels else _PROTOCOLS
        self._queue_rules = [
            *([f"-A {self._own_chain} {_FRAGMENTS}"] if defragment else []),
            *(f"-A {self._own_chain} {packets} -j NFQUEUE {target}" for packets in queued),
        ]
        self._jumps = [f"-A {chain} -j {self._own_chain}" for chain in dict.fromkeys(chains)]

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def rules(self) -> list[str]:
        """The same rules as shell commands, for an operator who manages them alone."""
        return [
            f"{command} -t {_TABLE} {rule}"
            for command in (_IPV4, _IPV6)
            for rule in (f"-N {self._own_chain}", *self._queue_rules, *self._jumps)
        ]

    def install(self) -> None:
        """Put the rules in place, all of them or none.

        Where the kernel or the machine has no IPv6 filter, IPv4 goes on alone with a
        warning. Raises UnavailableError if iptables is missing or refuses.
        """
        self._install(_IPV4)
        missing = _why_no_ipv6()
        if missing:
            _log.warning("%s: only IPv4 is redirected to the queue", missing)
            return
        try:
            self._install(_IPV6)
        except BaseException:
            self._remove(_IPV4)
            raise

    def remove(self) -> list[str]:
        """Take our rules away and nothing else; gives the commands that had some.

        Raises UnavailableError if iptables is missing or refuses, after both versions
        were tried.
        """
        had_some = []
        try:
            had_some += [_IPV4] * self._remove(_IPV4)
        finally:
            if not _why_no_ipv6():
                had_some += [_IPV6] * self._remove(_IPV6)
        return had_some

    def missing(self) -> list[str]:
        """Those of `rules` that are not in place. Raises UnavailableError as `install` does."""
        lacking = []
        for command in [_IPV4] if _why_no_ipv6() else [_IPV4, _IPV6]:
            _run([command, "-w", "-t", _TABLE, "-S"])  # which complains, where the others say no
            mine = [rule for rule in self.rules() if rule.startswith(f"{command} ")]
            lacking += [rule for rule in mine if not _is_there(rule)]
        return lacking

    def _install(self, command: str) -> None:
        # One transaction: declaring the chain also empties a leftover one.
        present = _run([command, "-w", "-t", _TABLE, "-S"])
        _restore(
            command,
            [
                f":{self._own_chain} - [0:0]",
                *self._deletions(present),
                *self._queue_rules,
                *self._jumps,
            ],
        )

    def _remove(self, command: str) -> bool:
        """Whether there were some."""
        present = _run([command, "-w", "-t", _TABLE, "-S"])
        if f"-N {self._own_chain}" in present.splitlines():
            emptied = [f"-F {self._own_chain}", f"-X {self._own_chain}"]
            _restore(command, [*self._deletions(present), *emptied])
            return True
        return False

    def _deletions(self, present: str) -> list[str]:
        """A -D for each jump to our chain, whoever added it, from the output of -S."""
        jump = re.compile(rf"-A (.* -j {re.escape(self._own_chain)})$", re.MULTILINE)
        return [f"-D {match[1]}" for match in jump.finditer(present)]


def redirect_for(settings: Settings) -> Redirect:
    """The rules that a blocker with these settings wants."""
    return Redirect(
        settings.queue_num,
        settings.chain,
        queues=settings.workers,
        fail_open=settings.fail_open,
        tunnels=settings.tunnels,
        defragment=settings.defragment,
    )


def _why_no_ipv6() -> str:
    """Empty if IPv6 packets can be redirected here, else the reason."""
    if not Path("/proc/net/if_inet6").exists():
        return "the kernel has no IPv6"
    if shutil.which(_IPV6) is None:
        return "ip6tables is not installed"
    return ""


def _is_there(rule: str) -> bool:
    """Ask iptables, who may print a rule in other words than it was given in."""
    asked = {"-N": "-S", "-A": "-C"}
    command, *words = (asked.get(word, word) for word in shlex.split(rule))
    return _call([command, "-w", *words]).returncode == 0


def _restore(command: str, lines: Sequence[str]) -> None:
    """Apply lines to the table in one transaction, leaving everything else in it alone."""
    _run(
        [f"{command}-restore", "--noflush", "-w"],
        "\n".join([f"*{_TABLE}", *lines, "COMMIT", ""]),
    )


def _run(command: Sequence[str], stdin: str = "") -> str:
    done = _call(command, stdin)
    if done.returncode != 0:
        raise _refused(done)
    return done.stdout


def _call(command: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    # A second Ctrl-C goes to the whole foreground group. The command inherits the mask, so what
    # is meant for us cannot end it half-way; for us the signal waits until it is done.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UnavailableError(f"{command[0]} is not installed: apt-get install iptables") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _refused(done: subprocess.CompletedProcess[str]) -> UnavailableError:
    reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
    return UnavailableError(f"{done.args[0]} refuses the rules of table {_TABLE}: {reason}")

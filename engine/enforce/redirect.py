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

Connections that are marked (`connmark`) have a chain beside it, and where they are to be reset one
in the filter table, ahead of the operator's own rules.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.config import Settings
from engine.enforce.acknowledgement_rules import acknowledgements_pass
from engine.enforce.connmark import MarkBits
from engine.enforce.marked_rules import before_queue, for_marked, resetting
from engine.errors import InputError, UnavailableError

_log = logging.getLogger(__name__)

DEFAULT_CHAINS = ("INPUT", "FORWARD")

_MANGLE, _FILTER = "mangle", "filter"
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
_VERSIONS = {_IPV4: 4, _IPV6: 6}

# Chains and the rules in each.
_Chains = Mapping[str, Sequence[str]]


class Redirect:
    """The rules for one queue, in both IP versions. As a context manager, there while open.

    The chains' names carry the queue number, so that instances with other queues do not
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
        marks: MarkBits | None = None,
        reset: bool = False,
    ) -> None:
        """Packets are spread over `queues` queues from `queue_num` on, both ways of a flow to one.

        Where nobody listens they pass if `fail_open`, and are dropped otherwise. `tunnels`: those
        that pass through are queued as well; `defragment`: fragments come as the packets they are
        of. Connections that have `marks` pass by the queue or are dropped; with `reset` the ends
        of those that are dropped are told so.

        Raises InputError for a queue number or a chain that iptables does not know.
        """
        last = queue_num + queues - 1
        if not 0 <= queue_num <= last <= _MAX_QUEUE_NUM:
            raise InputError(f"queue number {last} is out of range: 0 to {_MAX_QUEUE_NUM}")
        for chain in chains:
            if chain not in _HOOKS:
                raise InputError(f"there is no chain {chain!r}: choose from {', '.join(_HOOKS)}")
        self._own_chain = f"BTBLOCKER-{queue_num}"
        self._marked_chain = f"{self._own_chain}-MARKED"
        self._hooks = tuple(dict.fromkeys(chains))
        numbers = (
            f"--queue-num {queue_num}" if queues == 1 else f"--queue-balance {queue_num}:{last}"
        )
        self._to_queue = f"NFQUEUE {numbers}{' --queue-bypass' if fail_open else ''}"
        self._queued = _PROTOCOLS + _TUNNELS if tunnels else _PROTOCOLS
        self._defragment = defragment
        self._marks = marks
        self._reset = reset and marks is not None

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
            f"{command} -t {table} {rule}"
            for command in _VERSIONS
            for table, chains in self._wanted(command).items()
            if chains
            for rule in (
                *(f"-N {chain}" for chain in chains),
                *_contents(chains),
                *self._jumps(table),
            )
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
            # Which complains, where the others say no.
            _run(_MANGLE, [command, "-w", "-t", _MANGLE, "-S"])
            mine = [rule for rule in self.rules() if rule.startswith(f"{command} ")]
            lacking += [rule for rule in mine if not _is_there(rule)]
        return lacking

    def _wanted(self, command: str) -> dict[str, _Chains]:
        """By table; what resets connections before what hands them to it."""
        queue = [_FRAGMENTS] if self._defragment else []
        mangle = {self._own_chain: queue}
        filters = {}
        if self._marks is not None:
            queue += before_queue(self._marks, self._marked_chain)
            mangle[self._marked_chain] = [
                *for_marked(self._marks, self._to_queue, _VERSIONS[command], reset=self._reset)
            ]
            if self._reset:
                filters[self._own_chain] = [*resetting(self._marks)]
        queue.append(acknowledgements_pass(_VERSIONS[command], sampled=self._marks is not None))
        queue += [f"{packets} -j {self._to_queue}" for packets in self._queued]
        return {_FILTER: filters, _MANGLE: mangle}

    def _jumps(self, table: str) -> list[str]:
        if table == _MANGLE:
            return [f"-A {hook} -j {self._own_chain}" for hook in self._hooks]
        return [f"-I {hook} -j {self._own_chain}" for hook in self._hooks]

    def _install(self, command: str) -> None:
        try:
            for table, chains in self._wanted(command).items():
                self._replace(command, table, chains)
        except UnavailableError:
            with contextlib.suppress(UnavailableError):
                self._replace(command, _FILTER, {})
            raise

    def _remove(self, command: str) -> bool:
        """Whether there were some."""
        had_mangle = self._replace(command, _MANGLE, {})
        return self._replace(command, _FILTER, {}) or had_mangle

    def _replace(self, command: str, table: str, chains: _Chains) -> bool:
        """Have these chains of ours in a table, with jumps to the first, and no others.

        Gives whether that has changed anything.
        """
        present = _run(table, [command, "-w", "-t", table, "-S"])
        known = {self._own_chain, self._marked_chain}
        leftover = [line[3:] for line in present.splitlines() if line[:3] == "-N "]
        leftover = [chain for chain in leftover if chain in known and chain not in chains]
        # One transaction: declaring a chain also empties the one that is there.
        lines = [
            *(f":{chain} - [0:0]" for chain in (*chains, *leftover)),
            *self._deletions(present),
            *(f"-X {chain}" for chain in leftover),
            *_contents(chains),
            *(self._jumps(table) if chains else ()),
        ]
        if lines:
            _restore(command, table, lines)
        return bool(lines)

    def _deletions(self, present: str) -> list[str]:
        """A -D for each jump to our chain, whoever added it, from the output of -S."""
        jump = re.compile(rf"-A (.* -j {re.escape(self._own_chain)})$", re.MULTILINE)
        return [f"-D {match[1]}" for match in jump.finditer(present)]


def _contents(chains: _Chains) -> list[str]:
    return [f"-A {chain} {rule}" for chain, rules in chains.items() for rule in rules]


def redirect_for(settings: Settings) -> Redirect:
    """The rules that a blocker with these settings wants."""
    return Redirect(
        settings.queue_num,
        settings.chain,
        queues=settings.workers,
        fail_open=settings.fail_open,
        tunnels=settings.tunnels,
        defragment=settings.defragment,
        marks=MarkBits.of(settings.mark_bits) if settings.mark_bits else None,
        reset=settings.reset,
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
    asked = {"-N": "-S", "-A": "-C", "-I": "-C"}
    command, *words = (asked.get(word, word) for word in shlex.split(rule))
    return _call([command, "-w", *words]).returncode == 0


def _restore(command: str, table: str, lines: Sequence[str]) -> None:
    """Apply lines to a table in one transaction, leaving everything else in it alone."""
    _run(
        table,
        [f"{command}-restore", "--noflush", "-w"],
        "\n".join([f"*{table}", *lines, "COMMIT", ""]),
    )


def _run(table: str, command: Sequence[str], stdin: str = "") -> str:
    done = _call(command, stdin)
    if done.returncode != 0:
        raise _refused(table, done)
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


def _refused(table: str, done: subprocess.CompletedProcess[str]) -> UnavailableError:
    reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
    return UnavailableError(f"{done.args[0]} refuses the rules of table {table}: {reason}")

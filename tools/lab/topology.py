"""Clients, a router and servers in network namespaces, gone without a trace at the end.

    client 10.77.1.2  2001:db8:77:1::2 --- lan [router] wan --- 10.77.2.2  2001:db8:77:2::2 server

That is line 1. Line 2 passes the same router, from 10.77.3.2 by lan2 and wan2 to 10.77.4.2, and
so on. Addresses are the same in every topology: namespaces keep topologies apart, and equal
addresses keep results readable. Namespace names are unique, so topologies can run in
parallel. The IPv6 ones are of the documentation's prefix (RFC 3849), since Transmission uses
IPv6 only where it has a global unicast address.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from engine.errors import UnavailableError
from tools.lab.addresses import Family, LineAddresses, with_prefix
from tools.lab.interrupts import interrupts_held
from tools.lab.leftovers import make_folder, remove_namespace, unique_name
from tools.lab.namespace import Namespace
from tools.lab.program import STOP_TIMEOUT_S, LabError, Program

LAN_INTERFACE = "lan"
WAN_INTERFACE = "wan"
HOST_INTERFACE = "eth0"

_FAMILIES: tuple[Family, ...] = (4, 6)
_COMMAND_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """A client on the router's inner side and a server on its outer side."""

    topology: Topology
    number: int
    """From 1 on."""
    families: tuple[Family, ...]
    """In which it has addresses."""
    client: Namespace
    server: Namespace

    @property
    def router(self) -> Namespace:
        return self.topology.router

    @property
    def folder(self) -> Path:
        """For the files of this line's programs."""
        return self.topology.folder / f"line{self.number}"

    @property
    def lan_interface(self) -> str:
        """The router's, towards the client."""
        return LAN_INTERFACE if self.number == 1 else f"{LAN_INTERFACE}{self.number}"

    @property
    def wan_interface(self) -> str:
        """The router's, towards the server."""
        return WAN_INTERFACE if self.number == 1 else f"{WAN_INTERFACE}{self.number}"

    @property
    def addresses(self) -> LineAddresses:
        return LineAddresses(self.number)

    def client_address(self, family: Family) -> str:
        return self.addresses.client(family)

    def server_address(self, family: Family) -> str:
        return self.addresses.server(family)

    def spawn(
        self,
        where: Namespace,
        argv: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Start `argv` in a namespace; it lives no longer than the topology."""
        return self.topology.spawn(
            where, argv, name=name, environment=environment, folder=self.folder
        )

    def add_distant_addresses(self, count: int, family: Family) -> list[str]:
        """Give the server `count` more addresses, each of a network of its own; call it once."""
        addresses = [self.addresses.distant(family, index) for index in range(1, count + 1)]
        # On the interface with the default route: a client may think other ones lead nowhere.
        _ip(self.server.name, [_address(each, family, HOST_INTERFACE) for each in addresses])
        route = f"via {self.server_address(family)} dev {self.wan_interface}"
        _ip(self.router.name, [f"route add {self.addresses.distant_network(family)} {route}"])
        return addresses


class Topology:
    """A router with its lines, two veth pairs for each, static routes, both address families.

    A context manager: on exit, whatever the reason, every program started here is ended and
    every namespace, file and folder made here is removed.

    `lines` are the address families of each line, so that a test of one family cannot pass by
    the other; without any there is one line with both.
    `offloads=False` turns TSO, GSO and GRO off: packets are then what a wire would carry.
    """

    def __init__(self, *lines: Sequence[Family], offloads: bool = True) -> None:
        self._offloads = offloads
        unique = unique_name()
        self.router = Namespace(f"{unique}-router")
        self.lines = tuple(
            Line(
                self,
                number,
                tuple(families),
                Namespace(f"{unique}-client{number}"),
                Namespace(f"{unique}-server{number}"),
            )
            for number, families in enumerate(lines or [_FAMILIES], start=1)
        )
        self._programs: list[Program] = []
        self._undo = contextlib.ExitStack()
        self.folder = Path()

    @property
    def client(self) -> Namespace:
        """Of line 1."""
        return self.lines[0].client

    @property
    def server(self) -> Namespace:
        """Of line 1."""
        return self.lines[0].server

    @property
    def interfaces(self) -> tuple[str, ...]:
        """All of the router's."""
        return tuple(
            name for line in self.lines for name in (line.lan_interface, line.wan_interface)
        )

    def client_address(self, family: Family) -> str:
        return self.lines[0].client_address(family)

    def server_address(self, family: Family) -> str:
        return self.lines[0].server_address(family)

    def __enter__(self) -> Topology:
        if os.geteuid() != 0:
            raise UnavailableError("lab: making network namespaces needs root: try sudo")
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the programs, remove the namespaces and files; safe to call again."""
        with interrupts_held():  # a second one must not cut the cleaning short
            for program in self._programs:
                if program.process.poll() is None:
                    program.process.terminate()
            deadline = time.monotonic() + STOP_TIMEOUT_S
            for program in reversed(self._programs):
                program.stop(timeout_s=max(0.0, deadline - time.monotonic()))
            self._programs.clear()
            self._undo.close()

    def spawn(
        self,
        where: Namespace,
        argv: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Program:
        """Start `argv` in a namespace; it lives no longer than the topology.

        What it prints and what it keeps at home goes to `folder`, or to the topology's.
        """
        home = folder or self.folder
        log = home / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                where.command(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HOME": str(home), "TMPDIR": str(home), **(environment or {})},
                # Ctrl-C is for the lab, which then stops its programs in order.
                start_new_session=True,
            )
        program = Program(name, process, log)
        self._programs.append(program)
        return program

    def set_file(self, where: Namespace, name: str, text: str) -> None:
        """Let programs started in a namespace from now on find `text` in /etc/NAME."""
        folder = Path("/etc/netns") / where.name  # ip-netns(8); goes with the namespace
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    def set_hosts(self, where: Namespace, names: Mapping[str, Sequence[str]]) -> None:
        """Map host names to addresses for programs started in a namespace from now on."""
        lines = ["127.0.0.1 localhost"]
        lines += [f"{each} {name}" for name, addresses in names.items() for each in addresses]
        self.set_file(where, "hosts", "\n".join(lines) + "\n")

    def _build(self) -> None:
        self.folder = make_folder()
        self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._add_namespace(self.router, {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
        _ip(self.router.name, ["link set lo up"])
        for line in self.lines:
            self._build_line(line)

    def _add_namespace(self, where: Namespace, settings: Mapping[str, int]) -> None:
        # First the removal, then the making: an interrupt between them leaves nothing.
        self._undo.callback(remove_namespace, where.name)
        _ip(None, [f"netns add {where.name}"])
        settings = {"ipv6/conf/all/accept_dad": 0, "ipv6/conf/default/accept_dad": 0, **settings}
        script = "; ".join(f"echo {value} > /proc/sys/net/{key}" for key, value in settings.items())
        where.run(["sh", "-ec", script])
        # The machine's own resolver is out of reach here: names fail at once, not after 5 s.
        self.set_file(where, "resolv.conf", "nameserver 127.0.0.1\n")

    def _build_line(self, line: Line) -> None:
        line.folder.mkdir()
        for side, (interface, host) in enumerate(
            ((line.lan_interface, line.client), (line.wan_interface, line.server))
        ):
            self._add_namespace(host, {})
            _ip(
                None,
                [
                    f"link add {interface} netns {self.router.name} type veth "
                    f"peer name {HOST_INTERFACE} netns {host.name}"
                ],
            )
            own = line.client_address if host is line.client else line.server_address
            gateways = {each: line.addresses.gateways(each)[side] for each in line.families}
            _ip(
                self.router.name,
                [
                    f"link set {interface} up",
                    *(_address(gateways[each], each, interface) for each in gateways),
                ],
            )
            _ip(
                host.name,
                [
                    "link set lo up",
                    f"link set {HOST_INTERFACE} up",
                    *(_address(own(each), each, HOST_INTERFACE) for each in gateways),
                    *(
                        f"route add default via {gateway} dev {HOST_INTERFACE}"
                        for gateway in gateways.values()
                    ),
                ],
            )
            if not self._offloads:
                for where, name in ((host, HOST_INTERFACE), (self.router, interface)):
                    where.run(["ethtool", "-K", name, "tso", "off", "gso", "off", "gro", "off"])


def _address(address: str, family: Family, interface: str) -> str:
    # Duplicate address detection would hold an IPv6 address back for a second.
    no_detection = " nodad" if family == 6 else ""
    return f"addr add {with_prefix(address, family)} dev {interface}{no_detection}"


def _ip(namespace: str | None, commands: Sequence[str]) -> None:
    """Run `ip` commands, all in one process; raises LabError on the first that fails."""
    inside = ["-n", namespace] if namespace else []
    done = subprocess.run(
        ["ip", *inside, "-batch", "-"],
        input="\n".join(commands) + "\n",
        capture_output=True,
        text=True,
        timeout=_COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise LabError(f"lab: ip {'; '.join(commands)}: {done.stderr.strip()}")

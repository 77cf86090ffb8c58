"""A client, a router and a server in network namespaces, gone without a trace at the end.

    client 10.77.1.2  2001:db8:77:1::2 --- lan [router] wan --- 10.77.2.2  2001:db8:77:2::2 server

Addresses are the same in every topology: namespaces keep topologies apart, and equal
addresses keep results readable. Namespace names are unique, so topologies can run in
parallel. The IPv6 ones are of the documentation's prefix (RFC 3849), since Transmission uses
IPv6 only where it has a global unicast address.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Literal

from engine.errors import UnavailableError
from tools.lab.namespace import Namespace
from tools.lab.program import LabError, Program

Family = Literal[4, 6]

LAN_INTERFACE = "lan"
WAN_INTERFACE = "wan"
HOST_INTERFACE = "eth0"

_CLIENT: dict[Family, str] = {4: "10.77.1.2", 6: "2001:db8:77:1::2"}
_SERVER: dict[Family, str] = {4: "10.77.2.2", 6: "2001:db8:77:2::2"}
_LAN_GATEWAY: dict[Family, str] = {4: "10.77.1.1", 6: "2001:db8:77:1::1"}
_WAN_GATEWAY: dict[Family, str] = {4: "10.77.2.1", 6: "2001:db8:77:2::1"}
# The network of all addresses behind the server, and one address for each number.
_DISTANT: dict[Family, tuple[str, str]] = {
    4: ("10.78.0.0/16", "10.78.{}.1"),
    6: ("2001:db8:78::/48", "2001:db8:78:{}::1"),
}
_PREFIX_BITS: dict[Family, int] = {4: 24, 6: 64}

_COMMAND_TIMEOUT_S = 10.0
_serial = itertools.count(1)


def endpoint(address: str, port: int) -> str:
    """`ip:port`, with an IPv6 address in brackets (RFC 3986)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Topology:
    """Three namespaces, two veth pairs, static routes, both address families.

    A context manager: on exit, whatever the reason, every program started here is ended and
    every namespace, file and folder made here is removed.

    `families` limits the addresses, so that a test of one family cannot pass by the other.
    `offloads=False` turns TSO, GSO and GRO off: packets are then what a wire would carry.
    """

    def __init__(self, families: Sequence[Family] = (4, 6), *, offloads: bool = True) -> None:
        self.families = tuple(families)
        self._offloads = offloads
        unique = f"btb{os.getpid()}-{next(_serial)}"
        self.client = Namespace(f"{unique}-client")
        self.router = Namespace(f"{unique}-router")
        self.server = Namespace(f"{unique}-server")
        self._programs: list[Program] = []
        self._undo = contextlib.ExitStack()
        self.folder = Path()

    @staticmethod
    def client_address(family: Family) -> str:
        return _CLIENT[family]

    @staticmethod
    def server_address(family: Family) -> str:
        return _SERVER[family]

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
        with _interrupts_held():
            for program in self._programs:
                if program.process.poll() is None:
                    program.process.terminate()
            for program in reversed(self._programs):
                program.stop()
            self._programs.clear()
            self._undo.close()

    def spawn(
        self,
        where: Namespace,
        argv: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Start `argv` in a namespace; it lives no longer than the topology."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                where.command(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HOME": str(self.folder), **(environment or {})},
                # Ctrl-C is for the lab, which then stops its programs in order.
                start_new_session=True,
            )
        program = Program(name, process, log)
        self._programs.append(program)
        return program

    def add_distant_addresses(self, count: int, family: Family) -> list[str]:
        """Give the server `count` more addresses, each of a network of its own; call it once."""
        network, stem = _DISTANT[family]
        addresses = [stem.format(index) for index in range(1, count + 1)]
        # On the interface with the default route: a client may think other ones lead nowhere.
        _ip(self.server.name, [_address(each, family, HOST_INTERFACE) for each in addresses])
        _ip(self.router.name, [f"route add {network} via {_SERVER[family]} dev {WAN_INTERFACE}"])
        return addresses

    def set_hosts(self, where: Namespace, names: Mapping[str, Sequence[str]]) -> None:
        """Map host names to addresses for programs started in a namespace from now on."""
        folder = Path("/etc/netns") / where.name
        if not folder.exists():
            folder.mkdir(parents=True)
            self._undo.callback(_remove_netns_folder, folder)
        lines = ["127.0.0.1 localhost"]
        lines += [f"{each} {name}" for name, addresses in names.items() for each in addresses]
        (folder / "hosts").write_text("\n".join(lines) + "\n")

    def _build(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="btblocker-lab-"))
        self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
        for each in (self.client, self.router, self.server):
            # First the removal, then the making: an interrupt between them leaves nothing.
            self._undo.callback(_remove_namespace, each.name)
            _ip(None, [f"netns add {each.name}"])
            self._configure_kernel(each)
        pairs = ((LAN_INTERFACE, self.client), (WAN_INTERFACE, self.server))
        _ip(
            None,
            [
                f"link add {interface} netns {self.router.name} type veth "
                f"peer name {HOST_INTERFACE} netns {host.name}"
                for interface, host in pairs
            ],
        )
        self._address_router()
        self._address_host(self.client, _CLIENT, _LAN_GATEWAY)
        self._address_host(self.server, _SERVER, _WAN_GATEWAY)
        if not self._offloads:
            for where, interface in (
                (self.client, HOST_INTERFACE),
                (self.server, HOST_INTERFACE),
                (self.router, LAN_INTERFACE),
                (self.router, WAN_INTERFACE),
            ):
                where.run(["ethtool", "-K", interface, "tso", "off", "gso", "off", "gro", "off"])

    def _configure_kernel(self, where: Namespace) -> None:
        settings = {"ipv6/conf/all/accept_dad": 0, "ipv6/conf/default/accept_dad": 0}
        if where is self.router:
            settings |= {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1}
        script = "; ".join(f"echo {value} > /proc/sys/net/{key}" for key, value in settings.items())
        where.run(["sh", "-ec", script])

    def _address_router(self) -> None:
        gateways = ((LAN_INTERFACE, _LAN_GATEWAY), (WAN_INTERFACE, _WAN_GATEWAY))
        _ip(
            self.router.name,
            [
                "link set lo up",
                *(f"link set {interface} up" for interface, _ in gateways),
                *(
                    _address(gateway[family], family, interface)
                    for interface, gateway in gateways
                    for family in self.families
                ),
            ],
        )

    def _address_host(
        self, host: Namespace, own: Mapping[Family, str], gateway: Mapping[Family, str]
    ) -> None:
        _ip(
            host.name,
            [
                "link set lo up",
                f"link set {HOST_INTERFACE} up",
                *(_address(own[family], family, HOST_INTERFACE) for family in self.families),
                *(
                    f"route add default via {gateway[family]} dev {HOST_INTERFACE}"
                    for family in self.families
                ),
            ],
        )


def _address(address: str, family: Family, interface: str) -> str:
    # Duplicate address detection would hold an IPv6 address back for a second.
    no_detection = " nodad" if family == 6 else ""
    return f"addr add {address}/{_PREFIX_BITS[family]} dev {interface}{no_detection}"


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


def _remove_namespace(name: str) -> None:
    if Path("/run/netns", name).exists():
        _ip(None, [f"netns delete {name}"])


def _remove_netns_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # other topologies may have theirs there
        folder.parent.rmdir()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back while cleaning up: a second one must not cut that short."""
    if threading.current_thread() is not threading.main_thread():  # never interrupted
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    old = {
        number: signal.signal(number, lambda *details: received.append(details))
        for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt

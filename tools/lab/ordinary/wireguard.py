"""WireGuard in user space (wireguard-go), with a web page at the other end of the tunnel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.lab.addresses import Family, endpoint
from tools.lab.clients.peer import random_port
from tools.lab.leftovers import unique_name
from tools.lab.namespace import Namespace
from tools.lab.ordinary.content import Content
from tools.lab.ordinary.web import curl, start_httpd
from tools.lab.topology import Line

_READY_TIMEOUT_S = 10.0
_INNER_CLIENT, _INNER_SERVER = "10.99.0.2", "10.99.0.1"


@dataclass(frozen=True, slots=True)
class _End:
    """One end of the tunnel."""

    where: Namespace
    interface: str
    key: Path
    public_key: str
    port: int


class WireGuard:
    """What is fetched comes through the tunnel; the router sees WireGuard alone."""

    def __init__(self, line: Line, content: Content, family: Family) -> None:
        self._line = line
        self._content = content
        # The sockets to configure them lie in one folder for all namespaces.
        unique = unique_name()
        server = self._start(line.server, f"{unique}s")
        client = self._start(line.client, f"{unique}c")
        address = line.server_address(family)
        self._configure(server, client.public_key, _INNER_CLIENT, _INNER_SERVER)
        self._configure(
            client, server.public_key, _INNER_SERVER, _INNER_CLIENT, endpoint(address, server.port)
        )
        url = start_httpd(line, _INNER_SERVER, content, "wireguard-http")
        self._url = f"{url}/{Content.payload}"

    def use(self) -> None:
        copy = self._line.folder / "wireguard.copy"
        curl(self._line, self._url, copy)
        self._content.check(copy, Content.payload)

    def _start(self, where: Namespace, interface: str) -> _End:
        program = self._line.spawn(
            where, ["wireguard-go", "--foreground", interface], name=f"wireguard-{interface}"
        )
        socket = Path("/run/wireguard", f"{interface}.sock")
        program.wait_for(socket.exists, _READY_TIMEOUT_S)
        key = self._line.folder / f"{interface}.key"
        private = where.run(["wg", "genkey"]).stdout
        key.write_text(private)
        key.chmod(0o600)
        public = where.run(["sh", "-ec", f"wg pubkey < {key}"]).stdout.strip()
        return _End(where, interface, key, public, random_port())

    def _configure(self, end: _End, peer: str, inner: str, own: str, outer: str = "") -> None:
        argv = ["wg", "set", end.interface, "private-key", str(end.key)]
        argv += ["listen-port", str(end.port), "peer", peer, "allowed-ips", f"{inner}/32"]
        argv += ["endpoint", outer] if outer else []
        end.where.run(argv)
        end.where.run(["ip", "addr", "add", own, "peer", inner, "dev", end.interface])
        end.where.run(["ip", "link", "set", end.interface, "up"])

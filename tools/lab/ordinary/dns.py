"""DNS: dnsmasq answers, the C library's resolver asks."""

from __future__ import annotations

from tools.lab.addresses import Family
from tools.lab.ordinary.content import Content
from tools.lab.program import LabError
from tools.lab.topology import Line

_PORT = 53
_READY_TIMEOUT_S = 10.0
_LOOK_UP_TIMEOUT_S = 15.0
# Reading about BitTorrent is not using it.
_NAMES = {
    "www.example": "192.0.2.1",
    "a-rather-long-label-as-content-networks-have-them.cdn.example": "192.0.2.2",
    "www.bittorrent.org": "192.0.2.3",
}


class Dns:
    """Names are looked up, for both families, as every program does it."""

    def __init__(self, line: Line, content: Content, family: Family) -> None:
        del content
        self._line = line
        address = line.server_address(family)
        argv = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"]
        argv += ["--no-hosts", "--user=root", "--bind-interfaces", f"--listen-address={address}"]
        argv += [f"--pid-file={line.folder / 'dns.pid'}"]
        argv += [f"--host-record={name},{answer}" for name, answer in _NAMES.items()]
        server = line.spawn(line.server, argv, name="dns")
        server.wait_for(lambda: server.listens("udp", _PORT), _READY_TIMEOUT_S)
        line.topology.set_file(line.client, "resolv.conf", f"nameserver {address}\n")

    def use(self) -> None:
        for name, answer in _NAMES.items():
            argv = ["getent", "ahosts", name]
            done = self._line.client.run(argv, timeout_s=_LOOK_UP_TIMEOUT_S)
            if answer not in done.stdout.split():
                raise LabError(f"lab: {name} is not {answer}: {done.stdout.strip()}")

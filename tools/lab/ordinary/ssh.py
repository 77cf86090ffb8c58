"""SSH: Dropbear on one side, OpenSSH's scp on the other."""

from __future__ import annotations

from tools.lab.addresses import Family, endpoint
from tools.lab.clients.peer import random_port
from tools.lab.ordinary.content import Content
from tools.lab.topology import Line

_READY_TIMEOUT_S = 10.0
_COPY_TIMEOUT_S = 20.0
# Dropbear looks for keys in root's home alone; here that is an empty one, in the mount
# namespace that `ip netns exec` makes for each program.
_START = """\
mount -t tmpfs -o mode=700 tmpfs ~root
mkdir -m 700 ~root/.ssh
cp "$1" ~root/.ssh/authorized_keys
shift
exec dropbear "$@"
"""


class Ssh:
    """A file is copied with scp."""

    def __init__(self, line: Line, content: Content, family: Family) -> None:
        self._line = line
        self._content = content
        self._host, self._port = line.server_address(family), random_port()
        self._key = line.folder / "ssh.key"
        host_key = line.folder / "ssh.hostkey"
        line.client.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key)])
        line.server.run(["dropbearkey", "-t", "ed25519", "-f", str(host_key)])
        argv = ["sh", "-ec", _START, "sh", f"{self._key}.pub"]
        argv += ["-F", "-E", "-s", "-r", str(host_key), "-p", endpoint(self._host, self._port)]
        argv += ["-P", str(line.folder / "ssh.pid")]
        server = line.spawn(line.server, argv, name="ssh")
        server.wait_for(lambda: server.listens("tcp", self._port), _READY_TIMEOUT_S)

    def use(self) -> None:
        copy = self._line.folder / "ssh.copy"
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"]
        # -O: the protocol that needs nothing but scp itself on the other side.
        argv = ["scp", "-q", "-O", "-F", "none", "-i", str(self._key), "-P", str(self._port)]
        argv += [word for option in options for word in ("-o", option)]
        argv += [f"root@{self._host}:{self._content.folder / Content.payload}", str(copy)]
        self._line.client.run(argv, timeout_s=_COPY_TIMEOUT_S)
        self._content.check(copy, Content.payload)

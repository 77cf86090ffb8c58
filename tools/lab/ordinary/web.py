"""The web: pages and files over HTTP/1.1, TLS 1.3 and QUIC, and a package downloaded in parts."""

from __future__ import annotations

from pathlib import Path

from tools.lab.addresses import Family, endpoint
from tools.lab.clients.peer import random_port
from tools.lab.ordinary.content import Content
from tools.lab.topology import Line

_READY_TIMEOUT_S = 10.0
_FETCH_TIMEOUT_S = 20.0


class Http:
    """BusyBox's web server, and curl that fetches everything there is."""

    def __init__(self, line: Line, content: Content, family: Family) -> None:
        self._line = line
        self._content = content
        name = f"http{family}"
        self._url = start_httpd(line, line.server_address(family), content, name)
        self._copy = line.folder / f"{name}.copy"

    def use(self) -> None:
        for name in (Content.page, Content.torrent, Content.payload):
            curl(self._line, f"{self._url}/{name}", self._copy)
            self._content.check(self._copy, name)


class Package:
    """The same, fetched by a program that is also a BitTorrent client, in several parts."""

    def __init__(self, line: Line, content: Content, family: Family) -> None:
        self._line = line
        self._content = content
        url = start_httpd(line, line.server_address(family), content, "package")
        self._url = f"{url}/{Content.payload}"

    def use(self) -> None:
        name = "package.copy"
        argv = ["aria2c", "--no-conf", "--quiet", "--split=4", "--min-split-size=1M"]
        argv += [f"--dir={self._line.folder}", f"--out={name}", self._url]
        self._line.client.run(argv, timeout_s=_FETCH_TIMEOUT_S)
        self._content.check(self._line.folder / name, Content.payload)


class Https:
    """OpenSSL's server, which speaks nothing but TLS 1.3, and curl."""

    def __init__(self, line: Line, content: Content, family: Family) -> None:
        self._line = line
        self._content = content
        where = endpoint(line.server_address(family), port := random_port())
        self._url = f"https://{where}/{Content.payload}"
        key, certificate = make_certificate(line, f"https{family}")
        argv = ["env", "-C", str(content.folder)]
        argv += ["openssl", "s_server", "-accept", where, "-tls1_3", "-WWW", "-quiet"]
        argv += ["-http_server_binmode", "-key", str(key), "-cert", str(certificate)]
        self._copy = line.folder / f"https{family}.copy"
        server = line.spawn(line.server, argv, name=f"https{family}")
        server.wait_for(lambda: server.listens("tcp", port), _READY_TIMEOUT_S)

    def use(self) -> None:
        curl(self._line, self._url, self._copy, "--insecure", "--tlsv1.3")
        self._content.check(self._copy, Content.payload)


class Quic:
    """HTTP/3 by ngtcp2's server and client."""

    def __init__(self, line: Line, content: Content, family: Family) -> None:
        self._line = line
        self._content = content
        self._address, self._port = line.server_address(family), random_port()
        key, certificate = make_certificate(line, f"quic{family}")
        argv = ["gtlsserver", "--quiet", "-d", str(content.folder), self._address]
        argv += [str(self._port), str(key), str(certificate)]
        server = line.spawn(line.server, argv, name=f"quic{family}")
        server.wait_for(lambda: server.listens("udp", self._port), _READY_TIMEOUT_S)

    def use(self) -> None:
        url = f"https://{endpoint(self._address, self._port)}/{Content.payload}"
        argv = ["gtlsclient", "--quiet", f"--download={self._line.folder}"]
        argv += ["--exit-on-all-streams-close", self._address, str(self._port), url]
        self._line.client.run(argv, timeout_s=_FETCH_TIMEOUT_S)
        self._content.check(self._line.folder / Content.payload, Content.payload)


def start_httpd(line: Line, address: str, content: Content, name: str) -> str:
    """Serve the content over HTTP at an address of the server's side; returns the URL."""
    where = endpoint(address, port := random_port())
    argv = ["busybox", "httpd", "-f", "-p", where, "-h", str(content.folder)]
    server = line.spawn(line.server, argv, name=name)
    server.wait_for(lambda: server.listens("tcp", port), _READY_TIMEOUT_S)
    return f"http://{where}"


def curl(line: Line, url: str, copy: Path, *options: str) -> None:
    """Fetch `url` from the client's side into a file; raises LabError."""
    argv = ["curl", "--silent", "--show-error", "--fail", *options, "--output", str(copy), url]
    line.client.run(argv, timeout_s=_FETCH_TIMEOUT_S)


def make_certificate(line: Line, name: str) -> tuple[Path, Path]:
    """Make a key and a certificate that nobody trusts; returns their paths."""
    key, certificate = line.folder / f"{name}.key", line.folder / f"{name}.crt"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-subj", "/CN=lab.example", "-keyout", str(key), "-out", str(certificate)]
    line.server.run(argv)
    return key, certificate

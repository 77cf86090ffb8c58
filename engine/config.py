"""Settings: from the configuration file, the environment and the command line.

Later ones win. Every value is checked in the same place, and an error names where the bad
value came from.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from engine.certainty import DEFAULT_PROFILE, DetectionProfile
from engine.errors import InputError
from engine.paths import shipped_signatures

Chain = Literal["INPUT", "FORWARD", "OUTPUT"]
BanTarget = Literal["source", "remote", "both", "endpoint", "none"]
Network = IPv4Network | IPv6Network

# Names of the environment's variables, as operators know them.
ENVIRONMENT = {
    "INTERFACE": "interface",
    "QUEUE_NUM": "queue_num",
    "MONITOR_ONLY": "monitor_only",
    "XDP_MODE": "xdp_mode",
    "KEEP_XDP": "keep_xdp",
    "XDP_SIGNATURES": "xdp_signatures",
    "BAN_DURATION": "ban_duration",
    "LOG_LEVEL": "log_level",
    "DETECTION_LOG": "detection_log",
    "EVENT_LOG": "event_log",
    "METRICS_LISTEN": "metrics_listen",
    "CLEANUP_INTERVAL": "cleanup_interval",
    "DETECTION_PROFILE": "detection_profile",
    # systemd sets this one for a unit that says StateDirectory=.
    "STATE_DIRECTORY": "state_directory",
}

# Private networks (RFC 1918, RFC 4193), and those between a provider and its customers (RFC 6598).
_PRIVATE = tuple(
    map(
        ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    )
)


# Of TCP and of UDP each, in one worker.
DEFAULT_MAX_FLOWS = 131072
MAX_BAN_S = 10 * 365 * 86400


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _upper_list(value: object) -> object:
    parts = _comma_separated(value)
    return tuple(map(_upper, parts)) if isinstance(parts, tuple) else parts


def parse_network(value: object) -> Network:
    """A network, or an address as the network that it alone is in. Raises ValueError."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):  # a number would do for an address
        raise ValueError("a network is a text such as 10.8.0.0/24")
    return ip_network(value)


Networks = Annotated[
    tuple[Annotated[Network, BeforeValidator(parse_network)], ...],
    BeforeValidator(_comma_separated),
]


class Listen(NamedTuple):
    """An address (or name) and a TCP port of this machine."""

    host: str
    port: int


def _listen(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("it must be HOST:PORT, as in 127.0.0.1:9810 or [::1]:9810")
    return Listen(host.removeprefix("[").removesuffix("]"), int(port))


def _mark(value: object) -> int:
    if isinstance(value, str):
        value = int(value, 0)
    if not isinstance(value, int) or not 0 < value < 1 << 32 or value.bit_count() != 3:
        raise ValueError("it must have three bits of 32 set, as in 0x70000000")
    return value


class Settings(BaseModel):
    """What a running blocker is told. Durations are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interface: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        (), description="interfaces for XDP; none means those with a default route"
    )
    queue_num: int = Field(0, ge=0, le=65535, description="NFQUEUE number, the first one")
    workers: int = Field(1, ge=1, le=256, description="queues, each with a process of its own")
    max_flows: int = Field(
        DEFAULT_MAX_FLOWS,
        ge=1024,
        le=1 << 24,
        description="flows that each worker remembers at most, of TCP and of UDP",
    )
    signatures: Path = Field(
        default_factory=shipped_signatures, description="folder of signature files"
    )
    detection_profile: DetectionProfile = Field(
        DEFAULT_PROFILE,
        description="how sure signatures must be: plain (certain), balanced (also likely) or "
        "strict (also guesses)",
    )
    fail_open: bool = Field(
        True, description="let packets pass that cannot be inspected: no process, a full queue"
    )
    monitor_only: bool = Field(False, description="detect and log, drop and ban nothing")
    xdp_mode: Literal["auto", "native", "generic", "off"] = Field(
        "auto", description="how XDP is attached"
    )
    keep_xdp: bool = Field(
        False, description="leave XDP in force while no blocker runs: through restarts and crashes"
    )
    xdp_signatures: bool = Field(
        False, description="decide signatures of fixed bytes in the XDP program, too"
    )
    manage_rules: bool = Field(
        False, description="add the iptables rules, and take them away on exit"
    )
    chain: Annotated[tuple[Chain, ...], BeforeValidator(_upper_list)] = Field(
        ("INPUT", "FORWARD"), min_length=1, description="chains whose packets are inspected"
    )
    tunnels: bool = Field(
        True, description="look into IP-in-IP, 6in4 and GRE tunnels that pass through"
    )
    defragment: bool = Field(
        True, description="have the kernel put fragments together (connection tracking)"
    )
    offload: bool = Field(
        True, description="let the kernel decide alone about TCP connections that are settled"
    )
    offload_mark: Annotated[int, BeforeValidator(_mark)] = Field(
        0x70000000, description="the three bits of connection marks that are ours"
    )
    offload_after: int = Field(
        64,
        ge=1,
        le=1 << 20,
        description="packets between two looks at what is settled in a connection",
    )
    reset: bool = Field(
        False, description="reset refused TCP connections, so that clients give up at once"
    )
    ban: BanTarget = Field(
        "source", description="whom a detection bans, where its signature does not say"
    )
    ban_duration: int = Field(
        18000, ge=1, le=MAX_BAN_S, description="seconds that an address's first ban lasts"
    )
    ban_growth: int = Field(
        2, ge=1, le=100, description="how many times longer each further ban of it lasts"
    )
    ban_duration_max: int = Field(
        7 * 86400, ge=1, le=MAX_BAN_S, description="seconds that bans grow to at most"
    )
    ban_memory: int = Field(
        7 * 86400,
        ge=0,
        le=MAX_BAN_S,
        description="seconds after its ban's end until an address counts as new again",
    )
    udp_bans: Literal["immediate", "confirmed"] = Field(
        "immediate",
        description="confirmed: ban nobody before both sides of the flow have sent something",
    )
    home_networks: Networks = Field(
        _PRIVATE, description="networks on this side of the gateway: `remote` is who is in none"
    )
    allow: Networks = Field(
        (), max_length=16384, description="networks whose traffic is let alone, for good"
    )
    state_directory: Path | None = Field(
        None, description="folder for what outlives a restart: bans and allowed networks"
    )
    cleanup_interval: int = Field(
        300, ge=1, le=86400, description="seconds between removals of expired bans"
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = (
        Field("INFO", description="what is logged")
    )
    event_log: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        (), description="where events go as JSON lines: files, `stdout`, `syslog`"
    )
    detection_log: Path | None = Field(
        None, description="file for hex dumps of detected packets; a .pcapng goes beside it"
    )
    detection_log_mb: int = Field(
        64, ge=1, le=1 << 20, description="MiB that hex dumps and captures take at most"
    )
    log_limit: int = Field(
        10, ge=1, description="times a minute that one signature is told of one source"
    )
    log_limit_total: int = Field(
        3000, ge=1, description="detections and ends of bans that are told in a minute"
    )
    metrics_listen: Annotated[Listen | None, BeforeValidator(_listen)] = Field(
        None, description="HOST:PORT where Prometheus may fetch metrics"
    )

    @property
    def queues(self) -> range:
        """The numbers of the queues."""
        return range(self.queue_num, self.queue_num + self.workers)

    @property
    def mark_bits(self) -> int:
        """The bits of connection marks that are ours; 0 where connections are not marked.

        They are not tracked, perhaps, where fragments are not put together.
        """
        return self.offload_mark if self.offload and self.defragment else 0


# What a reload may change of whom is banned, and for how long.
BAN_SETTINGS = (
    *("ban", "ban_duration", "ban_growth", "ban_duration_max", "ban_memory", "udp_bans"),
    *("home_networks", "allow"),
)


def load_settings(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]
) -> Settings:
    """Merge the three origins. Raises InputError that names the origin of a bad value."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def take(name: str, value: Any, origin: str) -> None:
        values[name] = value
        origins[name] = origin

    if file is not None:
        for name, value in _read_file(file).items():
            take(name, value, f"{file}: `{name}`")
    for variable, name in ENVIRONMENT.items():
        if environment.get(variable):
            take(name, environment[variable], f"the environment's {variable}")
    for name, value in flags.items():
        if value is not None:
            take(name, value, f"--{name.replace('_', '-')}")
    try:
        return Settings.model_validate(values)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(Settings.model_fields)
            raise InputError(f"{origins[name]} is not a setting; known: {known}") from None
        message = problem["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        raise InputError(f"{origins[name]}: {message}, not {problem['input']!r}") from None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {os.strerror(error.errno or 0)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not TOML: {error}") from error

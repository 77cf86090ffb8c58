from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from engine.config import BAN_SETTINGS, ENVIRONMENT, Settings, load_settings
from engine.errors import InputError
from engine.paths import shipped_signatures


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "btblocker.toml"
    file.write_text(text)
    return file


def test_defaults() -> None:
    settings = load_settings(None, {}, {})
    assert settings == Settings()
    assert (settings.queue_num, settings.ban_duration, settings.chain) == (
        0,
        18000,
        ("INPUT", "FORWARD"),
    )
    assert settings.signatures == shipped_signatures()


def test_later_origins_win(tmp_path: Path) -> None:
    file = written(tmp_path, "queue_num = 1\nban_duration = 1\ncleanup_interval = 1")
    environment = {"QUEUE_NUM": "2", "BAN_DURATION": "2", "HOME": "/"}
    settings = load_settings(file, environment, {"queue_num": "3", "chain": None})
    assert (settings.queue_num, settings.ban_duration, settings.cleanup_interval) == (3, 2, 1)


def test_every_variable_is_a_setting() -> None:
    assert set(ENVIRONMENT.values()) <= set(Settings.model_fields)
    assert set(BAN_SETTINGS) <= set(Settings.model_fields)


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("interface", "eth0, wg0,", ("eth0", "wg0")),
        ("interface", ["eth0"], ("eth0",)),
        ("chain", "input,Forward", ("INPUT", "FORWARD")),
        ("log_level", "debug", "DEBUG"),
        ("monitor_only", "true", True),
        ("monitor_only", "0", False),
        ("queue_num", "65535", 65535),
        ("max_flows", "1000000", 1000000),
        ("detection_profile", "strict", "strict"),
        ("offload_mark", "0xe00", 0xE00),
        ("offload_mark", 0x700, 0x700),
        ("detection_log", "/var/log/x", Path("/var/log/x")),
        ("state_directory", "/var/lib/x", Path("/var/lib/x")),
        ("ban", "endpoint", "endpoint"),
        ("allow", "10.0.0.1, 2001:db8::/32", tuple(map(ip_network, ("10.0.0.1", "2001:db8::/32")))),
        ("home_networks", ["10.0.0.0/8"], (ip_network("10.0.0.0/8"),)),
        ("home_networks", "", ()),
        ("event_log", "/var/log/x,syslog", ("/var/log/x", "syslog")),
        ("metrics_listen", "127.0.0.1:9810", ("127.0.0.1", 9810)),
        ("metrics_listen", "[::1]:9810", ("::1", 9810)),
    ],
)
def test_values(name: str, value: Any, taken: Any) -> None:
    assert getattr(load_settings(None, {}, {name: value}), name) == taken


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("QUEUE_NUM", "65536"),
        ("QUEUE_NUM", "-1"),
        ("QUEUE_NUM", "one"),
        ("XDP_MODE", "fast"),
        ("BAN_DURATION", "0"),
        ("BAN_DURATION", "5h"),
        ("MONITOR_ONLY", "perhaps"),
        ("LOG_LEVEL", "LOUD"),
        ("CLEANUP_INTERVAL", "0"),
        ("METRICS_LISTEN", "9810"),
        ("METRICS_LISTEN", "localhost:0"),
        ("METRICS_LISTEN", "localhost:65536"),
        ("DETECTION_PROFILE", "paranoid"),
    ],
)
def test_wrong_values_name_their_origin(variable: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"the environment's {variable}: .*{value}"):
        load_settings(None, {variable: value}, {})
    name = ENVIRONMENT[variable]
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: .*{value}"):
        load_settings(None, {}, {name: value})
    with pytest.raises(InputError, match=f"btblocker.toml: `{name}`: .*{value}"):
        load_settings(written(tmp_path, f'{name} = "{value}"'), {}, {})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"chain": "PREROUTING"}, "--chain"),
        ({"chain": ""}, "--chain"),
        *(
            ({"offload_mark": mask}, "--offload-mark: it must have three bits of 32 set")
            for mask in ("0x3", "0x1f", "0x700000000", 15)
        ),
        ({"offload_mark": "seven"}, "--offload-mark: .*'seven'"),
    ],
)
def test_wrong_chains_and_marks(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_settings(None, {}, flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ban": "src"}, "--ban: input should be 'source', 'remote'"),
        ({"udp_bans": "later"}, "--udp-bans: "),
        ({"allow": "10.0.0.1/8"}, "--allow: 10.0.0.1/8 has host bits set"),
        ({"allow": [5]}, "--allow: a network is a text"),
        ({"allow": [f"10.{n >> 8}.{n & 255}.0/24" for n in range(16385)]}, "--allow: .*16384"),
        ({"home_networks": "home"}, "--home-networks: 'home' does not appear to be"),
        ({"ban_growth": "0"}, "--ban-growth"),
        ({"ban_memory": "-1"}, "--ban-memory"),
    ],
)
def test_wrong_ban_settings(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_settings(None, {}, flags)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("queue = 1", "`queue` is not a setting; known: interface, queue_num"),
        ("queue_num = ", "is not TOML"),
        ("[queue_num]\nx = 1", "`queue_num`"),
        ("queue_num = 1\nqueue_num = 2", "is not TOML"),
    ],
)
def test_wrong_files(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_settings(written(tmp_path, text), {}, {})
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing: No such file"):
        load_settings(tmp_path / "missing", {}, {})
    with pytest.raises(InputError, match="Is a directory"):
        load_settings(tmp_path, {}, {})
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not TOML"):
        load_settings(tmp_path / "x", {}, {})

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine import trial
from engine.errors import InputError
from engine.inspect.packet import decode
from engine.trial import FlowTrial, each_capture, find_captures, outline, try_capture
from tests.captures import ethernet, ip, pcap, tcp, udp

A, B = "10.0.0.2", "10.0.0.10"


class Inspector:
    """Finds what a payload says that it finds: "log:x drop:y"."""

    def __init__(self, ruleset: Any) -> None:
        self.packets = 0

    def inspect(self, datagram: bytes, now_s: float) -> Any:
        self.packets += 1
        packet = decode(datagram)
        assert packet is not None
        text = packet.payload.decode("latin-1")
        if text == "clock":
            text = f"log:{now_s:.0f}"
        if text == "count":
            text = f"log:packet-{self.packets}"
        return SimpleNamespace(
            detections=tuple(
                SimpleNamespace(action=word.split(":")[0], signature=word.split(":")[1])
                for word in text.split()
                if word.split(":")[0] in ("log", "drop", "block")
            )
        )


@pytest.fixture(autouse=True)
def _inspector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "Inspector", Inspector)


def there(text: str, port: int = 1000) -> bytes:
    return ethernet(udp(A, port, B, 53, text.encode()))


def back(text: str, port: int = 1000) -> bytes:
    return ethernet(udp(B, 53, A, port, text.encode()))


def flows(tmp_path: Path, *frames: bytes, isolate_flows: bool = False) -> list[FlowTrial]:
    path = tmp_path / "some.pcap"
    path.write_bytes(pcap(frames))
    result = try_capture(path, None, isolate_flows=isolate_flows)  # type: ignore[arg-type]
    assert result.error is None
    return list(result.flows)


def test_both_directions_are_one_flow(tmp_path: Path) -> None:
    (flow,) = flows(tmp_path, there("a"), back("b"), there(""), back("c"))
    assert flow.as_json() == {
        "proto": "udp",
        "a": "10.0.0.10:53",
        "b": "10.0.0.2:1000",
        "packets": 4,
        "payload_packets": 3,
        "detected": False,
        "signatures": [],
        "first_payload_index": None,
        "action": None,
    }


def test_flows_come_in_the_order_they_began(tmp_path: Path) -> None:
    found = flows(
        tmp_path, there("a", 3), there("a", 1), ethernet(tcp(A, 3, B, 53, b"")), back("b", 3)
    )
    assert [(str(flow.key), flow.packets) for flow in found] == [
        ("udp 10.0.0.10:53 - 10.0.0.2:3", 2),
        ("udp 10.0.0.10:53 - 10.0.0.2:1", 1),
        ("tcp 10.0.0.10:53 - 10.0.0.2:3", 1),
    ]


def test_ipv6_endpoints_have_brackets(tmp_path: Path) -> None:
    (flow,) = flows(tmp_path, ethernet(udp("2001:db8::2", 2, "2001:db8::1", 1, b"x")))
    assert str(flow.key) == "udp [2001:db8::1]:1 - [2001:db8::2]:2"


def test_index_counts_payload_packets_of_both_directions(tmp_path: Path) -> None:
    (flow,) = flows(tmp_path, there(""), there("a"), back(""), back("drop:x"), there("block:y"))
    assert flow.detected
    assert (flow.first_payload_index, flow.payload_packets) == (1, 3)
    assert flow.signatures == ["x", "y"]
    assert flow.action == "block"


def test_what_is_only_logged_is_not_detected(tmp_path: Path) -> None:
    (flow,) = flows(tmp_path, there("log:x"), there("log:x"))
    assert not flow.detected
    assert (flow.signatures, flow.first_payload_index, flow.action) == (["x"], None, "log")


def test_strongest_action_stays(tmp_path: Path) -> None:
    (flow,) = flows(tmp_path, there("log:x drop:y"), there("log:z"))
    assert (flow.action, flow.signatures, flow.first_payload_index) == ("drop", ["x", "y", "z"], 0)


def test_clock_does_not_run_backwards(tmp_path: Path) -> None:
    early = pcap([there("clock")])[24:]
    late = (2000).to_bytes(4, "little") + early[4:]
    path = tmp_path / "merged.pcap"
    path.write_bytes(pcap([]) + early + late + early)
    (flow,) = try_capture(path, None).flows  # type: ignore[arg-type]
    assert flow.signatures == ["1000", "2000"]


def test_every_capture_meets_a_fresh_inspector(tmp_path: Path) -> None:
    for _ in range(2):
        (flow,) = flows(tmp_path, there("a"), there("count"))
        assert flow.signatures == ["packet-2"]


WHOLE = st.sampled_from(
    [
        udp(A, 1, B, 2, b""),
        udp(A, 1, B, 2, b"payload"),
        udp("2001:db8::1", 1, "2001:db8::2", 2, b"payload"),
        tcp(A, 1, B, 2, b""),
        tcp(A, 1, B, 2, b"payload"),
        ip(A, B, 4, udp(A, 1, B, 2, b"payload")),
    ]
)


@given(WHOLE, st.lists(st.tuples(st.integers(0, 47), st.integers(0, 255))), st.integers(0, 60))
@example(udp(A, 1, B, 2, b"payload"), [], 33)
@example(tcp(A, 1, B, 2, b"payload"), [(32, 0xF0)], 60)
def test_an_outline_is_what_decoding_says(
    whole: bytes, changes: list[tuple[int, int]], end: int
) -> None:
    changed = bytearray(whole)
    for place, value in changes:
        changed[place % len(whole)] = value
    datagram = bytes(changed[:end])
    packet = decode(datagram)
    expected = packet and (packet.protocol, packet.key, bool(packet.payload))
    assert outline(datagram) == expected


def test_packets_without_tcp_or_udp_are_no_flow(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    path.write_bytes(pcap([ethernet(ip(A, B, 1, b"\x08\0\0\0"))]))
    result = try_capture(path, None)  # type: ignore[arg-type]
    assert (result.packets, list(result.flows)) == (1, [])


def test_damaged_capture_keeps_the_flows_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap([there("drop:x"), there("a", 2)])[:-1])
    result = try_capture(path, None)  # type: ignore[arg-type]
    assert [flow.signatures for flow in result.flows] == [["x"]]
    assert result.error is not None
    assert "truncated" in result.error


@pytest.mark.parametrize("processes", [1, 3])
def test_results_come_in_the_order_given(tmp_path: Path, processes: int) -> None:
    paths = []
    for number in range(12):
        paths.append(tmp_path / f"{number}.pcap")
        # The first take longest.
        paths[-1].write_bytes(pcap([there(f"log:{number}")] * (12 - number) * 50))
    results = list(each_capture(paths, lambda path: try_capture(path, None), processes))  # type: ignore[arg-type]
    assert [result.path for result in results] == paths
    assert [flow.signatures for result in results for flow in result.flows] == [
        [str(number)] for number in range(12)
    ]


def test_folders_are_walked(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "README.md").write_text("no capture")
    for name in ("z.pcap", "in/b.pcapng", "in/deep/a.cap"):
        (tmp_path / name).write_bytes(b"")  # the name is enough
    (tmp_path / "in" / "1444144603").write_bytes(pcap([]))  # the content is, too
    names = [str(path.relative_to(tmp_path)) for path in find_captures([tmp_path])]
    assert names == ["in/1444144603", "in/b.pcapng", "in/deep/a.cap", "z.pcap"]


def test_files_are_taken_whatever_their_name(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no capture")
    assert find_captures([readme, readme]) == [readme, readme]


def test_nothing_to_try(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no captures in this folder"):
        find_captures([tmp_path])
    with pytest.raises(InputError, match="missing: cannot read: No such file"):
        find_captures([tmp_path / "missing"])


@pytest.mark.parametrize(("isolate_flows", "counted"), [(False, 4), (True, 2)])
def test_an_isolated_flow_meets_an_inspector_of_its_own(
    isolate_flows: bool, counted: int, tmp_path: Path
) -> None:
    frames = there("x"), there("x", 1001), back("x", 1001), back("count")
    (first, second) = flows(tmp_path, *frames, isolate_flows=isolate_flows)
    assert first.signatures == [f"packet-{counted}"]
    assert second.signatures == []

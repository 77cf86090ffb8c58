"""The benchmark runs and cleans up; what it measures is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.paths import shipped_signatures
from engine.signatures import load
from engine.sources.capture import Capture
from engine.trial import try_capture
from tools.bench.ban import Bans, Delays
from tools.bench.bulk import Bulk, Transfer
from tools.bench.capture_writer import write_captures
from tools.bench.captures import Reading, Readings
from tools.bench.connections import Connections, ShortConnections
from tools.bench.latency import Latency, RoundTrips
from tools.bench.memory import Crowd, FlowMemory, MemoryUse
from tools.bench.queue import Rates, Throughput
from tools.bench.result import Result

CHECKOUT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.bench", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def results(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--runs", "1", "--seconds", "1", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.lab
def test_traffic() -> None:
    found = results("queue", "latency", "connections", "bulk", "--pings", "100")
    assert list(found) == ["kernel", "processors", "queue", "bulk", "connections", "latency"]
    rates = found["queue"]["rates"]
    assert [(rate["consumer"], rate["packet_b"]) for rate in rates] == [
        (consumer, size_b) for size_b in (200, 1000) for consumer in ("C accept loop", "btblocker")
    ]
    assert all(rate["per_second"][0] > 0 for rate in rates)
    # The interpreters of daemon and worker, and a C program.
    assert [rate["peak_b"][0] > 30e6 for rate in rates] == [False, True, False, True]

    plain, *inspected = found["bulk"]["transfers"]
    assert plain["through"] == "plain forwarding"
    assert inspected[0]["through"] == "btblocker, every segment"
    assert all(each["bits_per_second"][0] > 0 for each in (plain, *inspected))

    connections = found["connections"]["connections"]
    names = [each["through"] for each in connections]
    assert names == ["plain forwarding", "C accept loop", "btblocker"]
    assert all(each["per_second"][0] > 0 and each["failed"] == 0 for each in connections)

    trips = found["latency"]["round_trips"]
    assert [trip["consumer"] for trip in trips] == ["no queue", "C accept loop", "btblocker"]
    assert all(0 < trip["p50_us"][0] <= trip["p99_us"][0] for trip in trips)


@pytest.mark.lab
def test_many_signatures_take_turns_with_the_shipped_ones() -> None:
    rates = results("many", "--signatures", "50")["many"]["rates"]
    assert {rate["consumer"] for rate in rates} == {"shipped signatures", "50 signatures"}


@pytest.mark.lab
def test_ban() -> None:
    found = results("ban", "--bans", "20")["ban"]
    delays = found["delays"]
    assert found["addresses"] == 20
    assert 0 < delays["p50_us"][0] <= delays["p99_us"][0] <= delays["highest_us"][0]


@pytest.mark.lab
def test_xdp() -> None:
    costs = results("xdp")["xdp"]["costs"]
    programs = {"empty", "xdp-filter", "btblocker", "with signatures"}
    assert {cost["program"] for cost in costs} == programs
    assert len(costs) == len(programs) * (1 + 2 * 5)
    assert all(len(cost["runs_ns"]) == 1 and cost["ns"] > 0 for cost in costs)


def test_memory() -> None:
    found = results("memory", "--remembered", "5000", "--seen", "4000")["memory"]
    assert [flow["flows"] for flow in found["flows"]] == [5000] * 4
    # No less than its keys, and not so much more.
    assert all(50 < flow["bytes_per_flow"] < 10_000 for flow in found["flows"])
    assert len({crowd["max_flows"] for crowd in found["crowds"]}) == 2
    for crowd in found["crowds"]:
        # Half of them two datagrams, half of them five segments; all fit.
        assert (crowd["packets"], crowd["remembered"]) == (2000 * 2 + 2000 * 5, 8000)
        assert crowd["dropped"] == 0
        assert crowd["empty_b"] < crowd["resident_b"] <= crowd["peak_b"]


def test_captures(tmp_path: Path) -> None:
    written = write_captures(tmp_path, 50_010)
    assert [sum(1 for _ in Capture(path)) for path in written] == [50_000, 10]
    found = results("captures", "--captures", str(tmp_path))["captures"]
    assert (found["captures"], found["packets"]) == (2, 50_010)
    assert [reading["program"] for reading in found["readings"]] == ["ndpiReader", "sigtest"]
    for reading in found["readings"]:
        assert all(len(reading[each]) == 1 for each in ("took_s", "start_s", "processor_s"))


def test_written_captures_are_the_same_each_time_and_hold_what_they_should(tmp_path: Path) -> None:
    contents = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (path,) = write_captures(tmp_path / name, 5000)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    trial = try_capture(path, load(shipped_signatures()))
    assert (trial.packets, trial.error) == (5000, None)
    detected = {signature for flow in trial.flows for signature in flow.signatures}
    assert {"bittorrent.dht.query", "bittorrent.peer.handshake"} <= detected
    torrents = [flow for flow in trial.flows if flow.detected]
    assert 0 < len(torrents) < len(trial.flows) / 10


FIGURES = [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (
            Throughput(
                [
                    Rates("loop", 200, [10.0, 20.0, 40.0], [0.5] * 3, [10**6] * 3),
                    Rates("btblocker", 200, [9.0, 10.0, 32.0], [0.0] * 3, [10**6, 2 * 10**7, 5]),
                ]
            ),
            ["btblocker", "200 B", "10", "9", "32", "0.80", "0%", "20 MB"],
        ),
        (
            Bulk(
                [
                    Transfer("plain forwarding", [4e9] * 3, [0.0] * 3),
                    Transfer("every segment", [1e9, 2e9, 3e9], FIGURES),
                ]
            ),
            ["every segment", "2.00 Gbit/s", "1.00 Gbit/s", "3.00 Gbit/s", "0.50", "2 ms/Gbit"],
        ),
        (
            ShortConnections(
                [
                    Connections("plain forwarding", [4000.0] * 3, [0.0] * 3, 0),
                    Connections("btblocker", [1000.0, 2000.0, 3000.0], FIGURES, 7),
                ]
            ),
            ["btblocker", "2,000", "1,000", "3,000", "0.50", "2 µs", "7"],
        ),
        (
            Latency(
                [
                    RoundTrips("no queue", [10.0], [20.0], 0),
                    RoundTrips("btblocker", [30.0], [50.0], 3),
                ]
            ),
            ["btblocker", "30 µs", "50 µs", "+20 µs", "+30 µs", "3"],
        ),
        (
            Bans(Delays([100.0], [800.0], [2000.0]), 9, 1000.0),
            ["btblocker", "100 µs", "800 µs", "2,000 µs", "0.80"],
        ),
        (
            MemoryUse(
                [FlowMemory("UDP", 1000, 300.0)],
                600,
                [Crowd(4000, 9000, 30000, 3999, 0, 10**7, 2 * 10**7, 3 * 10**7)],
            ),
            ["4,000", "9,000", "30,000", "3,999", "10 MB", "20 MB", "30 MB", "0"],
        ),
        (
            Readings(
                2,
                1000,
                [
                    Reading("ndpiReader", [1.0], [1.0], [0.5]),
                    Reading("sigtest", [4.0], [2.0], [3.0]),
                ],
            ),
            ["sigtest", "250", "0.25", "2000.00 µs/packet", "3.00 s", "0.50"],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_last_row_of_the_tables(result: Result, said: list[str]) -> None:
    *_, last = result.tables()
    assert [list(column.cells)[-1] for column in last.columns] == said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "no such part: 'nonsense'"),
        (["captures", "--captures", "/nosuch"], "/nosuch: cannot read: No such file or directory"),
        (["ban", "--runs", "101"], "--runs times --bans is more than 100,000"),
        (["--runs", "0"], "not a whole number above 0: '0'"),
        (["--seconds", "x"], "not a whole number above 0: 'x'"),
    ],
)
@pytest.mark.lab
def test_bad_input(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_signatures() -> None:
    found = results("signatures", "--signatures", "150")["signatures"]
    shipped, generated = found["loadings"]
    assert shipped["signatures"] < generated["signatures"] == 150
    assert 0 < generated["need_python"] < 150
    assert [(c["transport"], c["payload_b"]) for c in found["clean_costs"]] == [
        (transport, size) for transport in ("udp", "tcp") for size in (64, 200, 1000)
    ]

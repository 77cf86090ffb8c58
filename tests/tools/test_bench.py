"""The benchmark runs and cleans up; what it measures is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.lab
def test_many_signatures_take_turns_with_the_shipped_ones() -> None:
    done = run(
        *("queue", "signatures", "--runs", "1", "--seconds", "1", "--signatures", "50", "--json")
    )
    assert (done.returncode, done.stderr) == (0, "")
    _, rates = json.loads(done.stdout)["rates"]
    assert {rate["consumer"] for rate in rates} == {"shipped signatures", "50 signatures"}


@pytest.mark.lab
def test_queue_and_latency() -> None:
    done = run("queue", "latency", "--runs", "1", "--seconds", "1", "--pings", "100", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)
    (rates,) = results["rates"]
    assert [(rate["consumer"], rate["packet_b"]) for rate in rates] == [
        ("C accept loop", 200),
        ("btblocker", 200),
        ("C accept loop", 1000),
        ("btblocker", 1000),
    ]
    assert all(rate["per_second"][0] > 0 for rate in rates)
    assert [trip["consumer"] for trip in results["round_trips"]] == [
        "no queue",
        "C accept loop",
        "btblocker",
    ]
    assert all(0 < trip["p50_us"][0] <= trip["p99_us"][0] for trip in results["round_trips"])


@pytest.mark.lab
def test_xdp() -> None:
    done = run("xdp", "--runs", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    costs = json.loads(done.stdout)["xdp"]
    programs = {"empty", "xdp-filter", "btblocker", "with signatures"}
    assert {cost["program"] for cost in costs} == programs
    assert len(costs) == len(programs) * (1 + 2 * 5)
    assert all(len(cost["runs_ns"]) == 2 and cost["ns"] > 0 for cost in costs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "no such part: 'nonsense'"),
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
    done = run("signatures", "--signatures", "150", "--runs", "1", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)
    shipped, generated = results["loadings"]
    assert shipped["signatures"] < generated["signatures"] == 150
    assert 0 < generated["need_python"] < 150
    assert [(c["transport"], c["payload_b"]) for c in results["clean_costs"]] == [
        (transport, size) for transport in ("udp", "tcp") for size in (64, 200, 1000)
    ]

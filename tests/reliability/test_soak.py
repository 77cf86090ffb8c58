"""An hour's worth of work in a minute: nothing grows."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.reliability.conftest import Measured
from tools.soak.sample import Sample
from tools.soak.verdict import complaints

MINUTES = 0.75
# What docs/reliability.md takes for an hour of a gateway.
HOUR = {"packets": 72_000, "bans": 500, "bans_ended": 500, "reloads": 1}

FLAT = Sample(at_s=0, processes=3, pss_kb=100_000, open_files=60, threads=20, flows=100, bans=10)


@pytest.mark.parametrize(
    ("grown", "told"),
    [
        ({}, []),
        ({"flows": 9, "bans": 9}, []),
        ({"pss_kb": 4_000}, []),
        ({"pss_kb": 20_000}, ["memory has grown from 97.7 to 117.2 MiB"]),
        ({"open_files": 1}, ["open files have grown from 60 to 61"]),
        ({"threads": 2}, ["threads have grown from 20 to 22"]),
        ({"processes": 1}, ["processes have grown from 3 to 4"]),
    ],
)
def test_growth_is_told(grown: dict[str, int], told: list[str]) -> None:
    later = replace(FLAT, **{name: getattr(FLAT, name) + more for name, more in grown.items()})
    assert complaints([FLAT] * 10 + [later] * 10) == told


def test_what_comes_and_goes_is_no_leak() -> None:
    busy = replace(FLAT, open_files=90, threads=40, processes=4)
    assert complaints([FLAT] * 10 + [busy, busy, FLAT] * 4) == []


@pytest.mark.lab
def test_an_hour_in_a_minute(measured: Measured) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.soak", "--minutes", str(MINUTES), "--json"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert found["complaints"] == []
    assert len(found["samples"]) > 10
    assert {name: count for name, count in HOUR.items() if found["done"][name] < count} == {}
    first, last = found["samples"][0], found["samples"][-1]
    measured(
        f"{found['done']}; {first['pss_kb'] >> 10} MiB, then {last['pss_kb'] >> 10} MiB; "
        f"{first['open_files']} open files, then {last['open_files']}"
    )

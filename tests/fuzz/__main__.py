"""Fuzz targets with atheris: `python -m tests.fuzz TARGET... [-max_total_time=60] [FOLDER]`.

One target after the other, each in a process of its own, or `all`. Options that begin with a
dash are libFuzzer's (`-help=1` lists them). What has been found to be new is kept in
FOLDER/TARGET, or nowhere; a crash is written as FOLDER/crash-TARGET-HASH, or into the current
folder. Ends with 1 if there was any.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["engine"]):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.seeds import seeds

# An input that takes longer than this is a crash.
_TIMEOUT_S = 60
# And so is one that takes more than this; the signatures take most of it.
_MEMORY_MB = 800


def main(arguments: list[str]) -> int:
    options = [argument for argument in arguments if argument.startswith("-")]
    named = [argument for argument in arguments if not argument.startswith("-")]
    wanted = [name for name in named if name in TARGETS]
    if "all" in named:
        wanted = list(TARGETS)
    others = [name for name in named if name not in wanted and name != "all"]
    if not wanted or len(others) > 1:
        print(__doc__, f"Targets: {', '.join(TARGETS)}", sep="\n", file=sys.stderr)
        return 2
    folder = Path(others[0]) if others else None
    crashed = [name for name in wanted if not _fuzz(name, options, folder)]
    if crashed:
        print(f"fuzz: crashed: {', '.join(crashed)}", file=sys.stderr)
    return 1 if crashed else 0


def _fuzz(name: str, options: list[str], folder: Path | None) -> bool:
    """Whether all went well. A child does it: atheris ends its process."""
    with tempfile.TemporaryDirectory(prefix="btblocker-fuzz-") as temporary:
        known = Path(temporary)
        for number, seed in enumerate(seeds(name)):
            (known / str(number)).write_bytes(seed)
        found = known if folder is None else folder / name
        found.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if child == 0:
            crashes = f"-artifact_prefix={'' if folder is None else f'{folder}/'}crash-{name}-"
            run = [
                sys.argv[0],
                f"-timeout={_TIMEOUT_S}",
                f"-rss_limit_mb={_MEMORY_MB}",
                crashes,
                *options,
            ]
            atheris.Setup([*run, str(found), str(known)], TARGETS[name])
            atheris.Fuzz()
        return os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

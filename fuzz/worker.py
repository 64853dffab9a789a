"""One target under the engine: Atheris, which is libFuzzer with Python's branches as its coverage.

    python -m fuzz.worker TARGET SEED SECONDS INPUTS FINDINGS

A finding does not end the run: its input is written to FINDINGS, once for each place that goes wrong.  What the engine
says of itself goes to standard error.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from fuzz import corpus
from fuzz.findings import Findings, of_exception
from fuzz.targets import TARGETS

LOAD_FACTOR = 4
"""What the engine's own time limit is times `watch`'s: it is for what no signal handler of Python's ends."""
MOST_MEMORY = 2048
"""MiB of the process."""


def main(arguments: list[str]) -> None:
    """Never returns."""
    import atheris
    from hypothesis import settings

    # Nothing is remembered from run to run: findings are the engine's.
    settings.register_profile("fuzz", deadline=None, database=None)
    settings.load_profile("fuzz")
    name, seed, seconds, inputs, found = arguments
    target = TARGETS[name]
    with atheris.instrument_imports(include=list(target.packages)):
        run = target.load()
        for data in corpus.kept(name):
            # What is imported late is looked at, too.
            with suppress(Exception):
                run(data)
    from fuzz.watch import SECONDS, watched

    run = watched(run)
    findings = Findings(Path(found))

    def once(data: bytes) -> None:
        try:
            run(data)
        except Exception as error:
            findings.add(of_exception(name, error, data))

    options = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": target.length,
        "len_control": 0,
        "timeout": int(SECONDS * LOAD_FACTOR),
        "rss_limit_mb": MOST_MEMORY,
        "print_final_stats": 1,
        "report_slow_units": 1 << 30,
        "artifact_prefix": f"{found}/{name}-",
    }
    atheris.Setup([name, inputs, *(f"-{key}={value}" for key, value in options.items())], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])

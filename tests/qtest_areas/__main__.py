"""`python -m tests.qtest_areas [--page] [WORD…]`: run the scripts (whose id has one of the words) on both sides."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.qtest_areas.areas import NO_CLOCK, PAGE, PASSES, SCRIPTS, page, run
from tests.qtest_areas.bench import Script, Side, qemu, stand_in


def outcome(script: Script, side: Side, *, verbose: bool) -> str:
    """`passes`, or what is wrong in one line."""
    if script.clock and not side.owns_clock:
        return NO_CLOCK
    try:
        run(script, side)
    except Exception as error:
        if verbose:
            traceback.print_exc()
        return " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return PASSES


def main() -> None:
    """Run them, and say of each how it ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.qtest_areas", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE}")
    arguments = parser.parse_args()
    theirs = qemu()
    if theirs is None:
        sys.exit("qemu-system-x86_64 is not installed")
    outcomes = {}
    with tempfile.TemporaryDirectory(prefix="areas-") as folder:
        ours = stand_in(Path(folder))
        for script in SCRIPTS:
            if arguments.words and not any(word in script.id for word in arguments.words):
                continue
            results, spent = [], []
            for side in (ours, theirs):
                start = time.perf_counter()
                results.append(outcome(script, side, verbose=arguments.verbose))
                spent.append(f"{time.perf_counter() - start:.2f} s")
            outcomes[script.id] = (results[0], results[1])
            sys.stdout.write(f"{script.id}: {' | '.join(results)} ({', '.join(spent)})\n")
            sys.stdout.flush()
    passed = [sum(each[at] == PASSES for each in outcomes.values()) for at in range(2)]
    sys.stdout.write(f"{len(outcomes)} scripts: the stand-in passes {passed[0]}, QEMU {passed[1]}\n")
    if arguments.page:
        PAGE.write_text(page(outcomes))


main()

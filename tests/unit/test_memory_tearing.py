"""A word that another process polls is never seen half written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.tearing import STOP, WORD, open_memory, patterns

ROOT = Path(__file__).parents[2]
READS = 300_000
PATIENCE = 100
"""Rounds of READS that may pass until the writer has been seen, or a torn word where one is expected."""


def watch(code: str, how: str, *, until_torn: bool) -> tuple[int, int]:
    """Read while another process writes; returns (reads with either pattern, torn reads)."""
    fd = os.memfd_create("tearing")
    os.ftruncate(fd, os.sysconf("SC_PAGESIZE"))
    mapping, memory = open_memory(fd)
    words = memory.words(WORD, 1, code)
    first, second = patterns(code)
    words_good = {first, second}
    seen = torn = 0
    command = [sys.executable, "-m", "tests.unit.tearing", str(fd), code, how]
    with subprocess.Popen(command, pass_fds=(fd,), cwd=ROOT) as writer:
        try:
            for _ in range(PATIENCE):
                while not words[0] and writer.poll() is None:
                    pass
                values = [words[0] for _ in range(READS)]
                seen += sum(value in words_good for value in values)
                torn += sum(value not in words_good for value in values)
                both = len(words_good & set(values)) == 2
                if (torn or not until_torn) and both:
                    break
            else:
                pytest.fail("the writer was never seen at work")
        finally:
            mapping[STOP] = 1
    os.close(fd)
    assert writer.returncode == 0
    return seen, torn


@pytest.mark.long
@pytest.mark.parametrize("code", ["H", "I", "Q"])
def test_a_word_stored_through_guest_memory_never_tears(code: str) -> None:
    seen, torn = watch(code, "words", until_torn=False)
    assert seen >= READS
    assert torn == 0


@pytest.mark.long
@pytest.mark.parametrize("how", ["struct", pytest.param("bytes", marks=pytest.mark.slow)])
@pytest.mark.parametrize("code", [*(pytest.param(code, marks=pytest.mark.slow) for code in "HI"), "Q"])
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two processes must run at the same moment")
def test_the_watch_sees_a_store_made_byte_by_byte(code: str, how: str) -> None:
    _, torn = watch(code, how, until_torn=True)
    assert torn > 0

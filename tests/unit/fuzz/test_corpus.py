"""The corpus that is kept: every input of every target goes well; and its files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import corpus
from fuzz.targets import TARGETS
from fuzz.watch import watched

MOST = 100_000
"""Bytes of the whole corpus."""


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_goes_well(name: str) -> None:
    run = watched(TARGETS[name].load())
    for data in corpus.kept(name):
        run(data)


def test_every_target_has_inputs_and_no_other_has() -> None:
    files = {path.stem for path in corpus.FOLDER.iterdir()}
    assert files == set(TARGETS)
    assert all(corpus.kept(name) for name in TARGETS)
    assert sum(path.stat().st_size for path in corpus.FOLDER.iterdir()) < MOST


@given(st.lists(st.binary(max_size=100), max_size=8))
def test_inputs_are_unpacked_as_they_were_packed(inputs: list[bytes]) -> None:
    assert corpus.unpack(corpus.pack(inputs), "a.zst") == inputs


def test_a_damaged_file_is_one_line() -> None:
    packed = corpus.pack([b"abc"])
    for damaged in (b"", packed[:-1], b"no zstandard"):
        with pytest.raises(corpus.CorpusError, match=r"a\.zst: "):
            corpus.unpack(damaged, "a.zst")

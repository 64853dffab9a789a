"""The sample of mutants, and the judgements of those that survived."""

from __future__ import annotations

import ast

import pytest

pytest.importorskip("cosmic_ray")

from tools.mutation.modules import PARTS, ROOT
from tools.mutation.mutants import places, sample
from tools.mutation.page import judgements

SMALL = "devmodels/registers/table.py"
ANNOTATED = "devmodels/registers/arrays.py"
RING = "devmodels/virtio/ringoptions.py"


def test_a_larger_sample_holds_the_smaller_one_and_a_seed_is_a_sample() -> None:
    ten = sample([SMALL, RING], 10, 1)
    assert sample([RING, SMALL], 15, 1)[:10] == ten
    assert sample([SMALL, RING], 10, 2) != ten
    assert sample([SMALL], 1000, 1) == [
        each for each in sample([SMALL, RING], 1000, 1) if each.module == SMALL
    ]


def test_a_mutant_is_the_module_with_one_line_changed() -> None:
    before = (ROOT / SMALL).read_text(encoding="utf-8").splitlines()
    found = sample([SMALL], 1000, 1)
    assert len(found) > 10
    for mutant in found:
        ast.parse(mutant.source)
        after = mutant.source.splitlines()
        assert before[mutant.line - 1].strip() == mutant.was
        if mutant.becomes != "(gone)":
            changed = [
                number for number, pair in enumerate(zip(before, after, strict=True), 1) if pair[0] != pair[1]
            ]
            assert changed == [mutant.line]
            assert after[mutant.line - 1].strip() == mutant.becomes


def test_annotations_have_no_mutants() -> None:
    """`int | None` has an operator, and nothing runs it."""
    assert any(" | None" in line for line in (ROOT / ANNOTATED).read_text(encoding="utf-8").splitlines())
    assert not [place.key for place in places(ANNOTATED) if place.key.startswith("value: int | None")]


def test_what_is_named_is_there() -> None:
    for part in PARTS:
        for path in (*part.modules, *part.near, *part.far):
            assert (ROOT / path).exists(), path


def test_each_judgement_is_of_a_line_that_is_still_there() -> None:
    for module, each_of in judgements().items():
        lines = {line.strip() for line in (ROOT / module).read_text(encoding="utf-8").splitlines()}
        assert not [each.was for each in each_of if each.was not in lines], module

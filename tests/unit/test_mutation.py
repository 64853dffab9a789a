"""The sample of mutants, and the judgements of those that survived."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray")

from tools.mutation import judgements, page, records, trial
from tools.mutation.modules import PARTS, ROOT
from tools.mutation.mutants import named, places, sample
from tools.mutation.trial import How, Job

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


def test_all_that_declares_registers_is_sampled() -> None:
    """But for the registers packages' own front, and the chipset of qtest, which is no device of ours."""
    without = {"devmodels/registers/__init__.py", "devmodels/qtest/chipset.py"}
    declaring = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "devmodels").rglob("*.py")
        if re.search(r"\bRegister\(|\bRegisterFile\b", path.read_text(encoding="utf-8"))
    }
    assert declaring - without <= {module for part in PARTS for module in part.modules}


def test_a_mutant_is_found_again_by_what_it_is() -> None:
    for mutant in sample([SMALL], 1000, 1):
        again = named(mutant.module, mutant.was, mutant.becomes, mutant.nth)
        assert again is not None
        assert again.source == mutant.source
    assert named(SMALL, "no such line", "nor this", 0) is None


def test_each_judgement_is_of_a_record_or_of_a_line_that_is_still_there() -> None:
    recorded = {(each.module, each.was) for record in records.read() for each in record.survivors}
    for module, each_of in judgements.read().items():
        lines = [line.strip() for line in (ROOT / module).read_text(encoding="utf-8").splitlines()]
        new = [each for each in each_of if (module, each.was) not in recorded]
        assert not [each.was for each in new if lines.count(each.was) <= each.nth], module


def test_the_page_is_of_the_records() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.markdown(records.read(), judgements.read())


@pytest.mark.long
@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("pass", How.PASSED),
        ("assert 0", How.TEST),
        pytest.param("while True: pass", How.LOOP, marks=pytest.mark.slow),
        ("threading.Event().wait()", How.SLEEP),
        ("os._exit(3)", How.CRASH),
    ],
)
def test_what_becomes_of_a_run(body: str, how: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if how is How.SLEEP:
        monkeypatch.setattr(trial, "QUIET", 3.0)
    path = tmp_path / "test_one.py"
    path.write_text(f"import os, threading\ndef test_one():\n    {body}\n")
    ((_, result),) = trial.run([Job(None, (str(path),), 4.0)], 1)
    assert result.how is how
    assert ("test_one" in result.test) == (how is How.TEST)


@pytest.mark.long
def test_a_module_that_cannot_be_imported_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "test_one.py"
    path.write_text("import nothing_of_this_name\ndef test_one(): pass\n")
    ((_, result),) = trial.run([Job(None, (str(path),), 4.0)], 1)
    assert result.how is How.IMPORT


@pytest.mark.long
def test_one_folder_may_have_hooks_that_another_has_not(tmp_path: Path) -> None:
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"test_{name}.py").write_text("def test_one(): pass\n")
    (tmp_path / "with" / "conftest.py").write_text("def pytest_runtest_logstart(): pass\n")
    ((_, result),) = trial.run([Job(None, (str(tmp_path / "with"), str(tmp_path / "without")), 4.0)], 1)
    assert result.how is How.PASSED


@pytest.mark.slow
def test_several_run_at_once_and_all_are_told(tmp_path: Path) -> None:
    jobs = []
    for number in range(5):
        path = tmp_path / f"test_{number}.py"
        path.write_text(f"def test_one(): assert {number} % 2\n")
        jobs.append(Job(None, (str(path),), 5.0))
    told = {job.tests: result.how for job, result in trial.run(jobs, 2)}
    assert told == {job.tests: How.PASSED if at % 2 else How.TEST for at, job in enumerate(jobs)}

"""Hostile scripts fail where the defect that they are about is put into our devices."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from guestsim.script.load import parse_all
from guestsim.script.run import Options, YamlScript
from tests.scripts.defects.__main__ import Verdicts
from tests.scripts.defects.innocent import INNOCENT
from tests.scripts.defects.table import Defect, Edit, defects
from tests.scripts.test_corpus import ROWS, named
from tools.replaced import ROOT

ON_PAGE = {row[0]: set(named(row)) for row in ROWS}
BY_NAME = pytest.mark.parametrize(
    "defect", defects().values(), ids=lambda defect: defect.what.replace(" ", "-")
)


@BY_NAME
def test_a_defect_has_its_place_and_is_one_of_the_page(defect: Defect) -> None:
    for path, source in defect.sources().items():
        compile(source, path, "exec")
    for cause in defect.causes:
        assert ON_PAGE[cause] & set(defect.seen_by), cause
    assert set(defect.seen_by) <= set[str]().union(*(ON_PAGE[cause] for cause in defect.causes))


@pytest.mark.slow
@BY_NAME
def test_its_scripts_see_a_defect_that_innocent_drivers_do_not(defect: Defect) -> None:
    command = [sys.executable, "-m", "tests.scripts.defects", defect.what]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=600)
    found = msgspec.json.decode(done.stdout, type=Verdicts)
    assert not found.innocent
    assert {name for name, failure in found.scripts.items() if not failure} == set()
    assert list(found.scripts) == defect.seen_by


@pytest.mark.long
def test_innocent_drivers_find_nothing_without_a_defect() -> None:
    scripts = [YamlScript(*each) for text in INNOCENT for each in parse_all(text, "innocent")]
    assert len(scripts) == len(INNOCENT)
    assert [failure for script in scripts for failure in script.run(Options()).failures] == []


def test_an_edit_has_the_indentation_of_its_place() -> None:
    source = "def f():\n    if a:\n\n        b()\n    c()\n"
    assert (
        Edit("", "a:\n\n    b()", "d:\n    e()").put(source) == "def f():\n    if d:\n        e()\n    c()\n"
    )
    assert Edit("", "if a:\n\n    b()\n", "b()\n").put(source) == "def f():\n    b()\n    c()\n"
    with pytest.raises(ValueError, match="0 places read 'if e:'"):
        Edit("", "if e:").put(source)
    with pytest.raises(ValueError, match="2 places"):
        Edit("", "()").put("a()\nb()")

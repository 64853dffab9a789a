"""What every script of the corpus says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts.corpus import loaded

FOLDER = Path(__file__).parent
SCRIPTS = sorted(FOLDER.rglob("*.guest.yaml"))
HOSTILE = [path for path in SCRIPTS if path.parent.name == "hostile"]


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.name)
def test_a_hostile_script_names_its_oracle(path: Path) -> None:
    head = path.read_text().split("name:")[0]
    assert head.startswith("# ")
    assert "# Oracle: " in head


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_script_begins_by_saying_what_it_shows(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_names_are_not_given_twice() -> None:
    names = [loaded(path).name for path in SCRIPTS]
    assert len(names) == len(set(names))

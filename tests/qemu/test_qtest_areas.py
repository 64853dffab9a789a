"""What QEMU's device programs do, done by scripts of ours: on the stand-in, and on a live QEMU."""

from __future__ import annotations

import pytest

from tests.qtest_areas.areas import PAGE, SCRIPTS, run
from tests.qtest_areas.bench import Script, Side, qemu, stand_in

ROWS = [pytest.param(script, id=script.id) for script in SCRIPTS]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Side:
    return stand_in(tmp_path_factory.mktemp("bin"))


@pytest.mark.qemu
@pytest.mark.parametrize("script", ROWS)
def test_on_the_stand_in(script: Script, ours: Side) -> None:
    run(script, ours)


@pytest.mark.qemu
@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("script", [pytest.param(each, id=each.id) for each in SCRIPTS if not each.clock])
def test_on_a_live_qemu(script: Script) -> None:
    side = qemu()
    assert side is not None
    run(script, side)


def test_the_page_has_every_script() -> None:
    text = PAGE.read_text()
    assert [each.id for each in SCRIPTS if f"| `{each.name}` | {each.what} |" not in text] == []
    assert len({each.id for each in SCRIPTS}) == len(SCRIPTS)

"""A piece of what Linux did with an ext4: answered alike elsewhere, and what defects it meets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from guestsim.portable.run import replay
from guestsim.portable.shrink.shrink import shrink
from guestsim.replay import replay as exact_replay
from guestsim.script.run import Options, read_scripts
from guestsim.script.schema import RingName, TransportName
from tests.unit.guestsim.portable import defects
from tests.unit.guestsim.portable.recorded import on

TRACE = Path(__file__).parents[3] / "data" / "linux-ext4.trace"


@pytest.mark.long
@pytest.mark.parametrize(
    ("ring", "transport", "memory"),
    [pytest.param("packed", "pci", "bounced", marks=pytest.mark.slow), ("split", "mmio", "shared")],
)
def test_its_requests_are_answered_alike(ring: RingName, transport: TransportName, memory: str) -> None:
    tally = replay(TRACE, on(ring=ring, transport=transport, memory=memory)).tally
    assert (tally.differences, tally.stopped) == ([], "")
    assert tally.compared > 200
    assert tally.read_back > 1 << 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("defect", "requests", "lines"),
    [(defects.swapped_reads, 3, 20), (defects.stale_zeroes, 3, 18), (defects.cut_write, 2, 16)],
)
def test_a_defect_that_it_meets_becomes_a_short_script(
    tmp_path: Path, defect: Callable[[], AbstractContextManager[None]], requests: int, lines: int
) -> None:
    out = tmp_path / "out.guest.yaml"
    with defect():
        assert not exact_replay(TRACE).ok
        assert not replay(TRACE, on()).tally.ok
        shrunk = shrink(TRACE, out)
        (script,) = read_scripts(out)
        assert not script.run(Options()).ok
    assert script.run(Options()).ok
    assert shrunk.requests <= requests
    assert shrunk.lines <= lines

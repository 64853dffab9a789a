"""Whatever a guest does, recorded: fed to another ring, transport or memory, every answer is the same."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestsim.portable.run import replay
from guestsim.script.schema import RingName, TransportName
from tests.unit.guestsim.portable.programs import SIZE, RandomGuest
from tests.unit.guestsim.portable.recorded import on, record

Way = tuple[RingName | None, TransportName | None, str]

WAYS: list[Way] = [
    ("packed", "pci", "shared"),
    ("split", "mmio", "bounced"),
    ("split", "pci", "bounced"),
    ("packed", "mmio", "shared"),
    ("split", "mmio-legacy", "shared"),
    ("split", "pci-legacy", "bounced"),
    (None, None, "shared"),
]

guests = st.builds(RandomGuest, st.integers(0, 1 << 32), st.integers(1, 12))
ways = st.sampled_from(WAYS)


def replayed(guest: RandomGuest, packed: bool, way: Way) -> None:
    with TemporaryDirectory() as folder:
        trace = record(
            Path(folder, "a.trace"), guest, size=SIZE, num_queues=2, queue_size=16, packed=packed, serial="x"
        )
        ring, transport, memory = way
        tally = replay(trace, on(ring=ring, transport=transport, memory=memory)).tally
        assert (tally.differences, tally.stopped) == ([], "")
        assert tally.compared == tally.requests


@pytest.mark.long
@settings(max_examples=8)
@given(guests, st.booleans(), ways)
def test_a_random_guest(guest: RandomGuest, packed: bool, way: Way) -> None:
    replayed(guest, packed, way)


@pytest.mark.slow
@settings(max_examples=300)
@given(guests, st.booleans(), ways)
def test_many_random_guests(guest: RandomGuest, packed: bool, way: Way) -> None:
    replayed(guest, packed, way)

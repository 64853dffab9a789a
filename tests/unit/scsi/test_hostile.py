"""Whatever initiators send to units of any kind (`oracle` says what must hold); `tests/slow` has a lot more of it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import devmodels.assembly  # noqa: F401  (every class of units is loaded)
from tests.unit.scsi.kinds import KINDS, classes
from tests.unit.scsi.oracle import Runner

STEPS = 12


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data(), seed=st.integers(0, 2**64 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything(name: str, data: st.DataObject, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    kind = KINDS[name]
    Runner(kind, caplog).run(data.draw(st.sampled_from(sorted(kind.configurations))), seed, STEPS)


def test_every_class_of_units_is_of_a_kind() -> None:
    known = {each for kind in KINDS.values() for each in kind.classes}
    missing = [each for each in classes() if each.__module__.startswith("devmodels.") and each not in known]
    assert missing == []

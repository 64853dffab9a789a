"""More than a hundred thousand random commands, with random lengths and data, to units of each kind.

They come in runs: new units, one seed, `STEPS` steps.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import SLOW_CHECKS
from tests.unit.scsi.kinds import KINDS
from tests.unit.scsi.oracle import Runner

pytestmark = pytest.mark.slow

STEPS = 256
LEAST = 100_000


@pytest.mark.parametrize("name", KINDS)
def test_a_hundred_thousand_commands(
    name: str, caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
) -> None:
    kind = KINDS[name]
    runner = Runner(kind, caplog)

    @given(configuration=st.sampled_from(sorted(kind.configurations)), seed=st.integers(0, 2**64 - 1))
    @settings(
        max_examples=kind.runs,
        phases=[Phase.reuse, Phase.generate],
        deadline=None,
        suppress_health_check=[*SLOW_CHECKS, HealthCheck.function_scoped_fixture],
    )
    def some(configuration: str, seed: int) -> None:
        runner.run(configuration, seed, STEPS)

    some()
    ends = ", ".join(f"{count} {end}" for end, count in runner.ends.most_common())
    record_property("commands", f"{runner.commands} ({ends})")
    assert runner.commands >= LEAST
    assert [each.name for each in kind.commands if not runner.succeeded[each.name]] == []

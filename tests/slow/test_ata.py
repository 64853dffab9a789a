"""A hundred thousand examples of what guests do to HBAs and IDE channels, with disks and with CD drives.

They come in runs: a new machine, one seed, `EXAMPLES` examples of a few steps, each of which ends with a reset and a
driver that begins anew.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import SLOW_CHECKS
from tests.unit.ata.hostility import Runner
from tests.unit.ata.test_hostility import CONFIGURATIONS, KINDS

pytestmark = pytest.mark.slow

EXAMPLES = 100
LEAST = 25_000


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_five_thousand_examples(
    kind: str, caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
) -> None:
    runner = Runner(*KINDS[kind], caplog)

    @given(configuration=st.sampled_from(CONFIGURATIONS), seed=st.integers(0, 2**64 - 1))
    @settings(
        max_examples=LEAST // EXAMPLES,
        phases=[Phase.reuse, Phase.generate],
        deadline=None,
        suppress_health_check=[*SLOW_CHECKS, HealthCheck.function_scoped_fixture],
    )
    def some(configuration: str, seed: int) -> None:
        runner.run(configuration, seed, EXAMPLES)

    some()
    ends = ", ".join(f"{count} {end}" for end, count in runner.ends.most_common())
    record_property("examples", f"{runner.examples} (commands: {ends})")
    assert runner.examples >= LEAST
    assert min(runner.ends[end] for end in ("done", "failed", "dropped")) > LEAST // 50

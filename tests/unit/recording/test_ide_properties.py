"""Whatever a guest does with the registers of an IDE channel: the trace has its disk and its drive do it again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guestsim.errors import GuestError
from guestsim.replay import replay
from tests.unit.ide_cdrom.test_properties import ACCESSES, REGIONS
from tests.unit.recording.atastory import US, IdeStory

STEPS = st.one_of(
    st.tuples(st.just("access"), ACCESSES),
    st.tuples(st.just("access"), ACCESSES),
    st.tuples(st.just("access"), ACCESSES),
    st.tuples(st.just("table"), REGIONS),
    st.builds(
        lambda lba, count, dma, out: ("transfer", {"lba": lba, "count": count, "dma": dma, "out": out}),
        st.integers(0, 2000),
        st.integers(1, 9),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        lambda lba, count, limit, dma: ("packet", {"lba": lba, "count": count, "limit": limit, "dma": dma}),
        st.integers(0, 255),
        st.integers(1, 3),
        st.sampled_from([512, 2048, 0xFFFE]),
        st.booleans(),
    ),
    st.tuples(st.just("clear")),
    st.tuples(st.sampled_from(["turn", "settle", "probe", "machine_reset", "stop", "cont", "cont"])),
    st.tuples(st.just("resize"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["unplug", "plug", "plug"]), st.sampled_from(["hd0", "cd0"])),
)
LATENCIES = st.sampled_from([0, 20 * US])


def is_done_again(latency_ns: int, steps: list[tuple[object, ...]], *, shared: bool, native: bool) -> None:
    with TemporaryDirectory(prefix="devmodels-") as folder:
        path = Path(folder, "a.trace")
        story = IdeStory(path, latency_ns=latency_ns, shared=shared, native=native, probed=False)
        try:
            story.table([(0, 512, False), (0x1000, 0, True)])
            for what, *arguments in steps:
                # A driver may find its channel busy or empty: then it does something else.
                with suppress(GuestError):
                    named = arguments[0] if arguments and isinstance(arguments[0], dict) else None
                    if named is None:
                        getattr(story, str(what))(*arguments)
                    else:
                        getattr(story, str(what))(**named)
        finally:
            story.close()
        result = replay(path)
        assert result.ok, str(result.difference)


@pytest.mark.long
@given(LATENCIES, st.lists(STEPS, min_size=4, max_size=16), st.booleans(), st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_story_of_a_channel_is_done_again(
    latency_ns: int, steps: list[tuple[object, ...]], shared: bool, native: bool
) -> None:
    is_done_again(latency_ns, steps, shared=shared, native=native)


@pytest.mark.slow
@given(LATENCIES, st.lists(STEPS, min_size=12, max_size=60), st.booleans(), st.booleans())
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_any_long_story_of_a_channel_is_done_again(
    latency_ns: int, steps: list[tuple[object, ...]], shared: bool, native: bool
) -> None:
    is_done_again(latency_ns, steps, shared=shared, native=native)

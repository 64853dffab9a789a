"""Whatever a guest asks of SCSI units, and whatever becomes of them meanwhile: the trace has them do it again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from guestsim.drivers.scsi_layouts import Tmf, lun_bytes
from guestsim.errors import GuestError
from guestsim.replay import replay
from tests.unit.recording.scsistory import MIB, US, ScsiStory
from tests.unit.scsi.hostility import Initiators, Send
from tests.unit.scsi.kinds import DISK


class Life(ScsiStory):
    """What a guest and its host can do, by name."""

    KIND = DISK

    def send(self, lun: int, seed: int, count: int) -> None:
        """Commands; nobody waits for them."""
        if self.driver is None or not self.driver.device.queues:
            return
        steps = [each for each in Initiators(self.KIND, Random(seed)).steps(count) if isinstance(each, Send)]
        self.submit(
            [
                self.driver.command(
                    lun_bytes(0, lun), each.cdb, each.out, each.room, attribute=int(each.attribute)
                )
                for each in steps
            ]
        )

    def manage(self, function: Tmf, lun: int, tag: int) -> None:
        if self.driver is not None and self.driver.device.queues:
            self.guest.run(self.driver.manage(function, lun_bytes(0, lun), tag))

    def settle(self) -> None:
        self.guest.run(self.guest.settle())

    def turn(self) -> None:
        self.assembly.context.turn()

    def again(self) -> None:
        self.probe()

    def reset(self) -> None:
        if self.driver is not None:
            self.guest.run(self.driver.reset())

    def machine_reset(self) -> None:
        self.assembly.machine.reset()
        self.driver = None

    def stop(self) -> None:
        self.machine.stop()

    def cont(self) -> None:
        self.machine.cont()

    def resize(self, halves: int) -> None:
        backend = self.assembly.backends.get("d0")
        if backend is not None:
            self.assembly.context.start(backend.resize(halves * (MIB // 2)), lambda *_: None)

    def eject(self) -> None:
        if "u0" in self.assembly.units:
            self.disk().eject()

    def load(self) -> None:
        if "u0" in self.assembly.units:
            self.disk().load()

    def unplug(self, number: int) -> None:
        if f"u{number}" in self.assembly.units and self.assembly.run_state.running:
            self.assembly.context.run(self.assembly.remove_device(f"u{number}"))

    def plug(self, number: int) -> None:
        if f"u{number}" not in self.assembly.units:
            self.assembly.add_device(self.units[number])


LUNS = st.sampled_from([0] * 6 + [1] * 3 + [2])
STEPS = st.one_of(
    st.tuples(st.just("send"), LUNS, st.integers(0, 1 << 16), st.integers(1, 8)),
    st.tuples(st.just("send"), LUNS, st.integers(0, 1 << 16), st.integers(1, 8)),
    st.tuples(st.just("manage"), st.sampled_from(Tmf), LUNS, st.integers(0, 20)),
    st.tuples(st.sampled_from(["settle", "turn", "turn", "again", "reset", "machine_reset"])),
    st.tuples(st.sampled_from(["stop", "cont", "cont", "eject", "load", "load"])),
    st.tuples(st.just("resize"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["unplug", "plug", "plug"]), st.integers(0, 1)),
)
UNITS = st.fixed_dictionaries(
    {},
    optional={
        "thin": st.booleans(),
        "removable": st.just(True),
        "rerror": st.just("stop"),
        "large": st.just(True),
    },
)
LARGE = {"logical_block_size": 4096, "physical_block_size": 4096}


def is_done_again(
    unit: dict[str, object], latency_ns: int, steps: list[tuple[object, ...]], *, shared: bool
) -> None:
    with TemporaryDirectory(prefix="devmodels-") as folder:
        path, state = Path(folder, "a.trace"), str(Path(folder, "state"))
        size = LARGE if unit.pop("large", False) else {}
        units: list[dict[str, object]] = [{**unit, **size, "state": state}, {}]
        life = Life(path, latency_ns=latency_ns, shared=shared, units=units)
        try:
            life.probe()
            for what, *arguments in steps:
                # A driver may find its device stopped, gone or broken: then it does something else.
                with suppress(GuestError):
                    getattr(life, str(what))(*arguments)
        finally:
            life.close()
        result = replay(path)
        assert result.ok, str(result.difference)


@pytest.mark.long
# FORMAT UNIT, whose end is saved in a turn of its own in which nothing else happens.
@example({}, 20 * US, [("send", 0, 0, 1), ("send", 0, 260, 1), ("settle",)], False)
# ORWRITE, the first command that wants to be alone, while a write is in flight.
@example({}, 20 * US, [("send", 1, 0, 6), ("send", 1, 65535, 1), ("settle",)], False)
# A unit that has gone when the machine stops: nobody tells it.
@example({}, 20 * US, [("send", 1, 63, 4), ("turn",), ("unplug", 1), ("stop",), ("cont",)], False)
# A machine that is stopped while it has no disk, and gets one.
@example(
    {},
    20 * US,
    [
        *(("unplug", 0), ("unplug", 1), ("stop",), ("plug", 0), ("again",)),
        *(("send", 0, 63, 4), ("turn",), ("cont",), ("settle",)),
    ],
    False,
)
@given(UNITS, st.sampled_from([0, 20 * US]), st.lists(STEPS, max_size=20), st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_story_of_units_is_done_again(
    unit: dict[str, object], latency_ns: int, steps: list[tuple[object, ...]], shared: bool
) -> None:
    is_done_again(unit, latency_ns, steps, shared=shared)


@pytest.mark.slow
@given(UNITS, st.sampled_from([0, 20 * US]), st.lists(STEPS, max_size=60), st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_long_story_of_units_is_done_again(
    unit: dict[str, object], latency_ns: int, steps: list[tuple[object, ...]], shared: bool
) -> None:
    is_done_again(unit, latency_ns, steps, shared=shared)

"""Whatever guest and host do, in whatever order: the trace alone has the devices do it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devmodels.snapshot import save_snapshot
from devmodels.tracefile import TraceReader
from guestsim.drivers import virtio_blk
from guestsim.drivers.blk_operation import Operation
from guestsim.drivers.pci import ConfigSpace, PciFunction
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_bus import open_function
from guestsim.errors import GuestError
from guestsim.guest import Guest
from guestsim.replay import replay
from guestsim.targets.inprocess import InProcessTarget

HALF_MIB = 1 << 19
SLOT = 4
BARS = 0xE000_0000

OPERATIONS: dict[str, Callable[[int, int], Operation]] = {
    "read": lambda at, n: virtio_blk.read(512 * at, 512 * n),
    "write": lambda at, n: virtio_blk.write(512 * at, bytes([n]) * (512 * n)),
    "flush": lambda _at, _n: virtio_blk.flush(),
    "discard": lambda at, n: virtio_blk.discard([(512 * at, 512 * n), (0, 512)]),
    "zeroes": lambda at, n: virtio_blk.write_zeroes([(512 * at, 512 * n)]),
    "id": lambda _at, _n: virtio_blk.get_id(),
}
Request = tuple[str, int, int]


class Story:
    """A guest and its host, at a recorded machine with a disk that takes its time."""

    def __init__(self, path: Path, *, shared: bool, packed: bool) -> None:
        disk = {"driver": "memory", "size": 2 * HALF_MIB}
        self.options = {
            "driver": "virtio-blk-pci",
            "drive": "d0",
            "id": "v0",
            "addr": str(SLOT),
            "packed": packed,
            "num-queues": 2,
            "rerror": "stop",
            "werror": "stop",
        }
        self.machine = InProcessTarget(
            blockdevs=[{"driver": "delay", "latency-ns": 20_000, "node-name": "d0", "file": disk}],
            devices=[self.options],
            shared=shared,
        )
        self.machine.record(path)
        self.assembly = self.machine.assembly
        self.guest = Guest(self.machine)
        self.driver: virtio_blk.VirtioBlk | None = None

    # --- the guest

    def probe(self, interrupts: Interrupts, legacy: bool) -> None:
        # Another guest: nothing of the one before answers its interrupts.
        self.guest.close()
        self.guest = Guest(self.machine)
        self.driver = None
        function = PciFunction(self.guest, ConfigSpace(self.machine), SLOT, 0)
        self.driver = virtio_blk.VirtioBlk(self.guest, open_function(self.guest, function, legacy=legacy))
        self.guest.run(self.driver.probe(interrupts=interrupts))

    def submit(self, requests: Sequence[Request]) -> None:
        if self.driver is not None and self.driver.queues:
            operations = [OPERATIONS[kind](at, n) for kind, at, n in requests]
            self.guest.run(self.driver.submit(operations))

    def settle(self) -> None:
        self.guest.run(self.guest.settle())

    def turn(self) -> None:
        self.assembly.context.turn()

    def reset(self) -> None:
        if self.driver is not None:
            self.guest.run(self.driver.reset())

    def reset_queue(self) -> None:
        if self.driver is not None and self.driver.queues:
            self.guest.run(self.driver.reset_queue(0))

    def poke(self, offset: int, size: int, value: int) -> None:
        """Somewhere in the device's registers."""
        self.machine.write(BARS + offset, size, value)
        self.machine.read(BARS + offset, size)

    def machine_reset(self) -> None:
        self.assembly.machine.reset()
        self.driver = None

    # --- the host

    def stop(self) -> None:
        self.machine.stop()

    def cont(self) -> None:
        self.machine.cont()

    def resize(self, halves: int) -> None:
        for backend in self.assembly.backends.values():
            self.assembly.context.start(backend.resize(halves * HALF_MIB), lambda *_: None)

    def snapshot(self) -> None:
        save_snapshot(self.assembly)

    def unplug(self) -> None:
        if "v0" in self.assembly.devices and self.assembly.run_state.running:
            self.assembly.context.run(self.assembly.remove_device("v0"))
            self.driver = None

    def plug(self) -> None:
        if "v0" not in self.assembly.devices:
            self.assembly.add_device(self.options)

    def close(self) -> None:
        self.guest.close()
        self.machine.close()


REQUESTS = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 2100), st.sampled_from([1, 2, 8, 17])),
    min_size=1,
    max_size=5,
)
WAYS = st.tuples(st.just("probe"), st.sampled_from(Interrupts), st.booleans())
STEPS = st.one_of(
    WAYS,
    st.tuples(st.just("submit"), REQUESTS),
    st.tuples(st.just("submit"), REQUESTS),
    st.tuples(st.sampled_from(["settle", "turn", "turn", "reset", "reset_queue", "machine_reset"])),
    st.tuples(st.sampled_from(["stop", "cont", "cont", "snapshot", "unplug", "plug", "plug"])),
    st.tuples(st.just("resize"), st.integers(1, 4)),
    st.tuples(
        st.just("poke"),
        st.integers(0, 0x5000),
        st.sampled_from([1, 2, 4, 8]),
        st.integers(0, 3) | st.integers(0, (1 << 64) - 1),
    ),
)


def is_done_again(
    first: tuple[object, ...], steps: list[tuple[object, ...]], *, shared: bool, packed: bool
) -> None:
    with TemporaryDirectory(prefix="devmodels-") as folder:
        path = Path(folder, "a.trace")
        story = Story(path, shared=shared, packed=packed)
        try:
            for what, *arguments in (first, *steps):
                # A driver may find its device stopped, gone or broken: then it does something else.
                with suppress(GuestError):
                    getattr(story, str(what))(*arguments)
        finally:
            story.close()
        result = replay(path)
        assert result.ok, None if result.difference is None else result.difference.got
        with TraceReader(path) as reader:
            assert result.events == reader.count()


@pytest.mark.long
@given(WAYS, st.lists(STEPS, max_size=25), st.booleans(), st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_story_is_done_again(
    first: tuple[object, ...], steps: list[tuple[object, ...]], shared: bool, packed: bool
) -> None:
    is_done_again(first, steps, shared=shared, packed=packed)


@pytest.mark.slow
@given(WAYS, st.lists(STEPS, max_size=100), st.booleans(), st.booleans())
@settings(max_examples=200)
def test_any_long_story_is_done_again(
    first: tuple[object, ...], steps: list[tuple[object, ...]], shared: bool, packed: bool
) -> None:
    is_done_again(first, steps, shared=shared, packed=packed)

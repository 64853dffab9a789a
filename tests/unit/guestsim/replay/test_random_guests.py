"""Guests that do anything in any order over slow disks that fail: recorded, replayed, and replayed from anywhere."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestsim.drivers import virtio_blk
from guestsim.drivers.virtio_blk import Operation, VirtioBlk
from guestsim.errors import GuestError
from guestsim.guest import Guest
from guestsim.replay import replay
from guestsim.targets.inprocess import InProcessTarget

SECTOR = 512
SECTORS = 64
US = 1000

Options = dict[str, object]
Step = tuple[str, int, list[Operation]]


def _range(make: Callable[[int, int], Operation]) -> st.SearchStrategy[Operation]:
    return st.builds(
        lambda first, count: make(first * SECTOR, count * SECTOR),
        st.integers(0, SECTORS),
        st.integers(1, 8),
    )


operations: st.SearchStrategy[Operation] = st.one_of(
    _range(virtio_blk.read),
    _range(lambda offset, length: virtio_blk.read(offset, length, scatter=min(3, length))),
    _range(lambda offset, length: virtio_blk.write(offset, bytes(length))),
    _range(lambda offset, length: virtio_blk.discard([(offset, length), (0, SECTOR)])),
    _range(lambda offset, length: virtio_blk.write_zeroes([(offset, length), (offset, length), (0, SECTOR)])),
    st.just(virtio_blk.flush()),
    st.just(virtio_blk.get_id()),
)
steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 1), st.lists(operations, min_size=1, max_size=6)),
    st.tuples(
        st.sampled_from(
            ("advance", "stop", "cont", "resize", "reset", "reset-queue", "cache", "machine-reset")
        ),
        st.integers(0, 6),
        st.just([]),
    ),
    st.tuples(st.just("advance"), st.integers(1, 12), st.just([])),
)
switches = st.fixed_dictionaries(
    {
        "packed": st.booleans(),
        "event_idx": st.booleans(),
        "indirect_desc": st.booleans(),
        "in_order": st.booleans(),
        "request-merging": st.booleans(),
        "num-queues": st.integers(1, 2),
        "queue-size": st.sampled_from((8, 64)),
        "write-cache": st.sampled_from(("auto", "on", "off")),
        "rerror": st.sampled_from(("report", "stop", "ignore")),
        "werror": st.sampled_from(("report", "stop", "enospc")),
    }
)
errors: st.SearchStrategy[list[Options]] = st.lists(
    st.fixed_dictionaries(
        {
            "event": st.sampled_from(("read_aio", "write_aio", "flush_to_disk", "none")),
            "errno": st.sampled_from((5, 28)),
            "sector": st.integers(-1, SECTORS),
            "once": st.booleans(),
            "immediately": st.booleans(),
        }
    ),
    max_size=2,
)


class RandomGuest:
    """A guest that works through `steps`; it goes on whatever is answered, or not."""

    def __init__(self, target: InProcessTarget) -> None:
        self.target = target
        self.guest = Guest(target)
        self.driver = VirtioBlk(self.guest, virtio_blk.find(self.guest)[0])

    def work(self, steps: list[Step]) -> None:
        self.guest.run(self.driver.probe())
        for name, number, wanted in steps:
            with suppress(GuestError):
                self._do(name, number, wanted)
        self.target.cont()
        while self.target.advance():
            pass

    def _do(self, name: str, number: int, wanted: list[Operation]) -> None:
        queue = number % max(1, len(self.driver.queues))
        if name == "submit":
            # Not more than there is room for: nobody would let a stopped machine go on.
            for operation in wanted:
                if self.driver.queues and self.driver.queues[queue].room > 6:
                    self.guest.run(self.driver.submit([operation], queue=queue))
        elif name == "advance":
            for _ in range(number):
                self.target.advance()
        elif name == "stop":
            self.target.stop()
        elif name == "cont":
            self.target.cont()
        elif name == "resize":
            self.target.resize("d0", (SECTORS // 2 + 16 * number) * SECTOR)
        elif name == "reset":
            self.guest.run(self.driver.probe())
        elif name == "reset-queue" and self.driver.queues:
            self.guest.run(self.driver.reset_queue(queue))
        elif name == "cache":
            self.driver.set_write_cache(on=bool(number % 2))
        elif name == "machine-reset":
            self.target.assembly.machine.reset()
            self.__init__(self.target)  # type: ignore[misc]
            self.guest.run(self.driver.probe())


def record(trace: Path, device: Options, errors: list[Options], steps: list[Step], *, shared: bool) -> None:
    medium = {"driver": "memory", "node-name": "m", "size": SECTORS * SECTOR}
    faulty = {"driver": "blkdebug", "node-name": "f", "image": "m", "inject-error": errors}
    latency = {"distribution": "uniform", "max-ns": 50 * US, "percent": 70}
    slow = {"driver": "delay", "node-name": "d0", "file": "f", "latency": latency, "seed": len(steps)}
    target = InProcessTarget(
        blockdevs=[medium, faulty, slow],
        devices=[{"driver": "virtio-blk-pci", "id": "vd0", "drive": "d0", **device}],
        shared=shared,
    )
    with target:
        target.record(trace)
        RandomGuest(target).work(steps)


def check(device: Options, errors: list[Options], steps: list[Step], shared: bool, share: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trace, snapshot = Path(folder, "a.trace"), Path(folder, "a.snapshot")
        record(trace, device, errors, steps, shared=shared)
        whole = replay(trace)
        assert whole.difference is None
        first = replay(trace, stop_at=int(whole.events * share), save=snapshot)
        assert first.difference is None
        assert replay(trace, start=snapshot).difference is None


@pytest.mark.long
@settings(max_examples=8)
@given(
    device=switches,
    errors=errors,
    steps=st.lists(steps, max_size=12),
    shared=st.booleans(),
    share=st.floats(0, 1),
)
def test_whatever_a_guest_does_is_replayed(
    device: Options, errors: list[Options], steps: list[Step], shared: bool, share: float
) -> None:
    check(device, errors, steps, shared, share)


@pytest.mark.slow
@settings(max_examples=400)
@given(
    device=switches,
    errors=errors,
    steps=st.lists(steps, max_size=60),
    shared=st.booleans(),
    share=st.floats(0, 1),
)
def test_whatever_a_guest_does_for_longer_is_replayed(
    device: Options, errors: list[Options], steps: list[Step], shared: bool, share: float
) -> None:
    check(device, errors, steps, shared, share)

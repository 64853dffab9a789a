"""PCI configuration space in random sequences of virtio functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from guestsim.diff.access import Read
from guestsim.diff.grammar import virtio_config
from guestsim.diff.known import known
from guestsim.diff.play import Difference
from guestsim.diff.run import compare_steps
from guestsim.diff.sides import OurSide
from guestsim.diff.virtio_devices import VIRTIO_BLK
from guestsim.drivers.layouts import COMMON_CFG

from .machines import with_twin

NUM_QUEUES = Read("common", COMMON_CFG["num_queues"].offset, 2)


@pytest.fixture
def side(tmp_path: Path) -> Iterator[OurSide]:
    side = VIRTIO_BLK.our_side(tmp_path)
    for step in VIRTIO_BLK.prologue:
        side.do(step.accesses)
    yield side
    side.close()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_regions_are_where_they_were_when_their_size_is_known(side: OurSide, seed: int) -> None:
    before = side.do([Read("pci", at, 4) for at in virtio_config.BARS])
    found, *_ = side.do(virtio_config.size_bar(Random(seed)).accesses)
    assert found not in before or not found
    assert side.do([Read("pci", at, 4) for at in virtio_config.BARS]) == before
    assert side.do([NUM_QUEUES]) == [2]


def test_a_register_is_the_same_through_configuration_space(side: OurSide) -> None:
    accesses = (*virtio_config.at_offset(NUM_QUEUES.offset, 2), Read("cap-pci", 16, 2))
    assert side.do(accesses)[-1:] == side.do([NUM_QUEUES]) == [2]


@pytest.mark.long
@pytest.mark.parametrize("maker", [maker for maker, _ in virtio_config.TABLE])
def test_machines_that_are_alike_do_the_same(tmp_path: Path, maker: virtio_config.Maker) -> None:
    steps = VIRTIO_BLK.grammar.lower([maker(Random(seed)) for seed in range(10)])
    report = compare_steps(VIRTIO_BLK, steps, open_player=with_twin(tmp_path))
    assert report.unexplained == []
    assert report.counts.waits > 10


def test_another_size_of_a_region_shows(tmp_path: Path) -> None:
    steps = VIRTIO_BLK.grammar.lower([virtio_config.size_bar(Random(seed)) for seed in range(20)])
    report = compare_steps(VIRTIO_BLK, steps, open_player=with_twin(tmp_path, vectors=600))
    (found,) = report.unexplained
    assert found.difference.place.startswith("pci+")


def test_bus_mastering_excuses_what_qemu_does_to_driver_ok_and_nothing_else() -> None:
    now = frozenset({"bus-master"})
    found = Difference("register", "common.device_status", "0xf", "0xb", 1, "any", now, now)
    entry = known("virtio-blk", found)
    assert entry is not None
    assert entry.name == "bus mastering switched off"
    assert known("virtio-blk", replace(found, ours="0xb", theirs="0xf")) is None
    assert known("virtio-blk", replace(found, now=frozenset())) is None
    assert known("virtio-blk", replace(found, place="pci+0x4")) is None

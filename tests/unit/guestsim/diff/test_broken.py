"""Chains and indices that break a ring's rules, and the driver that begins anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from guestsim.diff.access import Read, Wait
from guestsim.diff.devices import DEVICES
from guestsim.diff.grammar import virtio_blk, virtio_legacy
from guestsim.diff.grammar.virtio import BringUp, Broken, Jump, Submit
from guestsim.diff.grammar.virtio_actions import QUIRKS
from guestsim.diff.known import known
from guestsim.diff.play import Difference
from guestsim.diff.run import compare_steps, random_actions
from guestsim.diff.virtio_devices import VIRTIO_BLK
from guestsim.drivers.layouts import COMMON_CFG

from .machines import with_twin

UP = BringUp(virtio_blk.ALL, (16, 16), None)
STATUS = Read("common", COMMON_CFG["device_status"].offset, 1)


def broken(quirk: str) -> Broken:
    """A flush that breaks a rule, or an index that does."""
    if quirk == "jump":
        return Broken(Jump(0, 257), UP)
    chain = replace(virtio_blk.flush(Random(1), 0), quirk=quirk, indirect=quirk.startswith("indirect"))
    return Broken(Submit(0, (chain,), 0), UP)


@pytest.mark.long
@pytest.mark.parametrize("quirk", [*QUIRKS, "jump"])
def test_the_device_needs_a_reset_and_works_after_it(tmp_path: Path, quirk: str) -> None:
    get_id = Submit(0, (virtio_blk.get_id(Random(1), 0),), 0)
    up, wrong, after = VIRTIO_BLK.grammar.lower([UP, broken(quirk), get_id])
    first_wait = next(at for at, one in enumerate(wrong.accesses) if isinstance(one, Wait))
    begun = replace(wrong, accesses=wrong.accesses[:first_wait])
    side = VIRTIO_BLK.our_side(tmp_path)
    for step in (*VIRTIO_BLK.prologue, up, begun):
        side.do(step.accesses)
        while side.rest():
            pass
    assert side.do([STATUS]) == [0x4F]
    side.do(wrong.accesses[first_wait + 1 :])
    assert side.do([STATUS]) == [0x0F]
    side.do(after.accesses)
    while side.rest():
        pass
    assert b"serial-number-of-dev" in side.memory[:]
    side.close()


@pytest.mark.parametrize("quirk", [*QUIRKS, "far", "jump"])
def test_machines_that_are_alike_break_alike(tmp_path: Path, quirk: str) -> None:
    steps = VIRTIO_BLK.grammar.lower([UP, broken(quirk), Submit(0, (virtio_blk.flush(Random(1), 0),), 0)])
    report = compare_steps(VIRTIO_BLK, steps, open_player=with_twin(tmp_path))
    assert report.unexplained == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["virtio-blk", "virtio-blk-transitional", "virtio-scsi"])
def test_random_sequences_break_rings(name: str) -> None:
    device = DEVICES[name]
    legacy = name == "virtio-blk-transitional"
    missing = {"jump", *(f"chain:{quirk}" for quirk in (virtio_legacy.QUIRKS if legacy else QUIRKS))}
    for number in range(200):
        for step in device.grammar.lower(random_actions(device, 0, number)):
            if "broken" in step.tags:
                missing -= step.tags
        if not missing:
            break
    assert not missing


def test_before_driver_ok_only_qemu_may_find_that_a_ring_is_broken() -> None:
    now = frozenset({"broken", "chain:loop", "before-driver-ok"})
    found = Difference("register", "common.device_status", "0xb", "0x4b", 1, "any", now, now)
    entry = known("virtio-scsi", found)
    assert entry is not None
    assert entry.name == "buffers before DRIVER_OK"
    assert known("virtio-scsi", replace(found, ours="0x4b", theirs="0xb")) is None
    assert known("virtio-scsi", replace(found, now=now - {"broken"})) is None
    assert known("virtio-scsi", replace(found, now=now - {"before-driver-ok"})) is None


def test_indirect_and_next_excuses_the_status_that_it_is_about() -> None:
    now = frozenset({"chain:indirect-next", "broken"})
    found = Difference("register", "common.device_status", "0x4f", "0xf", 1, "any", now, now)
    entry = known("virtio-blk", found)
    assert entry is not None
    assert entry.name == "INDIRECT and NEXT"
    assert known("virtio-blk", replace(found, ours="0xf", theirs="0x4f")) is None
    assert known("virtio-blk", replace(found, now=frozenset({"chain:loop"}))) is None
    assert known("virtio-blk", replace(found, kind="memory", place="buffers")) is None

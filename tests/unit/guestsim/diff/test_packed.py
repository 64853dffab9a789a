"""Packed rings in sequences: what the driver puts there, and what our device does with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from guestsim.diff.access import Loose, Store, Unordered, Wait, Write
from guestsim.diff.arena import ARENA
from guestsim.diff.devices import DEVICES
from guestsim.diff.grammar import virtio_blk
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.grammar.virtio import BringUp, InFlight, ResetQueue, Submit, Suppress
from guestsim.diff.grammar.virtio_packed import HINT, MARK
from guestsim.diff.grammar.virtio_rings import AVAIL_AT, RINGS, USED_AT
from guestsim.diff.run import compare_random, compare_steps, random_actions
from guestsim.diff.virtio_devices import VIRTIO_BLK
from guestsim.drivers.layouts import PACKED_DESC, Feature

from .machines import with_twin

ALL = virtio_blk.ALL | 1 << Feature.RING_PACKED
UP = BringUp(ALL, (8, 8), None)


def get_id(*, indirect: bool = False) -> Submit:
    """Three descriptors, or one."""
    chain = replace(virtio_blk.get_id(Random(1), 0), indirect=indirect)
    return Submit(0, (chain,), 0)


def played(folder: Path, *actions: object) -> bytes:
    """What our device has left in memory from the rings on."""
    side = VIRTIO_BLK.our_side(folder)
    for step in (*VIRTIO_BLK.prologue, *VIRTIO_BLK.grammar.lower(actions)):  # type: ignore[arg-type]
        side.do([one for one in step.accesses if not isinstance(one, Loose | Wait)])
        while side.rest():
            pass
    memory = side.memory[RINGS - ARENA :]
    side.close()
    return memory


@pytest.mark.long
def test_used_descriptors_have_the_flags_of_their_lap(tmp_path: Path) -> None:
    memory = played(tmp_path, UP, *(get_id() for _ in range(4)))
    used = [PACKED_DESC.struct.unpack_from(memory, 16 * place) for place in range(8)]
    # Buffers begin at 0, 3, 6, of which the last descriptor is at 0 again, and a lap later at 1.
    assert used[6][1:] == (21, 2 * 257, 0x8082)
    assert used[0][3] == 0x8002
    assert used[1][1:] == (21, 3 * 257, 0x0002)


@pytest.mark.long
def test_an_indirect_buffer_takes_one_descriptor(tmp_path: Path) -> None:
    memory = played(tmp_path, UP, *(get_id(indirect=True) for _ in range(9)))
    used = [PACKED_DESC.struct.unpack_from(memory, 16 * place) for place in range(8)]
    earlier = ((21, 257 * place, 0x8082) for place in range(1, 8))
    assert [each[1:] for each in used] == [(21, 257 * 8, 0x0002), *earlier]


def test_event_suppression_names_a_descriptor_and_its_lap() -> None:
    """The last step of each: the flags, and where there are events the place so far ahead of what was added.

    Until a first buffer is used it is the first place: QEMU interrupts then whatever was asked for.
    """
    untold = Submit(0, get_id().chains, None)
    for actions, expected in (
        ((UP, get_id(), Suppress(0, False, 1)), "04 80 02 00"),
        ((UP, get_id(), Suppress(0, False, 6)), "01 00 02 00"),
        ((UP, Suppress(0, False, 2)), "00 80 02 00"),
        ((UP, untold, Suppress(0, False, 2)), "00 80 02 00"),
        ((UP, get_id(), untold, Suppress(0, False, 0)), "06 80 02 00"),
        ((UP, get_id(), Suppress(0, True, 1)), "00 00 01 00"),
        ((replace(UP, features=ALL & ~(1 << Feature.EVENT_IDX)), Suppress(0, False, 1)), "00 00 00 00"),
    ):
        (store,) = VIRTIO_BLK.grammar.lower(actions)[-1].accesses
        assert store == Store(RINGS + AVAIL_AT, bytes.fromhex(expected))


def test_buffers_of_one_notification_may_be_used_in_any_order_where_they_are_as_long() -> None:
    same, other = get_id().chains[0], get_id(indirect=True).chains[0]
    step = VIRTIO_BLK.grammar.lower([UP, get_id(), Submit(0, (same, other, same), 0)])[-1]
    assert step.name == "queue 0: get-id, get-id"
    *_, wait = step.accesses
    assert wait == Wait(Unordered(6, (RINGS + 16 * 3 + 8, RINGS + 16 * 6 + 8)))
    assert step.tags == {"get-id", "ring-goes-round"}
    marks = [one for one in step.accesses if isinstance(one, Loose) and one.reason == MARK]
    assert [(one.address, one.values) for one in marks] == [
        *((RINGS + 16 * place + 14, (b"\x82\x80", b"\x80\x80")) for place in range(3, 8)),
        (RINGS + 14, (b"\x02\x00", b"\x00\x00")),
    ]


@pytest.mark.long
def test_a_queue_begins_anew_in_its_first_lap(tmp_path: Path) -> None:
    again = ResetQueue(0, again=True)
    memory = played(tmp_path, UP, *(get_id() for _ in range(3)), again, get_id())
    assert PACKED_DESC.struct.unpack_from(memory)[1:] == (21, 0, 0x8082)
    assert memory[USED_AT : USED_AT + 4] == bytes.fromhex("03 80 02 00")


def test_machines_that_are_alike_do_the_same(tmp_path: Path) -> None:
    held = InFlight("read_aio", Submit(0, (virtio_blk.read(Random(2), 1),), 0), (get_id(),))
    steps = VIRTIO_BLK.grammar.lower([UP, held, get_id(), held, get_id(indirect=True), held])
    assert sum(step.tags >= {"in-flight"} for step in steps) == 3
    report = compare_steps(VIRTIO_BLK, steps, open_player=with_twin(tmp_path))
    assert report.unexplained == []
    assert report.counts.held == 3


@pytest.mark.long
@pytest.mark.parametrize("name", ["virtio-blk", "virtio-scsi"])
def test_random_sequences_have_packed_rings(name: str) -> None:
    device = DEVICES[name]
    seen: set[str] = set()
    for number in range(40):
        for step in device.grammar.lower(random_actions(device, 0, number)):
            if any(isinstance(one, Loose) and one.reason == MARK for one in step.accesses):
                seen |= step.tags
    assert {"ring-goes-round", "in-flight"} <= seen


@pytest.mark.long
def test_nothing_of_the_legacy_interface_is_packed(tmp_path: Path) -> None:
    device = DEVICES["virtio-blk-transitional"]
    for number in range(20):
        for step in device.grammar.lower(random_actions(device, 0, number)):
            assert not any(isinstance(one, Loose) and one.reason == MARK for one in step.accesses)
    report = compare_random(device, seed=1, steps=30, open_player=with_twin(tmp_path, device))
    assert not report.unexplained


def test_a_notification_through_configuration_space_is_one() -> None:
    untold = Submit(0, get_id().chains, None)
    tell = Registers("notify through configuration space", (Write("cap-pci", 16, 2, 0),))
    *_, before, after = VIRTIO_BLK.grammar.lower([UP, untold, tell])
    assert not any(isinstance(one, Loose) and one.reason == MARK for one in before.accesses)
    assert sum(isinstance(one, Loose) and one.reason == MARK for one in after.accesses) == 3


def test_before_driver_ok_the_first_wish_may_come_with_a_notification() -> None:
    tell = Registers("notify through configuration space", (Write("cap-pci", 16, 2, 0),))
    early = replace(UP, skip=frozenset({"driver-ok"}))
    for up, hints in ((early, [(bytes.fromhex("00800200"), bytes(4))]), (UP, [])):
        *_, step = VIRTIO_BLK.grammar.lower([up, tell])
        loose = [one for one in step.accesses if isinstance(one, Loose) and one.reason == HINT]
        assert [one.values for one in loose] == hints

"""The tables of known differences and masks, and their page."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from guestsim.diff.access import Loose
from guestsim.diff.devices import DEVICES
from guestsim.diff.known import KNOWN, NEVER_KNOWN, known
from guestsim.diff.play import Difference
from guestsim.diff.profiles import STRICT
from guestsim.diff.run import random_actions
from tools.known_differences import PAGE, page


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text() == page(), "python -m tools.known_differences"


def test_every_known_difference_has_a_clause_and_a_device() -> None:
    for one in KNOWN:
        assert re.search(r"§\d", one.clause), one.name
        assert set(one.devices) & set(DEVICES), one.name


def test_every_mask_that_sequences_name_is_in_the_device_table() -> None:
    for device in DEVICES.values():
        named = {mask.name for mask in device.masks}
        for number in range(8):
            for step in device.grammar.lower(random_actions(device, 0, number)):
                assert {one.reason for one in step.accesses if isinstance(one, Loose)} <= named


def test_no_entry_excuses_an_exception_of_ours_or_the_end_of_qemu() -> None:
    tags = frozenset().union(*(one.tags | one.now for one in KNOWN))
    for device in DEVICES:
        for kind in NEVER_KNOWN:
            assert known(device, Difference(kind, "buffers", "0x0", "0x1", 1, "any", tags, tags)) is None


def test_an_entry_of_profile_strict_excuses_nothing_under_the_other() -> None:
    one = next(one for one in KNOWN if one.name == "VERIFY")
    found = Difference("memory", "buffers", "12 at 0x1020000", "00 at 0x1020000", 1, "any", one.now, one.now)
    assert one.matches("virtio-scsi", found, "qemu")
    strict = replace(one, profiles=STRICT)
    assert strict.matches("virtio-scsi", found, "strict")
    assert not strict.matches("virtio-scsi", found, "qemu")


BROAD = ("VERIFY", "mode pages", "SYNCHRONIZE CACHE (16)", "types that there are not", "attention of no unit")


@pytest.mark.parametrize("name", BROAD)
def test_an_entry_excuses_one_place_and_not_all_that_its_step_does(name: str) -> None:
    for one in (one for one in KNOWN if one.name == name):
        for kind, place in (("register", "common.device_status"), ("disk", "disk 0"), ("line", "interrupt")):
            found = Difference(kind, place, "0x0", "0x1", 1, "any", one.now, one.now)
            assert not one.matches(one.devices[0], found)


def test_buffers_before_driver_ok_are_not_taken_by_ours() -> None:
    """What ours does with them is never excused."""
    tags = frozenset({"skip:driver-ok"})
    ours, theirs = "01 00 at 0x1003002", "00 00 at 0x1003002"
    found = Difference("memory", "queue 0 used index", ours, theirs, 1, "any", tags, frozenset())
    assert known("virtio-blk", found) is None
    found = Difference("memory", "queue 0 used index", theirs, ours, 1, "any", tags, frozenset())
    entry = known("virtio-blk", found)
    assert entry is not None
    assert entry.name == "buffers before DRIVER_OK"

"""The tables of known differences and masks, and their page."""

from __future__ import annotations

import re

from guestsim.diff.access import Loose
from guestsim.diff.devices import DEVICES
from guestsim.diff.known import KNOWN, NEVER_KNOWN, known
from guestsim.diff.play import Difference
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

"""Commands of a disk of which a table says what both answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guestsim.diff.access import Loose
from guestsim.diff.devices import DEVICES
from guestsim.diff.grammar.replies import Reply
from guestsim.diff.grammar.virtio_scsi import HEAD, SENSE_AT, STATUS_AT
from guestsim.diff.grammar.virtio_scsi_table import ROWS, unequal
from guestsim.diff.run import random_actions

VERIFY = next(row for row in ROWS if row.name == "verify-16" and row.ours.fails)


def response(reply: Reply, nothing: bytes) -> bytes:
    """One side's, as it lies in memory."""
    head = bytearray(HEAD)
    head[SENSE_AT : SENSE_AT + 18] = nothing * 18
    if reply.codes is not None:
        key, code, qualifier = reply.codes
        head[0], head[STATUS_AT] = 18, 2
        head[SENSE_AT : SENSE_AT + 18] = bytes(
            (0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0)
        )
    return bytes(head)


def hidden(mine: bytes, others: bytes) -> bool:
    """Whether all that is not the same is what the row says, but for what a unit may leave out."""
    first, second = bytearray(mine), bytearray(others)
    spared = [(SENSE_AT, 1), (SENSE_AT + 3, 4), (SENSE_AT + 15, 3)]
    for one in unequal(VERIFY, STATUS_AT, SENSE_AT):
        loose = Loose(one.reason, one.start, one.length, values=one.values)
        part = slice(one.start, one.start + one.length)
        if loose.hides(mine[part], others[part]):
            spared.append((one.start, one.length))
    for at, size in spared:
        first[at : at + size] = second[at : at + size] = bytes(size)
    return first == second


def test_what_the_row_says_is_hidden() -> None:
    assert hidden(response(VERIFY.ours, b"\0"), response(VERIFY.theirs, b"\xee"))


def test_no_other_sense_data_of_ours_is_and_no_good_status() -> None:
    theirs = response(VERIFY.theirs, b"\xee")
    assert not hidden(response(Reply(codes=(5, 0x24, 0)), b"\0"), theirs)
    assert not hidden(response(Reply(codes=(3, 0x21, 0)), b"\0"), theirs)
    assert not hidden(response(Reply(), b"\0"), response(VERIFY.ours, b"\xee"))
    wrong = bytearray(response(VERIFY.ours, b"\0"))
    wrong[4] = 1
    assert not hidden(bytes(wrong), theirs), "a residual"


def test_a_row_whose_sides_are_alike_hides_nothing() -> None:
    assert list(unequal(replace(VERIFY, theirs=VERIFY.ours), STATUS_AT, SENSE_AT)) == []


@pytest.mark.long
def test_sequences_have_all_of_them() -> None:
    device = DEVICES["virtio-scsi"]
    steps = (step for number in range(60) for step in device.grammar.lower(random_actions(device, 0, number)))
    seen = frozenset().union(*(step.tags for step in steps))
    assert {f"scsi:{row.name}" for row in ROWS} <= seen

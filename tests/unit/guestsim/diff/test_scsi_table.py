"""Commands of a disk and of a CD drive of which a table says what both answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guestsim.diff.access import Loose
from guestsim.diff.devices import DEVICES
from guestsim.diff.grammar.replies import Reply, Row
from guestsim.diff.grammar.virtio_scsi_table import (
    CD,
    DISK,
    FIXED,
    HEAD,
    SENSE_AT,
    STATUS_AT,
    Answers,
    shortened,
    unequal,
    written,
)
from guestsim.diff.masks import Mask
from guestsim.diff.run import random_actions
from guestsim.diff.scsi_masks import SCSI_CD_MASKS, SCSI_MASKS

VERIFY = next(row for row in DISK.rows if row.name == "verify-16" and row.ours.fails and not row.theirs.fails)
CACHING = next(row for row in DISK.rows if row.name == "mode-sense-08" and row.cdb[:3] == b"\x1a\0\x48")
INQUIRY = next(row for row in DISK.rows if row.name == "inquiry" and row.room == 200)


def memory(reply: Reply, row: Row, *, ours: bool) -> bytearray:
    """One side's response and data, as they lie in memory."""
    return bytearray(0 if value is None else value for value in written(reply, row, ours=ours))


def masked(row: Row) -> list[Loose]:
    """What the row says of its bytes."""
    return [Loose(one.reason, one.start, one.length, values=one.values) for one in unequal(row)]


def hidden(row: Row, masks: list[Loose], mine: bytearray, others: bytearray) -> bool:
    """Whether all that is not the same is what the row says."""
    first, second = bytearray(mine), bytearray(others)
    if row.ours.fails == row.theirs.fails:
        # Other masks are about these.
        rest = (0, *range(3, 7), *range(15, 18)) if row.ours.fails else range(FIXED)
        for at in (SENSE_AT + one for one in rest):
            first[at] = second[at] = 0
    for loose in masks:
        part = slice(loose.address, loose.address + loose.length)
        if loose.hides(bytes(mine[part]), bytes(others[part])):
            first[part] = second[part] = bytes(loose.length)
    return first == second


@pytest.mark.parametrize("row", DISK.rows + CD.rows, ids=lambda row: f"{row.name} {row.cdb.hex()}")
def test_what_a_row_says_is_hidden_and_no_other_byte(row: Row) -> None:
    mine, others = memory(row.ours, row, ours=True), memory(row.theirs, row, ours=False)
    told = written(row.ours, row, ours=True)
    masks = masked(row)
    assert hidden(row, masks, mine, others)
    for at in (0, 4, STATUS_AT, 11, SENSE_AT + 2, SENSE_AT + 12, *range(HEAD, len(mine), 7)):
        wrong = bytearray(mine)
        wrong[at] ^= 0x81
        if told[at] is not None and (row.ours.fails or not SENSE_AT <= at < HEAD):
            assert not hidden(row, masks, wrong, others), at


def test_no_other_sense_data_of_ours_is_hidden_and_no_good_status() -> None:
    theirs, masks = memory(VERIFY.theirs, VERIFY, ours=False), masked(VERIFY)
    for reply in (Reply(codes=(5, 0x24, 0)), Reply(codes=(3, 0x21, 0)), Reply()):
        assert not hidden(VERIFY, masks, memory(reply, VERIFY, ours=True), theirs)


def test_a_row_whose_sides_are_alike_hides_nothing() -> None:
    for reply in (VERIFY.ours, VERIFY.theirs):
        assert list(unequal(replace(VERIFY, ours=reply, theirs=reply))) == []


def test_a_shorter_allocation_length_cuts_the_data_of_both() -> None:
    short = shortened(CACHING, 8)
    assert short.cdb == bytes.fromhex("1a0048000800")
    mine, others = memory(short.ours, short, ours=True), memory(short.theirs, short, ours=False)
    assert mine[HEAD:].hex() == "1f00100800000000"
    assert others[HEAD:].hex() == "1f00100800000800"
    assert hidden(short, masked(short), mine, others)


def test_fields_of_inquiry_data_have_their_own_masks() -> None:
    at = {one.start - HEAD: one.reason for one in unequal(INQUIRY)}
    assert at[2] == "scsi:inquiry-version"
    assert at[7] == "scsi:inquiry-sync"
    assert at[59] == "scsi:inquiry-version-descriptors"
    assert not set(range(8, 32)) & set(at), "vendor and product are the same"


@pytest.mark.parametrize(("answers", "masks"), [(DISK, SCSI_MASKS), (CD, SCSI_CD_MASKS)], ids=["disk", "cd"])
def test_each_mask_is_of_a_row_and_each_row_that_differs_has_one(
    answers: Answers, masks: tuple[Mask, ...]
) -> None:
    assert {mask.name for mask in masks} == {one.reason for row in answers.rows for one in unequal(row)}


@pytest.mark.long
@pytest.mark.parametrize(("name", "answers"), [("virtio-scsi", DISK), ("virtio-scsi-cd", CD)])
def test_sequences_have_all_of_them(name: str, answers: Answers) -> None:
    device = DEVICES[name]
    steps = (
        step for number in range(400) for step in device.grammar.lower(random_actions(device, 0, number))
    )
    seen = frozenset().union(*(step.tags for step in steps))
    assert {f"scsi:{row.name}" for row in answers.rows} <= seen

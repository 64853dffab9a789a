"""Packets of a CD drive: commands, ways of their data, and what is found of a drive that does them otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devmodels.ata.packet import packet as model
from devmodels.ata.transfer import DataIn
from guestsim.diff.access import Access, Loose, Read, Rest, Step, parse
from guestsim.diff.ata_devices import IDE_CD
from guestsim.diff.device import Device
from guestsim.diff.devices import DEVICES
from guestsim.diff.grammar.ata import BLOCK
from guestsim.diff.grammar.ide import Issue
from guestsim.diff.grammar.packets import ROWS, blocks_of, packet
from guestsim.diff.grammar.replies import Reply
from guestsim.diff.play import Player
from guestsim.diff.run import compare_steps, random_actions

READ = packet("read-10", bytes.fromhex("28000000000500000200"), Reply(2 * BLOCK), limit=1536)
MODES = next(row for row in ROWS if row.cdb.hex().startswith("5a002a"))
MODE_SENSE = packet("mode-sense-10", MODES.cdb, MODES.ours, limit=0xFFFE)


@contextmanager
def player(folder: Path, device: Device, defects: dict[str, Any]) -> Iterator[Player]:
    """Two machines of ours, of which the second one has defects: other functions in `model`."""
    ours, twin = device.our_side(folder), device.our_side(folder, "twin")
    right = {name: getattr(model, name) for name in defects}

    def put(functions: dict[str, Any]) -> None:
        for name, function in functions.items():
            setattr(model, name, function)

    do, rest = twin.do, twin.rest

    def broken_do(accesses: Sequence[Access]) -> list[int]:
        put(defects)
        try:
            return do(accesses)
        finally:
            put(right)

    def broken_rest() -> bool:
        put(defects)
        try:
            return rest()
        finally:
            put(right)

    twin.do, twin.rest = broken_do, broken_rest  # type: ignore[method-assign]
    try:
        yield device.player(ours, twin)
    finally:
        ours.close()
        twin.close()


def wrong_limit(command: Any) -> int:
    """DRQ blocks of two bytes less than there may be."""
    return int(command.taskfile.lba >> 8 & 0xFFFE) - 2


def wrong_length(command: Any, data: bytes, block: int) -> Any:
    """Two bytes less than there are."""
    return DataIn(data[:-2], block=block)


def steps(*tasks: Any) -> list[Step]:
    return IDE_CD.grammar.lower([Issue(one) for one in tasks])


def test_machines_that_are_alike_do_packets_alike(tmp_path: Path) -> None:
    report = compare_steps(IDE_CD, steps(READ, MODE_SENSE), open_player=lambda: player(tmp_path, IDE_CD, {}))
    assert report.unexplained == []


@pytest.mark.parametrize(
    ("defect", "task"),
    [({"byte_count_limit": wrong_limit}, READ), ({"_answer": wrong_length}, MODE_SENSE)],
    ids=["byte count", "length of MODE SENSE"],
)
def test_a_wrong_byte_count_is_found(tmp_path: Path, defect: dict[str, Any], task: Any) -> None:
    (found,) = compare_steps(
        IDE_CD, steps(task), open_player=lambda: player(tmp_path, IDE_CD, defect)
    ).unexplained
    assert (found.difference.kind, found.difference.place) == ("register", "ide.LBA_MID")


@pytest.mark.parametrize(
    ("length", "limit", "blocks"),
    [
        (4096, 1536, [1536, 1536, 1024]),
        (4096, 1537, [1536, 1536, 1024]),
        (5, 5, [5]),
        (5, 3, [2, 2, 1]),
        (8, 0xFFFF, [8]),
    ],
)
def test_a_limit_that_is_odd_holds_for_the_last_block(length: int, limit: int, blocks: list[int]) -> None:
    assert list(blocks_of(length, limit)) == blocks


@pytest.mark.long
@pytest.mark.parametrize("name", ["ide-cd", "ahci-cd"])
def test_sequences_have_most_commands_by_pio_and_by_dma(name: str) -> None:
    device = DEVICES[name]
    seen: set[tuple[int, int]] = set()
    for number in range(150):
        for action in random_actions(device, 0, number):
            for one in getattr(action, "tasks", [getattr(action, "task", None)]):
                if one is not None and one.packet:
                    seen.add((one.packet[0], one.features & 1))
    both = {code for code, way in seen if way} & {code for code, way in seen if not way}
    assert len({code for code, _ in seen}) >= 45
    assert {0x12, 0x28, 0x43, 0x46, 0x4A, 0x51, 0x5A, 0xA8, 0xBD, 0xBE} <= both


def test_what_both_hold_is_kept_in_a_file() -> None:
    lines = (
        "read data+0x0 2 odd-block 0x1|0x2/0x3",
        "read data+0x0 2 sense-detail */0x0",
        "rest control+0x0 1 packet:seek 0x51|0x41/0x50",
        "loose identity 0x1020000 2 */eeee",
    )
    _, (step,) = parse("device ide-cd\nstep any\n" + "\n".join(lines), "file")
    assert [str(one) for one in step.accesses] == list(lines)
    read, _, rest, loose = step.accesses
    assert isinstance(read, Read)
    assert isinstance(rest, Rest)
    assert isinstance(loose, Loose)
    assert [read.hides(*values) for values in ((1, 3), (2, 3), (3, 1), (1, 2))] == [True, True, False, False]
    assert loose.hides(b"ab", b"\xee\xee")
    assert not loose.hides(b"ab", b"ab")

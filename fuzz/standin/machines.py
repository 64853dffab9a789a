"""The machines that targets speak to, and what holds of each of them when all is said.

after a reset its PCI functions have the registers that they had at the start, and its client is answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from devmodels.qtest.assembling import Assembling
from devmodels.qtest.board import Board
from devmodels.qtest.commandline import parse

MIB = 1 << 20


def _node(name: str, *, read_only: bool = False) -> list[str]:
    more = ",read-only=on" if read_only else ""
    return ["-blockdev", f"memory,node-name={name},size=1048576{more}"]


DISKS = [*_node("d0"), *_node("c0", read_only=True)]
SCSI = ["-device", "scsi-hd,drive=d0,id=hd", "-device", "scsi-cd,drive=c0,id=cd"]
START = ["-m", "1M", "-nodefaults", "-accel", "qtest"]
MACHINES: dict[str, list[str]] = {
    "pc": [
        *("-M", "pc", *START, *DISKS),
        *("-device", "ide-hd,drive=d0,id=hd,bus=ide.0", "-device", "ide-cd,drive=c0,id=cd,bus=ide.1"),
    ],
    "q35": [
        *("-M", "q35", *START, *DISKS),
        *("-device", "ide-hd,drive=d0,id=hd,bus=ide.0", "-device", "ide-cd,drive=c0,id=cd,bus=ide.2"),
    ],
    "scsi": ["-M", "pc", *START, *DISKS, "-device", "virtio-scsi-pci,id=scsi0,addr=4", *SCSI],
    "virtio": ["-M", "q35", *START, *_node("d0"), "-device", "virtio-blk-pci,id=v0,drive=d0,addr=4"],
    "none": ["-M", "none", *START, *_node("d0")],
}
ANSWER = re.compile(rb"(OK|ERR|FAIL)( [^\r\n]*)?")
TOLD = re.compile(rb"IRQ (raise|lower) ([0-9]|1[0-9]|2[0-3])")


@contextmanager
def machine(words: Sequence[str]) -> Iterator[Assembling]:
    """The machine of a command line; OptionError."""
    assembling = Assembling(parse(list(words)))
    try:
        assembling.build()
        yield assembling
    finally:
        assembling.board.close()


def said(board: Board) -> list[bytes]:
    """The lines that a client has got, which now are its own."""
    text = bytes(board.qtest.out)
    board.qtest.out.clear()
    assert not text or text.endswith(b"\n"), text
    return text.split(b"\n")[:-1]


def answers(lines: Sequence[bytes]) -> list[bytes]:
    """Those that are no news of interrupts; all are one or the other."""
    found = []
    for line in lines:
        if TOLD.fullmatch(line) is None:
            assert ANSWER.fullmatch(line), line
            found.append(line)
    return found


def ask(board: Board, line: bytes) -> bytes:
    """The answer to one request."""
    assert board.qtest.feed(line + b"\n")
    (answer,) = answers(said(board))
    return answer


def registers(board: Board) -> dict[tuple[int, int], bytes]:
    """What registers of every function on the machine's own bus say, by slot and number; what is memory is left out."""
    found = {}
    for slot, number, function in board.machine.bus.functions():
        words = []
        for begin, file in function.config.files:
            for offset in range(begin, min(begin + file.size, 256), 4):
                board.machine.io_write(0xCF8, 4, 0x8000_0000 | slot << 11 | number << 8 | offset)
                words.append(board.machine.io_read(0xCFC, 4).to_bytes(4, "little"))
        found[slot, number] = b"".join(words)
    return found


def check_reset(board: Board, before: dict[tuple[int, int], bytes]) -> None:
    """A reset ends whatever there was; functions that have come meanwhile are not looked at."""
    board.context.run_until_idle()
    said(board)
    if not board.assembly.run_state.running:
        board.assembly.run_state.cont()
    if board.hotplug is not None:
        board.hotplug.reset()
    board.machine.reset()
    board.context.run_until_idle()
    said(board)
    if board.name != "none":
        after = registers(board)
        for place in before.keys() & after.keys():
            assert before[place] == after[place], f"after a reset {place} has other registers"
    assert ask(board, b"endianness") == b"OK little"

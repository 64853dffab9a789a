"""PCI configuration space of the stand-in and of QEMU: every dword, at first, with all bits written, and with none.

Both are started with the same words.  After each write the register gets back what it had at first.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

WORDS = ("-qtest", "stdio", "-qtest-log", "none", "-display", "none", "-m", "128", "-nodefaults")
OURS = (sys.executable, "-m", "devmodels.qtest", *WORDS)
THEIRS = ("qemu-system-x86_64", "-accel", "tcg", "-S", *WORDS)
ONES = 0xFFFF_FFFF
ABSENT = ONES
DISK = "-blockdev null-co,node-name=d0,size=1048576"
SPACE = range(0, 256, 4)
FLR = 1 << 15
DEVICE_CONTROL = 0x48

MAY_DIFFER = {
    ("q35", "00.0", 0x9C): "SMRAM of the q35's host bridge can be locked there, and is not modelled",
    ("q35", "1f.0", 0xA0): "SMI_LOCK of the ICH9, once set, stays there, and is not modelled",
}
"""Machine, function and offset, to the reason."""

BLK = "-device virtio-blk-pci,drive=d0,addr=5"
HOST = "-device virtio-scsi-pci,id=s0,addr=5"
HBA = "-device ich9-ahci,id=a0,addr=5 -device ide-hd,drive=d0,bus=a0.0"
DEVICES = {
    "virtio-blk transitional": f"{BLK}",
    "virtio-blk modern": f"{BLK},disable-legacy=on",
    "virtio-blk legacy": f"{BLK},disable-modern=on",
    "virtio-blk without MSI-X": f"{BLK},vectors=0",
    "virtio-blk, 8 queues": f"{BLK},num-queues=8",
    "virtio-scsi transitional": HOST,
    "virtio-scsi modern": f"{HOST},disable-legacy=on",
    "virtio-scsi legacy": f"{HOST},disable-modern=on",
    "virtio-scsi, 129 vectors": f"{HOST},vectors=129",
    "virtio-scsi, 254 vectors": f"{HOST},vectors=254",
    "virtio-scsi, 255 vectors": f"{HOST},vectors=255",
    "virtio-scsi, 512 vectors": f"{HOST},vectors=512",
    "AHCI": HBA,
}


@dataclass(frozen=True, slots=True)
class Dword:
    """One of a function, as it is at first, after ones were written, and after zeros were."""

    at_first: int
    ones: int
    zeros: int

    def __str__(self) -> str:
        return f"{self.at_first:08x}/{self.ones:08x}/{self.zeros:08x}"


class Machine:
    """A machine over its standard input and output."""

    def __init__(self, *argv: str) -> None:
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, *lines: str) -> list[str]:
        """The answers to commands that are sent together."""
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None
        assert sink is not None
        sink.write("".join(f"{line}\n" for line in lines))
        sink.flush()
        answers = [source.readline() for _ in lines]
        assert all(answer.startswith("OK") for answer in answers), answers
        return answers

    def dwords(self, place: int, offsets: range = SPACE) -> list[int]:
        """Read from the function at `place` (bits 23:8 of the address)."""
        lines = [
            line
            for offset in offsets
            for line in (f"outl 0xcf8 {0x8000_0000 | place | offset:#x}", "inl 0xcfc")
        ]
        return [int(answer.split()[1], 16) for answer in self.ask(*lines)[1::2]]

    def tried(self, place: int, offset: int, value: int, keep: int) -> int:
        """What is read after `value` was written; then it has `keep` again."""
        answers = self.ask(
            f"outl 0xcf8 {0x8000_0000 | place | offset:#x}",
            f"outl 0xcfc {value:#x}",
            "inl 0xcfc",
            f"outl 0xcfc {keep:#x}",
        )
        return int(answers[2].split()[1], 16)

    def space(self, place: int, spared: int = 0) -> list[Dword]:
        """All of a function; `spared` are bits of device control that are not written."""
        first = self.dwords(place)
        return [
            Dword(
                held,
                self.tried(place, at, ONES & ~(spared if at == DEVICE_CONTROL else 0), held),
                self.tried(place, at, 0, held),
            )
            for at, held in zip(SPACE, first, strict=True)
        ]

    def functions(self) -> Iterator[tuple[str, list[Dword]]]:
        """All functions of bus 0."""
        for slot in range(32):
            for number in range(8):
                place = slot << 11 | number << 8
                if self.dwords(place, range(4)) != [ABSENT]:
                    yield f"{slot:02x}.{number}", self.space(place)


def _differences(ours: list[Dword], theirs: list[Dword]) -> dict[int, str]:
    return {
        at: f"ours {one}, QEMU {other}"
        for at, one, other in zip(SPACE, ours, theirs, strict=True)
        if one != other
    }


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize("name", DEVICES)
def test_every_function_of_bus_0(machine: str, name: str) -> None:
    words = ("-M", machine, *DISK.split(), *DEVICES[name].split())
    with Machine(*OURS, *words) as ours, Machine(*THEIRS, *words) as theirs:
        mine, others = dict(ours.functions()), dict(theirs.functions())
    assert [*mine] == [*others]
    assert "05.0" in mine
    found = {
        (machine, place, at): text
        for place, space in mine.items()
        for at, text in _differences(space, others[place]).items()
    }
    assert {place: text for place, text in found.items() if place not in MAY_DIFFER} == {}


@pytest.mark.parametrize("ram", ["64M", "3G"])
def test_the_host_bridge_tells_of_memory(ram: str) -> None:
    words = ("-M", "pc", "-m", ram)
    with Machine(*OURS, *words) as ours, Machine(*THEIRS, *words) as theirs:
        assert ours.space(0) == theirs.space(0)


def test_an_access_through_the_window_in_configuration_space() -> None:
    """num_queues of the common configuration, where programs that were written for QEMU have the window: at 84h."""
    words = ("-M", "pc", *DISK.split(), *f"{BLK},num-queues=3,disable-legacy=on".split())
    with Machine(*OURS, *words) as ours, Machine(*THEIRS, *words) as theirs:
        for machine in (ours, theirs):
            for offset, value in (
                (0x20, 0xE000_0000),
                (0x24, 0),
                (0x04, 6),
                (0x88, 4),
                (0x8C, 0x12),
                (0x90, 2),
            ):
                machine.ask(f"outl 0xcf8 {0x8000_2800 | offset:#x}", f"outl 0xcfc {value:#x}")
            assert machine.dwords(0x2800, range(0x94, 0x98, 4))[0] & 0xFFFF == 3

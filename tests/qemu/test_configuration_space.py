"""PCI configuration space of the stand-in and of QEMU: every dword, at first, with all bits written, and with none.

Both are started with the same words.  After each write the register gets back what it had at first.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from guestsim.targets.qmp import QmpClient

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

WITH_DEFAULTS = ("-qtest", "stdio", "-qtest-log", "none", "-display", "none", "-m", "128")
WORDS = (*WITH_DEFAULTS, "-nodefaults")
STAND_IN = (sys.executable, "-m", "devmodels.qtest")
QEMU = ("qemu-system-x86_64", "-accel", "tcg", "-S")
OURS = (*STAND_IN, *WORDS)
THEIRS = (*QEMU, *WORDS)
ONES = 0xFFFF_FFFF
ABSENT = ONES
DISK = "-blockdev null-co,node-name=d0,size=1048576"
SPACE = range(0, 256, 4)

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
        return self.read(place | offset for offset in offsets)

    def read(self, places: Iterable[int]) -> list[int]:
        """Read dwords, each at bits 23:0 of its address."""
        lines = [line for place in places for line in (f"outl 0xcf8 {1 << 31 | place:#x}", "inl 0xcfc")]
        return [int(answer.split()[1], 16) for answer in self.ask(*lines)[1::2]]

    def tried(self, place: int, tries: Sequence[tuple[int, int, int]]) -> list[int]:
        """What is read at each offset after a value was written; then it has what it is to keep."""
        lines = [
            line
            for offset, value, keep in tries
            for line in (
                f"outl 0xcf8 {1 << 31 | place | offset:#x}",
                f"outl 0xcfc {value:#x}",
                "inl 0xcfc",
                f"outl 0xcfc {keep:#x}",
            )
        ]
        return [int(answer.split()[1], 16) for answer in self.ask(*lines)[2::4]]

    def space(self, place: int) -> list[Dword]:
        """All of a function."""
        first = self.dwords(place)
        tries = [(at, value, held) for at, held in zip(SPACE, first, strict=True) for value in (ONES, 0)]
        found = self.tried(place, tries)
        return [Dword(*each) for each in zip(first, found[::2], found[1::2], strict=True)]

    def places(self) -> list[int]:
        """Of all functions of bus 0."""
        places = range(0, 1 << 16, 1 << 8)
        return [place for place, held in zip(places, self.read(places), strict=True) if held != ABSENT]

    def functions(self) -> Iterator[tuple[str, list[Dword]]]:
        """All functions of bus 0."""
        for place in self.places():
            yield f"{place >> 11:02x}.{place >> 8 & 7}", self.space(place)


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


BARS = (*range(0x10, 0x28, 4), 0x30)
CAPABILITIES = 1 << 20
NETWORKS = (
    *("-nic user -net nic,model=pcnet -nic user,model=rtl8139", "-net nic,model=pcnet,addr=9"),
    *("-nic user,model=e1000e", "-nic user,model=virtio", "-net nic,model=ne2k_pci", "-net user"),
)
LINES = (
    *("", "-vga none", "-net none", "-nodefaults", "-nic none", "-netdev user,id=n", "-device e1000"),
    *("-nodefaults -device VGA", "-device qxl-vga", "-device e1000,addr=1e -device VGA -vga std"),
    *(f"-nodefaults -vga {kind}" for kind in ("std", "cirrus", "vmware", "qxl", "virtio")),
    *(f"-nodefaults {line}" for line in NETWORKS),
)


def _headers(machine: Machine) -> dict[int, list[int]]:
    """By slot: the header without word of capabilities, then what its BARs read after ones were written."""
    firsts = machine.read(slot << 11 for slot in range(32))
    present = [slot for slot, held in enumerate(firsts) if held != ABSENT]
    found = {}
    for slot in present:
        header = machine.dwords(slot << 11, range(0, 0x40, 4))
        header[1] &= ~CAPABILITIES
        del header[13]
        found[slot] = header + machine.tried(slot << 11, [(at, ONES, 0) for at in BARS])
    return found


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize("line", LINES)
def test_the_boards_own_display_and_network_are_in_their_slots(machine: str, line: str) -> None:
    """And so the disk, which names none, is where it is on QEMU."""
    words = (*WITH_DEFAULTS, "-M", machine, *DISK.split(), *line.split(), "-device", "virtio-blk,drive=d0")
    with Machine(*STAND_IN, *words) as ours, Machine(*QEMU, *words) as theirs:
        assert _headers(ours) == _headers(theirs)


RESET_MAY_DIFFER = range(0x84, 0x98)
"""The window of a virtio function: ours is as it was at first after a reset, QEMU's stays."""


def after_reset(machine: str, words: Sequence[str], argv: Sequence[str], path: Path) -> dict[str, list[int]]:
    """Configuration space when each byte behind the header was written, and then the machine was reset."""
    with (
        Machine(*argv, "-M", machine, "-qmp", f"unix:{path},server=on,wait=off", *words) as one,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        functions = one.places()
        for place in functions:
            # Not the q35's window onto configuration space.
            for at in set(range(0x40, 256, 4)) - ({0x60, 0x64} if machine == "q35" and not place else set()):
                one.ask(f"outl 0xcf8 {0x8000_0000 | place | at:#x}", "outl 0xcfc 0x5a5a5a5a")
        connection.connect(str(path))
        control = QmpClient(connection, lambda: "it has left")
        control.execute("system_reset")
        while not any(name == "RESET" for name, _ in control.take_events()):
            control.execute("query-status")
        control.close()
        return {f"{place >> 11:02x}.{place >> 8 & 7}": one.dwords(place) for place in functions}


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize("name", ["virtio-blk transitional", "virtio-scsi modern", "AHCI"])
def test_what_a_reset_of_the_machine_leaves(machine: str, name: str, tmp_path: Path) -> None:
    words = (*DISK.split(), *DEVICES[name].split())
    mine = after_reset(machine, words, OURS, tmp_path / "ours")
    others = after_reset(machine, words, THEIRS, tmp_path / "theirs")
    assert [*mine] == [*others]
    found = {
        (place, at): f"ours {one:08x}, QEMU {other:08x}"
        for place, space in mine.items()
        for at, one, other in zip(SPACE, space, others[place], strict=True)
        if one != other and not (place == "05.0" and at in RESET_MAY_DIFFER)
    }
    assert found == {}

"""What a comparison of scripts takes back of QEMU's ATA interrupts alone: what it has compared, and no more."""

from __future__ import annotations

from typing import Any

from guestsim.diff.ata_interrupts import take_back
from guestsim.diff.ata_watch import AtaWatch
from guestsim.diff.sides import ECAM
from guestsim.drivers.ahci_layouts import PORT_STRIDE, PORTS_OFFSET, Ghc, Hba, PortReg

BAR = 0xE000_0000
FUNCTION = ECAM + (4 << 15)
DEVICES: list[dict[str, object]] = [{"driver": "ich9-ahci", "id": "host", "addr": "4"}]
DHRS, PSS, TFES = 1, 2, 1 << 30


def pxis(port: int) -> int:
    return BAR + PORTS_OFFSET + PORT_STRIDE * port + PortReg.IS


class Registers:
    """A machine with one HBA of two ports."""

    def __init__(self, **held: int) -> None:
        self.held = {FUNCTION + 0x24: BAR, BAR + Hba.PI: 3}
        self.held |= {pxis(int(name[-1])): value for name, value in held.items() if name != "all"}
        self.held[BAR + Hba.IS] = held.get("all", 0)
        self.written: dict[int, int] = {}

    def read(self, address: int, _: int) -> int:
        return self.held.get(address, 0)

    def write(self, address: int, _: int, value: int) -> None:
        self.written[address] = value


class Both:
    """Two machines, of which the registers in `unexplained` must not differ."""

    def __init__(self, ours: Registers, theirs: Registers, *unexplained: int) -> None:
        self.ours, self.theirs, self._unexplained = ours, theirs, unexplained

    def look(self, address: int, size: int, *, port: bool) -> tuple[int, int] | None:
        assert not port
        sides = self.ours.read(address, size), self.theirs.read(address, size)
        return None if address in self._unexplained and sides[0] != sides[1] else sides


def taken(ours: Registers, theirs: Registers, *unexplained: int) -> dict[int, int]:
    """What is written to theirs."""
    ports = AtaWatch(ours, DEVICES, None).ports  # type: ignore[arg-type]
    both: Any = Both(ours, theirs, *unexplained)
    take_back(both, ports)
    assert not ours.written
    return theirs.written


def test_only_what_theirs_alone_tells_is_taken_back() -> None:
    ours, theirs = Registers(port0=TFES, all=1), Registers(port0=TFES | DHRS, port1=DHRS, all=3)
    assert taken(ours, theirs) == {pxis(0): DHRS, pxis(1): DHRS, BAR + Hba.IS: 2}


def test_what_both_tell_is_left_to_the_guest() -> None:
    assert taken(Registers(port0=DHRS, all=1), Registers(port0=DHRS, all=1)) == {}


def test_what_is_not_explained_stays() -> None:
    ours, theirs = Registers(), Registers(port0=DHRS, port1=PSS, all=3)
    assert taken(ours, theirs, pxis(1)) == {pxis(0): DHRS, BAR + Hba.IS: 1}


def written(watch: AtaWatch, address: int, value: int) -> int:
    return watch.wrote(address, 4, value, port=False)


def test_what_was_hidden_is_acknowledged_with_what_the_guest_acknowledges() -> None:
    watch = AtaWatch(Registers(), DEVICES, None)  # type: ignore[arg-type]
    watch.hid(pxis(1), DHRS)
    assert written(watch, pxis(0), PSS) == PSS
    assert written(watch, pxis(1), PSS) == PSS | DHRS
    assert written(watch, pxis(1), PSS) == PSS


def test_what_ours_tells_by_then_is_not_taken_from_theirs() -> None:
    ours = Registers()
    watch = AtaWatch(ours, DEVICES, None)  # type: ignore[arg-type]
    watch.hid(pxis(1), DHRS)
    ours.held[pxis(1)] = DHRS | PSS
    assert written(watch, pxis(1), PSS) == PSS


def test_a_reset_ends_what_was_hidden() -> None:
    watch = AtaWatch(Registers(), DEVICES, None)  # type: ignore[arg-type]
    watch.hid(pxis(1), DHRS)
    written(watch, BAR + Hba.GHC, Ghc.AE | Ghc.HR)
    assert written(watch, pxis(1), PSS) == PSS

"""What a guest has issued to ATA hosts while a script runs: commands, and memory that a device writes for them.

The structures are those of AHCI 1.3.1 §4.2 and SFF-8038i §1.2, read from our side as the guest issues what is in them.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from guestsim.diff.access import Read
from guestsim.diff.ata_ports import AtaPorts, Place
from guestsim.diff.ata_said import take_the_rest
from guestsim.diff.grammar.ata import DATA_SET_MANAGEMENT, LBA28, LBA48
from guestsim.diff.grammar.ata_disk import NOT_BOTH, SMART
from guestsim.diff.memories import MEMORY
from guestsim.drivers.ahci_layouts import (
    ACMD_OFFSET,
    DET_PRESENT,
    HEADER,
    HEADER_ATAPI,
    HEADER_SIZE,
    PRD,
    PRD_SIZE,
    PRDT_OFFSET,
    RECEIVED_SIZE,
    Cmd,
    Ghc,
    Hba,
    PortReg,
)
from guestsim.drivers.ide_layouts import EOT, START, AtaStatus, BmStatus, BusMaster, Reg
from guestsim.script.machine import IDE_UNITS
from guestsim.targets.qemu import RAM

if TYPE_CHECKING:
    from guestsim.diff.memories import Memories
    from guestsim.targets.inprocess import InProcessTarget
    from guestsim.targets.qemu import QemuTarget

PACKET, NCQ = 0xA0, frozenset((0x60, 0x61, 0x63, 0x64, 0x65))
IDENTIFY = frozenset((0xEC, 0xA1))
OWN = {0x12: "inquiry", 0x46: "get-configuration", 0x5A: "mode-sense-10"}
"""Packets whose data say what a drive is, and can do."""
SENSE = 0x03
"""REQUEST SENSE."""
PIO_IN = frozenset((0x20, 0x21, 0x24, 0x29, 0x2F, 0xC4, 0xE4, *IDENTIFY))
SMART_OWN = frozenset((0xD0, 0xD1))
"""Those with attributes, and their thresholds, which are the vendor's (ATA8-ACS §7.53)."""
SMART_DATA = frozenset((0xD0, 0xD1, 0xD5))
"""SMART's subcommands with data of the disk's."""
_NAMES = {
    0x90: "execute-device-diagnostic",
    0xE0: "standby-immediate",
    0xE1: "idle-immediate",
    0xE2: "standby",
    0xE3: "idle",
}
"""Commands that masks and known differences speak of."""
MOVING = LBA28 | LBA48 | {DATA_SET_MANAGEMENT, 0x27, 0xF8}
"""Commands whose count and address go on with the sectors on QEMU."""
NATIVE = frozenset((0x27, 0xF8))
"""Those of them that tell an address."""
DIRECTED = {0x60: 0x20, 0x61: 0x00, 0x64: 0x00, 0x65: 0x20}
"""Queued commands with data, and the flag D of their DMA Setup FIS (Serial ATA 3.2 §10.5.9)."""
_IDNF = 0x10
_MOST = 1 << 10
"""Regions of a table that are followed."""


@dataclass(slots=True)
class Issued:
    """A command: `code`, `features`, the `packet` where it has one, and the regions for its data."""

    code: int
    features: int = 0
    packet: bytes = b""
    regions: list[tuple[int, int]] = field(default_factory=list)
    counted: int | None = None
    """Where an HBA says how many bytes were moved."""
    taken: int = 0
    """Bytes that were read at the data register."""
    fields: bytes = bytes(10)
    """Count and address, as FISes have them in bytes 4 to 13 (Serial ATA 3.2 §10.5.5, §10.5.6)."""

    @property
    def wide(self) -> bool:
        """Whether its address has 48 bits."""
        return self.code in LBA48 or self.code in (0x27, 0x42, DATA_SET_MANAGEMENT)

    @property
    def sectors(self) -> int:
        """How many sectors it is about: 0 stands for as many as there can be (ACS-3 §4.18.3)."""
        count = int.from_bytes(self.fields[8:], "little")
        return count or 0x1_0000 if self.wide else count & 0xFF or 0x100

    @property
    def tag(self) -> int:
        """Of a queued command (ACS-3 §7.23)."""
        return self.fields[8] >> 3

    @property
    def queued_sectors(self) -> int:
        """How many sectors a queued command is about."""
        return self.features or 0x1_0000


class AtaWatch:
    """Hears of what a guest writes to the hosts of `devices`, given by their options."""

    def __init__(
        self, target: InProcessTarget, devices: Sequence[Mapping[str, object]], memories: Memories
    ) -> None:
        self._target = target
        self._memories = memories
        self.ports = AtaPorts(target, devices)
        self._issued: list[Issued] = []
        self._last: list[Issued] = []
        self._codes: dict[int, Issued] = {}
        self._received: dict[int, int] = {}
        """Where received FISes lie, and where the registers of their ports do."""
        self._hidden: dict[int, int] = {}
        self._before: dict[int, bytes] = {}
        """The FISes that were received when all was at rest."""
        self._comreset = False
        self._present = frozenset(_units(devices))
        self._selected = {0: 0, 1: 0}

    # --- what the guest does

    def wrote(self, address: int, size: int, value: int, *, port: bool) -> int:
        """The guest is about to write a register; what is to be written to the other side's."""
        place = self.ports.find(address, size, port=port)
        if place is None:
            return value
        if place.window == "hba" and place.number >= 0:
            return self._port(place, value)
        if place.window == "hba" and place.offset == Hba.GHC and value & Ghc.HR:
            self._hidden.clear()
        if place.window == "ide":
            self._command_block(place, size, value)
        elif place.window == "master" and place.offset == BusMaster.COMMAND and value & START:
            self._bus_master(place)
        return value

    def took(self, port: int, size: int) -> None:
        """The guest has read a port."""
        if self.ports.is_data(port) and self._issued:
            self._issued[-1].taken += size

    def takes(self, port: int) -> bool:
        """Whether each read there takes a word away."""
        return self.ports.is_data(port)

    def interrupts(self, address: int, ours: int, theirs: int, *, port: bool) -> bool:
        """Whether ours tells there of an interrupt, of which theirs does not tell yet."""
        place = self.ports.find(address, 1, port=port)
        if place is None:
            return False
        new = ours & ~theirs
        if place.window == "master":
            return place.offset == BusMaster.STATUS and bool(new & BmStatus.INTERRUPT)
        told = place.offset == Hba.IS if place.number < 0 else place.register == PortReg.IS
        return place.window == "hba" and told and bool(new)

    def _port(self, place: Place, value: int) -> int:
        if place.register == PortReg.CI:
            self._slots(place, value)
        elif place.register == PortReg.CMD and value & Cmd.FRE:
            self._received[self._wide(place, PortReg.FB)] = place.base
        elif place.register == PortReg.SCTL and value & 0xF == 1:
            self._comreset = True
        elif place.register == PortReg.IS:
            # What was hidden of theirs is acknowledged with ours, but for what ours has come to have itself since.
            mine = self._target.read(place.base + PortReg.IS, 4)
            value |= self._hidden.pop(place.base, 0) & ~mine
        return value

    def hid(self, address: int, bits: int) -> None:
        """These bits of a register of theirs were hidden from the guest."""
        place = self.ports.find(address, 4, port=False)
        if place is not None and place.number >= 0 and place.register == PortReg.IS:
            self._hidden[place.base] = self._hidden.get(place.base, 0) | bits

    def _slots(self, place: Place, bits: int) -> None:
        self._received[self._wide(place, PortReg.FB)] = place.base
        table = self._wide(place, PortReg.CLB)
        for slot in range(32):
            if bits >> slot & 1:
                self._slot(table + HEADER_SIZE * slot)

    def _wide(self, place: Place, register: PortReg) -> int:
        """A register of 64 bits."""
        low, high = (self._target.read(place.base + register + more, 4) for more in (0, 4))
        return low | high << 32

    def _slot(self, at: int) -> None:
        content = self._ours(at, HEADER_SIZE)
        if not content:
            return
        flags, count, _, low, high = HEADER.unpack(content)
        table = low | high << 32
        fis = self._ours(table, 20)
        if not fis:
            return
        packet = self._ours(table + ACMD_OFFSET, 16) if flags & HEADER_ATAPI else b""
        regions = []
        for number in range(min(count, _MOST)):
            entry = self._ours(table + PRDT_OFFSET + PRD_SIZE * number, PRD_SIZE)
            if entry:
                start, upper, length = PRD.unpack(entry)
                regions.append((start | upper << 32, (length & 0x3F_FFFF) + 1))
        features = fis[3] | fis[11] << 8 if fis[2] in NCQ else fis[3]
        fields = fis[4:11] + b"\0" + fis[12:14]
        self._issued.append(Issued(fis[2], features, packet, regions, at + 4, fields=fields))

    def _command_block(self, place: Place, size: int, value: int) -> None:
        number = place.number
        if place.offset == Reg.STATUS:
            features = self._codes[number].features if number in self._codes else 0
            one = self._codes[number] = Issued(value, features)
            self._issued.append(one)
        elif place.offset == Reg.ERROR:
            # Features, of a command that comes.
            self._codes[number] = Issued(0, value)
        elif place.offset == Reg.DEVICE:
            self._selected[number] = value >> 4 & 1
        elif place.offset == Reg.DATA and number in self._codes:
            one = self._codes[number]
            if one.code == PACKET and len(one.packet) < 12:
                one.packet += value.to_bytes(size, "little")

    def _bus_master(self, place: Place) -> None:
        one = self._codes.get(place.number)
        if one is None:
            return
        table = self._target.io_read(place.base + BusMaster.TABLE, 4)
        one.regions = []
        if one not in self._issued:
            self._issued.append(one)
        for number in range(_MOST):
            entry = self._ours(table + 8 * number, 8)
            if not entry:
                return
            start, length = struct.unpack("<II", entry)
            one.regions.append((start & ~1, (length & 0xFFFE) or 0x1_0000))
            if length & EOT:
                return

    def rest(self) -> None:
        """All is at rest, and has been compared."""
        self._last = self._issued[-1:] or self._last
        self._issued = []
        self._comreset = False
        self._before = {at: self._ours(at, RECEIVED_SIZE) for at in self._received}

    def end(self, theirs: QemuTarget, given: bytes) -> bool:
        """Whether theirs had data blocks where ours has none any more; it has none then either (`take_the_rest`)."""
        found = False
        for command, control in self.ports.blocks():
            if self._target.io_read(control, 1) & (AtaStatus.BSY | AtaStatus.DRQ):
                continue
            if theirs.io_read(control, 1) & (AtaStatus.BSY | AtaStatus.DRQ) == AtaStatus.DRQ:
                take_the_rest(theirs, command, control, given)
                found = True
        return found

    # --- what is known of it

    def tags(self, place: Place | None) -> Iterator[str]:
        """What masks and known differences call the commands of a step, and how one at a place has ended."""
        for one in self.recent:
            if one.code in _NAMES:
                yield _NAMES[one.code]
            if one.code in PIO_IN or one.packet or (one.code == SMART and one.features in SMART_DATA):
                yield "pio-in"
            if one.code in MOVING:
                yield "sectors"
            yield from (
                f"{alone}-alone"
                for code, value, alone in NOT_BOTH
                if (code, value) == (one.code, one.features)
            )
        if self._comreset:
            yield "comreset"
        if (
            place is not None
            and place.window in ("ide", "control")
            and (place.number, self._selected[place.number]) not in self._present
        ):
            yield "absent"
        status, error = self._ended(place)
        if status & AtaStatus.ERR:
            yield "fails"
            if error & _IDNF:
                yield from ("beyond-dma", "beyond-pio")

    def _ended(self, place: Place | None) -> tuple[int, int]:
        """Status and error of ours."""
        if place is None:
            return 0, 0
        if place.window == "hba" and place.number >= 0:
            taskfile = self._target.read(place.base + PortReg.TFD, 4)
            return taskfile & 0xFF, taskfile >> 8 & 0xFF
        if place.window in ("ide", "control", "master"):
            status = self._target.io_read(self.ports.control(place.number), 1)
            return status, self._target.io_read(self.ports.command(place.number) + Reg.ERROR, 1)
        return 0, 0

    @property
    def issued(self) -> Sequence[Issued]:
        """What was issued since all was at rest."""
        return self._issued

    @property
    def recent(self) -> Sequence[Issued]:
        """The same, or the last one before that."""
        return self._issued or self._last

    def read_of(self, place: Place) -> Read:
        """A register as masks have it; for data that are a device's own, or sense data, with a window of its own."""
        if (place.window, place.offset) != ("ide", Reg.DATA) or not self._issued:
            return place.read
        one = self._issued[-1]
        if one.code in IDENTIFY or (one.packet and one.packet[0] in OWN):
            return replace(place.read, window="identity")
        if one.packet and one.packet[0] == SENSE:
            return Read("sense", one.taken - place.size, place.size)
        return place.read

    def received(self, address: int) -> int | None:
        """Where the received FISes lie that an address is one of; None where it is none."""
        return next((at for at in self._received if at <= address < at + RECEIVED_SIZE), None)

    def before(self, received: int) -> bytes:
        """What was received there when all was at rest last, and made alike."""
        return self._before.get(received) or bytes(RECEIVED_SIZE)

    def empty(self, received: int) -> bool:
        """Whether there is no device at the port that received FISes are of."""
        return self._target.read(self._received[received] + PortReg.SSTS, 4) & 0xF != DET_PRESENT

    def buffer(self, address: int) -> tuple[Issued, int] | None:
        """The command that an address is a buffer of, and how many bytes are left of the region."""
        for one in reversed(self._issued):
            for start, length in one.regions:
                if start <= address < start + length:
                    return one, start + length - address
        return None

    def counts(self, address: int) -> bool:
        """Whether an HBA says there how many bytes it has moved."""
        return any(
            one.counted is not None and one.counted <= address < one.counted + 4 for one in self._issued
        )

    def _ours(self, address: int, length: int) -> bytes:
        if MEMORY <= address <= address + length <= RAM:
            return self._memories.sides(address, length)[0]
        return b""


def _units(devices: Sequence[Mapping[str, object]]) -> Iterator[tuple[int, int]]:
    """Channel and unit of each device on an IDE bus."""
    taken: Counter[int] = Counter()
    for one in devices:
        if one.get("driver") in IDE_UNITS:
            channel = int(str(one.get("bus", "0")).rpartition(".")[2])
            unit = int(str(one.get("unit", taken[channel])))
            taken[channel] += 1
            yield channel, unit

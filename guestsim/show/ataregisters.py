"""Registers of hosts of ATA devices: what they are called, and what their values say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devmodels.ahci import AhciPci
from devmodels.ahci.registers import GenericHostControl, PortRegisters
from devmodels.ahci.sata import AddressMap, IndexData, SataCapability
from devmodels.ide_cdrom import PiixIde
from devmodels.ide_cdrom.function import Timing
from devmodels.ide_cdrom.registers import BusMasterRegisters, CommandBlock, ControlBlock
from guestsim.show import ata, scsi

if TYPE_CHECKING:
    from devmodels.ide_cdrom.channel import Channel
    from devmodels.registers import RegisterFile
    from devmodels.tracefile import DeviceFacts
    from guestsim.show.atacommands import AtaCommands
    from guestsim.show.names import Words

FILES: tuple[tuple[type[RegisterFile], str], ...] = (
    (SataCapability, "sata"),
    (AddressMap, "map"),
    (IndexData, "idp"),
    (Timing, "piix"),
)
"""Those of which a host has one."""
FILES_OF_DEVICES = (GenericHostControl, PortRegisters, CommandBlock, ControlBlock, BusMasterRegisters)
"""Those whose names their device or their channel comes before."""
_SHORT = {"status": "is", "enable": "ie"}
"""Declared by what they are; the specification has other names for them."""
_GROUPS = ("is_", "ie_", "cap_", "ghc_", "ssts_", "sctl_", "serr_")
_ADDRESSES = 0x10
"""Registers of a port before this offset say where its lists are."""
_CDB = 12


class Drives:
    """Where ATAPI devices are, whose errors are others."""

    def __init__(self) -> None:
        self._places: set[tuple[str, int]] = set()

    def add(self, facts: DeviceFacts) -> None:
        """A device is on a bus."""
        bus, unit = facts.options.get("bus"), facts.options.get("unit") or 0
        if not isinstance(bus, str) or not isinstance(unit, int):
            return
        place = bus, unit
        if facts.options.get("driver") == "ide-cd":
            self._places.add(place)
        else:
            self._places.discard(place)

    def at(self, bus: str, unit: int = 0) -> bool:
        """Whether there is one."""
        return (bus, unit) in self._places


class ChannelWords:
    """What has been written to a channel: the last command, and the packet that follows it."""

    def __init__(self, channel: Channel, drives: Drives) -> None:
        self.channel = channel
        self.drives = drives
        self.number = int(channel.name.rpartition(".")[2])
        self.words = ""
        self._packet: bytes | None = None

    def command(self, value: int) -> str:
        """What the command `value` is, with what its device's registers hold."""
        unit = self.channel.selected
        taskfile = unit.taskfile.copy()
        taskfile.command = value
        return f"{ata.command_words(taskfile)}, device {unit.number}"

    def error(self, value: int) -> str:
        """The error, as the selected device means it."""
        drive = self.drives.at(self.channel.name, self.channel.selected.number)
        return (ata.packet_error if drive else ata.error)(value)

    def data(self, value: int, size: int) -> str:
        """The packet, where these are its last bytes."""
        if self._packet is None:
            return ""
        packet = self._packet + value.to_bytes(size, "little")
        return f"PACKET {scsi.cdb_words(packet, drive=True)}" if len(packet) == _CDB else ""

    def written(self, offset: int, size: int, value: int) -> None:
        """A register of the command block has been written."""
        if offset == 0 and self._packet is not None:
            self.words = self.data(value, size) or self.words
            packet = self._packet + value.to_bytes(size, "little")
            self._packet = packet if len(packet) < _CDB else None
        elif offset == 7:
            self.words = self.command(value)
            self._packet = b"" if value == ata.PACKET else None

    def tell(self, commands: AtaCommands, device: str, offset: int) -> None:
        """What was `written` is a command, or the end of a packet, of the host `device`."""
        unit = self.channel.selected.number
        if offset == 7:
            words, drive = self.words.rpartition(",")[0], self.drives.at(self.channel.name, unit)
            commands.begin(device, self.number, unit, words, queued=False, drive=drive)
        elif offset == 0 and self._packet is None and self.words.startswith("PACKET "):
            commands.packet(device, self.number, unit, self.words)


def prefix(owner: object, file: RegisterFile) -> str:
    """What the registers of a host's file are called by, with a dot; empty where it is no host's."""
    if isinstance(owner, AhciPci):
        if isinstance(file, GenericHostControl):
            return "hba."
        return next((f"port{port.number}." for port in owner.hba.ports if port.registers is file), "")
    if isinstance(owner, PiixIde):
        for number, channel in enumerate(owner.channels):
            if file is channel.bus_master.registers:
                return f"bm{number}."
            if file in (channel.command_block, channel.control_block):
                return f"ide{number}."
    return ""


def register_name(file: RegisterFile, name: str) -> str:
    """A register's name, as the specification has it."""
    return _SHORT.get(name, name) if isinstance(file, GenericHostControl | PortRegisters) else name


def field_name(file: RegisterFile, name: str) -> str:
    """A field's name, without its register's."""
    if isinstance(file, GenericHostControl | PortRegisters):
        for group in _GROUPS:
            name = name.removeprefix(group)
    return name


def words(file: RegisterFile, name: str) -> Words | None:
    """What says in words what a register holds; None where its fields do, or nothing."""
    if isinstance(file, PortRegisters):
        return _PORT.get(name)
    if isinstance(file, GenericHostControl) and name == "status":
        return _ports
    if isinstance(file, CommandBlock | ControlBlock):
        return _COMMAND_BLOCK.get(name)
    return None


def is_kept(file: RegisterFile, offset: int) -> bool:
    """Whether the twin is told of writes there, which do nothing to it but say where things are."""
    if isinstance(file, PortRegisters):
        return offset < _ADDRESSES
    if isinstance(file, CommandBlock):
        return 1 <= offset <= 6
    return isinstance(file, BusMasterRegisters) and offset >= 4


def _ports(value: int) -> str:
    return f"ports {ata.slots(value)}" if value else ""


def _slots(value: int) -> str:
    return f"slots {ata.slots(value)}" if value else ""


_PORT: dict[str, Callable[[int], str]] = {
    "tfd": ata.task_file_data,
    "sig": ata.signature,
    "ci": _slots,
    "sact": _slots,
}
_COMMAND_BLOCK: dict[str, Callable[[int], str]] = {
    "status": ata.status,
    "alternate_status": ata.status,
    "error": ata.error,
}

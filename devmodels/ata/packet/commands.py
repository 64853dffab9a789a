"""The table of an ATAPI device's commands (ATA/ATAPI-7 vol. 1 §6, ACS-3 §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.ata import features
from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import DIAGNOSTIC_PASSED, PACKET_SIGNATURE
from devmodels.ata.packet import identify
from devmodels.ata.packet.packet import packet
from devmodels.ata.table import Command, Protocol, Reply

if TYPE_CHECKING:
    from devmodels.ata.packet.device import AtapiDevice

PACKET, IDENTIFY = 0xA0, 0xA1
ACTIVE = 0xFF
"""CHECK POWER MODE: active or idle."""


def not_for_packets(_device: AtapiDevice, command: AtaCommand) -> None:
    """Aborted, with the signature by which hosts find out what they have (ACS-3 §7.12)."""
    command.taskfile.show(*PACKET_SIGNATURE)
    raise AtaError


def reset(_device: AtapiDevice, command: AtaCommand) -> None:
    """DEVICE RESET and EXECUTE DEVICE DIAGNOSTIC, where the adapter does not do them itself: the signature."""
    taskfile = command.taskfile
    taskfile.show(*PACKET_SIGNATURE)
    taskfile.error = DIAGNOSTIC_PASSED


def power_mode(_device: AtapiDevice, command: AtaCommand) -> None:
    """CHECK POWER MODE: the registers know of no other one than active; the drive's own is asked for by packets."""
    command.taskfile.count = command.taskfile.count & ~0xFF | ACTIVE


def nothing(_device: AtapiDevice, _command: AtaCommand) -> None:
    """Done as soon as it is asked for."""


COMMANDS: tuple[Command[AtapiDevice], ...] = (
    Command(0x08, "DEVICE RESET", Protocol.RESET, reset),
    Command(0x20, "READ SECTOR(S)", Protocol.PIO_IN, not_for_packets),
    Command(0x90, "EXECUTE DEVICE DIAGNOSTIC", Protocol.DIAGNOSTIC, reset),
    Command(PACKET, "PACKET", Protocol.PACKET, packet),
    Command(IDENTIFY, "IDENTIFY PACKET DEVICE", Protocol.PIO_IN, identify.identify),
    Command(0xE0, "STANDBY IMMEDIATE", Protocol.NON_DATA, nothing),
    Command(0xE1, "IDLE IMMEDIATE", Protocol.NON_DATA, nothing),
    Command(0xE5, "CHECK POWER MODE", Protocol.NON_DATA, power_mode),
    Command(0xE6, "SLEEP", Protocol.NON_DATA, nothing),
    Command(0xEC, "IDENTIFY DEVICE", Protocol.PIO_IN, not_for_packets),
    *features.COMMANDS,
)


def transfer_mode_as_qemu(device: AtapiDevice, command: AtaCommand) -> None:
    """Every mode from 0 to 7 is there."""
    device.front.know(features.mode_words(command.taskfile.count & device.count_bits))


def identify_as_qemu(device: AtapiDevice, _command: AtaCommand) -> Reply:
    """IDENTIFY PACKET DEVICE."""
    return device.front.identify()


def packet_as_qemu(device: AtapiDevice, command: AtaCommand) -> Reply:
    """PACKET."""
    return device.front.packet(command)


NOT_OF_QEMU = (0xE0, 0xE1, 0xE5, 0xE6)
"""Codes of power commands, which QEMU's drive does not have."""
AS_QEMU: tuple[Command[AtapiDevice], ...] = (
    *(
        each
        for each in COMMANDS
        if each.opcode not in (*NOT_OF_QEMU, PACKET, IDENTIFY, features.SET_FEATURES)
    ),
    Command(IDENTIFY, "IDENTIFY PACKET DEVICE", Protocol.PIO_IN, identify_as_qemu),
    Command(PACKET, "PACKET", Protocol.PACKET, packet_as_qemu),
    *(each for each in features.COMMANDS if each.value != 0x03),
    features.set_features(0x03, "set transfer mode", transfer_mode_as_qemu),
    *(features.set_features(value, "taken", nothing) for value in (0x02, 0x82, *features.TAKEN)),
    Command(0xE7, "FLUSH CACHE", Protocol.NON_DATA, nothing),
)
"""Those of QEMU 7.2's `ide-cd`."""

"""Every command of a drive as a packet, by PIO and by DMA; and what else an ATAPI device takes."""

from __future__ import annotations

import struct
from typing import Literal

import pytest

from devmodels.ata import AtaCommand, Error, Reset, Status, TaskFile
from devmodels.ata.constants import PACKET_SIGNATURE
from devmodels.ata.packet import AtapiDevice, AtapiOptions
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.mmc import CdDrive
from devmodels.scsi.mmc.commands import COMMANDS
from devmodels.scsi.mmc.options import Interface
from devmodels.scsi.table import Data
from tests.unit.ata.host import MIB, DeviceHost, Outcome

OK = Status.DRDY | Status.DSC
FAILED = OK | Status.ERR
COMPLETED = 3
LIMIT = 0x800
ILLEGAL = SenseKey.ILLEGAL_REQUEST << 4 | Error.ABRT
DMA = 1


class DriveHost(DeviceHost):
    """A host of a CD drive with a disc of a MiB; `blocks`: data goes by PIO."""

    def __init__(self, *, blocks: bool = False, profile: Literal["cd", "dvd"] = "cd") -> None:
        disc = {"driver": "memory", "size": MIB, "node-name": "c0", "read-only": True}
        super().__init__(disc, name="cd0", blocks=blocks)
        drive = CdDrive(self.backend, AtapiOptions(profile=profile).unit_options, interface=Interface.ATAPI)
        self.device = self.atapi = AtapiDevice(drive)

    def packet(self, cdb: bytes, *, out: bytes = b"") -> Outcome:
        """A command packet, and how it ended."""
        taskfile = TaskFile(0xA0, features=0 if self.blocks else DMA, lba=LIMIT << 8)
        outcome = self.issue(AtaCommand(self, taskfile, packet=cdb.ljust(12, b"\0")), out)
        self.context.run_until_idle()
        assert outcome.over
        return outcome

    def awake(self) -> None:
        """What there was to tell has been told."""
        while self.packet(bytes(6)).status != OK:
            pass


CDBS = {
    "TEST UNIT READY": "00",
    "REQUEST SENSE": "03 00 00 00 12",
    "INQUIRY": "12 00 00 00 24",
    "MODE SELECT (6)": "15 10 00 00 04",
    "MODE SENSE (6)": "1a 00 3f 00 ff",
    "START STOP UNIT": "1b 00 00 00 01",
    "PREVENT ALLOW MEDIUM REMOVAL": "1e 00 00 00 01",
    "READ CAPACITY": "25",
    "READ (10)": "28 00 00 00 00 03 00 00 02",
    "SEEK (10)": "2b 00 00 00 00 05",
    "SYNCHRONIZE CACHE": "35",
    "READ SUB-CHANNEL": "42 00 40 01 00 00 00 00 ff",
    "READ TOC/PMA/ATIP": "43 00 00 00 00 00 00 00 ff",
    "PLAY AUDIO (10)": "45 00 00 00 00 00 00 00 01",
    "GET CONFIGURATION": "46 00 00 00 00 00 00 02 00",
    "PLAY AUDIO MSF": "47 00 00 00 02 00 00 02 01",
    "GET EVENT STATUS NOTIFICATION": "4a 01 00 00 10 00 00 00 08",
    "PAUSE/RESUME": "4b",
    "STOP PLAY/SCAN": "4e",
    "READ DISC INFORMATION": "51 00 00 00 00 00 00 00 22",
    "READ TRACK INFORMATION": "52 01 00 00 00 01 00 00 24",
    "MODE SELECT (10)": "55 10 00 00 00 00 00 00 08",
    "MODE SENSE (10)": "5a 00 3f 00 00 00 00 01 00",
    "REPORT LUNS": "a0 00 00 00 00 00 00 00 00 10",
    "PLAY AUDIO (12)": "a5 00 00 00 00 00 00 00 00 01",
    "SET READ AHEAD": "a7",
    "READ (12)": "a8 00 00 00 00 03 00 00 00 02",
    "GET PERFORMANCE": "ac 10 00 00 00 00 00 00 00 01",
    "READ DISC STRUCTURE": "ad 00 00 00 00 00 00 00 08 04",
    "SET STREAMING": "b6 00 00 00 00 00 00 00 00 00 1c",
    "READ CD MSF": "b9 00 00 00 02 03 00 02 05 10",
    "SET CD SPEED": "bb 00 ff ff",
    "MECHANISM STATUS": "bd 00 00 00 00 00 00 00 00 08",
    "READ CD": "be 00 00 00 00 03 00 00 02 f8",
}
AUDIO = ("PLAY AUDIO (10)", "PLAY AUDIO MSF", "PLAY AUDIO (12)", "PAUSE/RESUME")
"""Those that a disc of data does not have done."""
ONLY_DVDS = ("READ DISC STRUCTURE",)
OUT = {
    "MODE SELECT (6)": bytes(4),
    "MODE SELECT (10)": bytes(8),
    "SET STREAMING": struct.pack(">8x5I", 511, 1000, 1000, 1000, 1000),
}


def test_each_command_of_the_drive_has_a_packet() -> None:
    assert set(CDBS) == {each.name for each in COMMANDS}


@pytest.mark.parametrize("profile", ["cd", "dvd"])
def test_packets_do_the_same_by_pio_and_by_dma(profile: Literal["cd", "dvd"]) -> None:
    with DriveHost(blocks=True, profile=profile) as pio, DriveHost(profile=profile) as dma:
        pio.awake()
        dma.awake()
        for command in COMMANDS:
            if (command.name in ONLY_DVDS) is not (profile == "dvd"):
                continue
            cdb, out = bytes.fromhex(CDBS[command.name]), OUT.get(command.name, b"")
            by_pio, by_dma = (host.packet(cdb, out=out) for host in (pio, dma))
            expected = (FAILED, ILLEGAL) if command.name in AUDIO else (OK, 0)
            for each in (by_pio, by_dma):
                assert (each.status, each.error) == expected, command.name
                assert each.taskfile.count & 7 == COMPLETED
            assert by_pio.data == by_dma.data
            assert bool(by_pio.data) is (command.data is Data.IN), command.name
            assert all(length <= LIMIT for length in by_pio.moves)
            assert sum(by_pio.moves) == len(by_pio.data) + len(out)


@pytest.mark.parametrize("opcode", [0x20, 0xEC])
def test_commands_of_disks_are_aborted_with_the_signature(opcode: int) -> None:
    with DriveHost() as host:
        taskfile = host.do(opcode).taskfile
        assert (taskfile.status, taskfile.error) == (FAILED, Error.ABRT)
        assert (taskfile.lba, taskfile.count) == PACKET_SIGNATURE


@pytest.mark.parametrize("opcode", [0x08, 0x90])
def test_resets_that_are_commands_show_the_signature(opcode: int) -> None:
    with DriveHost() as host:
        taskfile = host.do(opcode).taskfile
        assert (taskfile.lba, taskfile.count, taskfile.error) == (*PACKET_SIGNATURE, 1)


@pytest.mark.parametrize("opcode", [0xE0, 0xE1, 0xE6])
def test_power_commands_are_taken(opcode: int) -> None:
    with DriveHost() as host:
        assert host.do(opcode).status == OK
        assert host.do(0xE5).taskfile.count == 0xFF


def test_a_drive_says_what_it_is() -> None:
    with DriveHost() as host:
        data = host.do(0xA1).data
        assert not sum(data) & 0xFF
        words = struct.unpack("<256H", data)
        text = struct.pack(">256H", *words)
        assert words[0] == 0x85C0, "ATAPI, a CD drive, packets of 12 bytes"
        assert text[20:40].decode().strip() == host.atapi.serial
        assert text[46:54].decode().strip() == host.atapi.version
        assert text[54:94].decode().strip() == host.atapi.model
        assert words[49] & 0x0300 == 0x0300, "LBA, DMA"
        assert words[80] & 1 << 8, "ACS"
        assert words[82] & 0x0218 == words[85] & 0x0218 == 0x0218, "power management, PACKET, DEVICE RESET"
        assert (words[63] & 7, words[88] & 0x7F) == (7, 0x7F)


def test_the_drive_takes_transfer_modes_and_keeps_them_over_a_software_reset() -> None:
    with DriveHost() as host:

        def ultra() -> int:
            return host.do(0xA1).data[2 * 88 + 1]

        for features, kept in ((0x66, 4), (0xCC, 0x40)):
            assert host.do(0xEF, features=3, count=0x42).status == OK
            assert ultra() == 4
            assert host.do(0xEF, features=features).status == OK
            host.device.reset(Reset.SOFTWARE, lambda: None)
            assert ultra() == kept
        assert host.do(0xEF, features=3, count=0x47).error == Error.ABRT

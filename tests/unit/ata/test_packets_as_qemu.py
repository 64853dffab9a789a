"""An ATAPI drive under profile `qemu`: the packets of QEMU 7.2's, its answers, and how it refuses.

What is expected is what QEMU's drive has answered.
"""

from __future__ import annotations

import struct

import pytest

from devmodels.ata import AtaCommand, Reset, TaskFile
from devmodels.ata.constants import Transport
from devmodels.ata.packet import AtapiDevice, AtapiOptions
from devmodels.conformance import Profile, ViolationLog
from devmodels.scsi.mmc import CdDrive
from devmodels.scsi.mmc.options import Interface

from .host import MIB
from .test_packets import DMA, OK, DriveHost

BLOCKS = MIB // 2048
ILLEGAL, NOT_READY, ATTENTION = (0x41, 0x50), (0x41, 0x20), (0x41, 0x60)
SENSE = "03 00 00 00 12"
OPCODE, FIELD, RANGE, SAVED, MEDIUM, ROOM, FORMAT, LOCKED = 0x20, 0x24, 0x21, 0x39, 0x3A, 0x4B, 0x30, 0x53
WHOLE = 2352


def as_qemu(*, blocks: bool = False, options: AtapiOptions | None = None) -> DriveHost:
    """The host of a drive that does as QEMU's."""
    host = DriveHost(blocks=blocks)
    violations = ViolationLog(Profile.QEMU)
    options = options or AtapiOptions(serial="the-serial")
    drive = CdDrive(
        host.backend, options.unit_options, interface=Interface.ATAPI, name="other", violations=violations
    )
    host.device = host.atapi = AtapiDevice(drive, options, violations=violations)
    return host


def end(host: DriveHost, cdb: str) -> tuple[int, int]:
    outcome = host.packet(bytes.fromhex(cdb))
    return outcome.status, outcome.error


def data(host: DriveHost, cdb: str) -> str:
    outcome = host.packet(bytes.fromhex(cdb))
    assert (outcome.status, outcome.error) == (OK, 0)
    return outcome.data.hex()


def sense(host: DriveHost) -> str:
    return data(host, SENSE)


def limited(host: DriveHost, cdb: str, limit: int, *, features: int = 0) -> AtaCommand:
    """A packet with a byte count limit, and how it ended."""
    taskfile = TaskFile(0xA0, features=features, lba=limit << 8)
    command = AtaCommand(host, taskfile, packet=bytes.fromhex(cdb).ljust(12, b"\0"))
    host.issue(command)
    host.context.run_until_idle()
    return command


def test_sense_data_are_a_key_and_a_code() -> None:
    with as_qemu() as host:
        assert sense(host) == "f0" + "00" * 6 + "0a" + "00" * 10
        host.atapi.drive.tray.move_out()
        assert end(host, "00") == NOT_READY
        assert sense(host) == "f0000200000000" + "0a" + "00000000" + "3a0000000000"


def test_sense_data_stay_until_another_error_or_a_reset() -> None:
    with as_qemu() as host:
        assert end(host, f"28 00 {BLOCKS:08x} 00 00 01") == ILLEGAL
        assert end(host, "00") == (OK, 0)
        assert [sense(host)[24:28] for _ in range(2)] == ["2100", "2100"]
        host.atapi.reset(Reset.SOFTWARE, lambda: None)
        assert sense(host)[4:6] == "00"


@pytest.mark.parametrize("blocks", [True, False], ids=["pio", "dma"])
def test_a_count_with_which_an_address_wraps_is_none(blocks: bool) -> None:
    with as_qemu(blocks=blocks) as host:
        outcome = host.packet(bytes.fromhex("a8 00 0000001f ffffffff"))
        assert (outcome.status, outcome.error, outcome.data) == (OK, 0, b"")
        assert end(host, "a8 00 00000000 ffffffff") == ILLEGAL
        assert end(host, f"a8 00 {BLOCKS:08x} ffffffff") == ILLEGAL


TRACK, END = "0014010000000000", "0016aa00"
ANSWERS = {
    "inquiry": ("12 00 00 00 24", "058000211f000000" + (b"QEMU    QEMU DVD-ROM    2.5+").hex()),
    "inquiry, a page that is not looked at": ("12 00 80 00 08", "058000211f000000"),
    "inquiry, pages": ("12 01 00 00 ff", "050000020083"),
    "inquiry, its serial number": ("12 01 83 00 63", "0583001802000014" + (b"the-serial".ljust(20)).hex()),
    "inquiry, its names": (
        "12 01 83 00 64",
        "0583006002000014"
        + (b"the-serial".ljust(20)).hex()
        + "02010044"
        + (b"ATA".ljust(8) + b"QEMU DVD-ROM".ljust(40) + b"the-serial".ljust(20)).hex(),
    ),
    "capacity": ("25", f"{BLOCKS - 1:08x}00000800"),
    "capacity, with an address": ("25 00 00 00 00 01 00 00 01", f"{BLOCKS - 1:08x}00000800"),
    "contents": ("43 00 00 00 00 00 00 03 24", f"00120101{TRACK}{END}{BLOCKS:08x}"),
    "contents, the format of byte 2": ("43 00 02 00 00 00 00 03 24", f"00120101{TRACK}{END}{BLOCKS:08x}"),
    "contents, sessions": ("43 00 00 00 00 00 00 03 24 40", "000a01010000000000000000"),
    "profiles": ("46 00 00 00 00 00 00 04 00", "0000001000000008000003080010000000080100"),
    "events of another class": ("4a 01 00 00 01 00 00 00 08", "00008010"),
    "events": ("4a 01 00 00 10 00 00 00 08", "0004041000020000"),
    "information": ("51 00 00 00 00 00 00 00 22", "00200e0101010120" + "00" * 26),
    "recovery": ("5a 00 01 00 00 00 00 02 00", "000e7000000000000106000500000000"),
    "capabilities": (
        "5a 00 2a 00 00 00 00 02 00",
        "001c7000000000002a143b007160290002c00002020002c0000000000000",
    ),
    "structures": ("ad 00 00 00 00 00 00 ff 10 00", "001200000040080401400008034000c004400804"),
    "mechanism": ("bd 00 00 00 00 00 00 00 00 08", "0000000000010000"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_what_it_answers(what: str) -> None:
    cdb, answer = ANSWERS[what]
    with as_qemu() as host:
        assert data(host, cdb) == answer


REFUSALS = {
    "an operation code that it does not have": ("1a 00 2a 00 ff", OPCODE),
    "a page of its names": ("12 01 80 00 ff", FIELD),
    "its names, without room": ("12 01 83 00 1b", ROOM),
    "tracks from the second one": ("43 00 00 00 00 00 02 03 24", FIELD),
    "a format of contents": ("43 00 00 00 00 00 00 03 24 c0", FIELD),
    "a feature": ("46 00 00 01 00 00 00 04 00", FIELD),
    "events that are not polled": ("4a 00 00 00 10 00 00 00 08", FIELD),
    "tracks": ("51 01 00 00 00 00 00 00 22", FIELD),
    "a mode page": ("5a 00 0d 00 00 00 00 02 00", FIELD),
    "changeable values": ("5a 00 41 00 00 00 00 02 00", FIELD),
    "saved values": ("5a 00 c1 00 00 00 00 02 00", SAVED),
    "the structure of a CD": ("ad 00 00 00 00 00 00 00 10 00", FORMAT),
    "a structure of a BD": ("ad 01 00 00 00 00 00 ff 10 00", FIELD),
    "a header alone": ("be 00 00 00 00 05 00 00 01 20", FIELD),
    "blocks beyond the last one": (f"be 00 {BLOCKS:08x} 00 00 01 00", RANGE),
    "a seek beyond the last one": (f"2b 00 {BLOCKS:08x}", RANGE),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_it_refuses(what: str) -> None:
    cdb, code = REFUSALS[what]
    with as_qemu() as host:
        assert end(host, cdb) == ILLEGAL
        assert int(sense(host)[24:26], 16) == code


DONE = ("00", "00 01", "1b 00 00 00 04", "1b 00 00 00 f0", "bb", "28 00 ff ff ff ff 00 00 00", "28 01", "2b")


@pytest.mark.parametrize("cdb", DONE)
def test_what_is_done_without_data(cdb: str) -> None:
    with as_qemu() as host:
        assert data(host, cdb) == ""


@pytest.mark.parametrize("blocks", [True, False], ids=["pio", "dma"])
def test_a_whole_sector_has_a_binary_address_and_no_checks(blocks: bool) -> None:
    with as_qemu(blocks=blocks) as host:
        told = bytes.fromhex(data(host, "be 04 00 00 00 0a 00 00 01 f8"))
        assert (len(told), told[:16].hex()) == (WHOLE, "00" + "ff" * 10 + "00" + "00020a01")
        assert told[16 + 2048 :] == bytes(288)
        assert data(host, "be 1c 00 00 00 0a 00 00 01 17") == told[16 : 16 + 2048].hex()


def test_the_buffer_shows_in_a_page_of_audio() -> None:
    page, head = "5a 00 0e 00 00 00 00 02 00", "00167000000000000e0e"
    with as_qemu() as host:
        assert data(host, page) == head + "00" * 14
        assert len(data(host, "12 00 00 00 24")) == 72
        # Of INQUIRY's answer what is behind a packet, but for the volumes.
        left = bytearray(b"    QEMU DVD-ROM    2.5+"[:12])
        left[5::2] = bytes(4)
        assert data(host, page) == head + "0000" + left.hex()
        assert host.atapi.front.buffer[12:24] == left


def test_a_medium_that_was_changed_is_first_absent_and_then_another_one() -> None:
    with as_qemu() as host:
        tray = host.atapi.drive.tray
        assert end(host, "00") == (OK, 0)
        tray.user_opens()
        tray.user_closes()
        assert data(host, "4a 01 00 00 10 00 00 00 08") == "0004041002020000"
        assert end(host, "00") == NOT_READY
        assert end(host, "1b") == ATTENTION
        command = limited(host, "00", 0, features=DMA)
        assert (command.taskfile.status, command.taskfile.error, command.taskfile.count) == (1, 0x60, 0)
        assert [(told[4:6], told[24:26]) for told in (sense(host), sense(host))] == [
            ("06", "28"),
            ("00", "28"),
        ]
        assert end(host, "00") == (OK, 0)


def test_a_tray_that_is_locked_is_not_opened_and_a_reset_closes_and_unlocks_it() -> None:
    with as_qemu() as host:
        tray = host.atapi.drive.tray
        assert data(host, "1e 00 00 00 01") == ""
        assert data(host, "5a 00 2a 00 00 00 00 02 00")[28:30] == "2b"
        assert end(host, "1b 00 00 00 02") == NOT_READY
        assert sense(host)[24:26] == f"{LOCKED:02x}"
        tray.request_eject(force=False)
        assert data(host, "4a 01 00 00 10 00 00 00 08") == "0004041001020000"
        assert data(host, "1e") == ""
        assert data(host, "1b 00 00 00 02") == ""
        assert tray.open
        assert end(host, "25") == NOT_READY
        host.atapi.reset(Reset.DEVICE, lambda: None)
        assert (tray.open, tray.locked) == (False, False)
        assert end(host, "25") == (OK, 0)


def test_without_a_byte_count_limit_a_command_is_aborted_and_nobody_is_told() -> None:
    with as_qemu() as host:
        for cdb in (SENSE, "12 00 00 00 24", "be 00 00 00 00 00 00 00 01 10"):
            command = limited(host, cdb, 0)
            shown = command.taskfile
            assert (shown.status, shown.error, shown.count, command.unheard) == (0x41, 4, 1, True)
        assert limited(host, "00", 0).taskfile.status == OK
        host.atapi.transport = Transport.SERIAL
        command = limited(host, SENSE, 0)
        assert (command.taskfile.status, command.taskfile.count, command.unheard) == (0x41, 1, False)


def test_what_it_remembers_is_saved() -> None:
    with as_qemu() as host, as_qemu() as other:
        tray = host.atapi.drive.tray
        tray.user_opens()
        tray.user_closes()
        assert end(host, "00") == NOT_READY
        assert len(data(host, "12 00 00 00 24")) == 72
        saved = host.atapi.save()
        other.atapi.judge(saved)
        other.atapi.restore(saved)
        assert other.atapi.save() == saved
        assert other.atapi.front.buffer == host.atapi.front.buffer
        assert data(other, "4a 01 00 00 10 00 00 00 08") == "0004041002020000"
        assert end(other, "1b") == ATTENTION


def test_of_a_tray_that_a_user_moves_the_host_is_told_at_once() -> None:
    with as_qemu() as host:
        told: list[bool] = []
        tray = host.atapi.drive.tray
        host.atapi.attention = lambda: told.append(tray.open)
        tray.user_opens()
        tray.user_opens()
        tray.user_closes()
        tray.request_eject(force=False)
        assert len(told) == 3


def test_who_it_is() -> None:
    with as_qemu() as host:
        identity = host.do(0xA1).data
        words = struct.unpack("<256H", identity)
        text = struct.pack(">256H", *words)
        assert [text[at:end].decode().strip() for at, end in ((20, 40), (46, 54), (54, 94))] == [
            "the-serial",
            "2.5+",
            "QEMU DVD-ROM",
        ]
        assert (words[0], words[49], words[63], words[80], words[88], words[255]) == (
            0x85C0,
            0x0300,
            7,
            0x1E,
            0x203F,
            0,
        )
        assert host.do(0xEF, features=3, count=0x21).status == OK
        assert struct.unpack("<256H", host.do(0xA1).data)[63] == 0x0207

"""An ATAPI drive under profile `qemu`: what QEMU 7.2's keeps of an error, and which counts it takes for none."""

from __future__ import annotations

import pytest

from devmodels.ata import Reset
from devmodels.ata.packet import AtapiDevice, AtapiOptions
from devmodels.conformance import Profile, ViolationLog
from devmodels.scsi.mmc import CdDrive
from devmodels.scsi.mmc.options import Interface

from .host import MIB
from .test_packets import OK, DriveHost

BLOCKS = MIB // 2048
ILLEGAL, NOT_READY = (0x41, 0x50), (0x41, 0x20)
SENSE = bytes.fromhex("03 00 00 00 12")


def as_qemu(*, blocks: bool = False) -> DriveHost:
    """The host of a drive that does as QEMU's."""
    host = DriveHost(blocks=blocks)
    violations = ViolationLog(Profile.QEMU)
    options = AtapiOptions()
    drive = CdDrive(
        host.backend, options.unit_options, interface=Interface.ATAPI, name="other", violations=violations
    )
    host.device = host.atapi = AtapiDevice(drive, options, violations=violations)
    return host


def end(host: DriveHost, cdb: str) -> tuple[int, int]:
    outcome = host.packet(bytes.fromhex(cdb))
    return outcome.status, outcome.error


def sense(host: DriveHost) -> str:
    return host.packet(SENSE).data.hex()


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

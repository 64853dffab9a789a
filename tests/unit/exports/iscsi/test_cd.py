"""A node exported as a drive for CDs: several initiators at one tray, and other people's tools."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pycdlib
import pytest

from devmodels.options import OptionError
from devmodels.scsi.mmc import CdDrive
from guestsim.drivers import cdb, mmc_cdb

from .initiator import World
from .served import Served, iscsi_test_cu, run

EJECT = cdb.start_stop_unit(start=0, loej=1).data
LOCK, UNLOCK = (cdb.prevent_allow(prevent=each).data for each in (1, 0))
PERSISTENT = cdb.prevent_allow(prevent=3).data


class Host:
    """An initiator of its own session, and what it hears."""

    def __init__(self, world: World, number: int) -> None:
        self.initiator = world.connect()
        self.initiator.isid = b"\x80\x12\x34\x56\0" + bytes([number])
        self.initiator.login()
        self.initiator.ready()

    def do(self, command: bytes) -> tuple[int, int]:
        """Sense key and code; zeroes where it succeeded."""
        self.initiator.command(command)
        response = self.initiator.receive()
        return response.sense if response["status"] else (0, 0)

    def read(self, command: cdb.Cdb) -> bytes:
        self.initiator.command(command.data, reads=command.room)
        return self.initiator.receive().data

    def media(self) -> int:
        """The next media event."""
        return self.read(mmc_cdb.get_event_status())[4]


@pytest.fixture
def drive(make: Callable[..., World]) -> World:
    return make(device_type="cd", writable=False)


@pytest.fixture
def hosts(drive: World) -> tuple[Host, Host]:
    return Host(drive, 1), Host(drive, 2)


def tray(world: World) -> CdDrive:
    unit = world.export.target.scsi.units[0]
    assert isinstance(unit, CdDrive)
    return unit


def test_blocks_are_read(drive: World) -> None:
    host = Host(drive, 1)
    assert host.read(cdb.inquiry(allocation=36))[:2] == b"\x05\x80"
    assert host.read(cdb.read_capacity_10()) == bytes.fromhex("000007ff 00000800")
    assert host.read(cdb.read_10(lba=0, blocks=2, block=2048)) == bytes(4096)


def test_each_host_hears_of_a_tray_that_another_one_opens(drive: World, hosts: tuple[Host, Host]) -> None:
    one, _other = hosts
    assert one.do(EJECT) == (0, 0)
    assert [host.do(bytes(6)) for host in hosts] == [(2, 0x3A02)] * 2
    assert [host.media() for host in hosts] == [3, 3]
    assert one.do(cdb.start_stop_unit(start=1, loej=1).data) == (0, 0)
    assert [host.do(bytes(6)) for host in hosts] == [(6, 0x2800)] * 2
    assert [host.do(bytes(6)) for host in hosts] == [(0, 0)] * 2
    assert [host.media() for host in hosts] == [2, 2]
    assert [host.media() for host in hosts] == [0, 0]


def test_each_host_has_a_lock_of_its_own(drive: World, hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    assert [host.do(LOCK) for host in hosts] == [(0, 0)] * 2
    assert one.do(UNLOCK) == (0, 0)
    assert one.do(EJECT) == (5, 0x5302)
    assert tray(drive).tray.locked
    other.initiator.close()
    assert not tray(drive).tray.locked, "with whoever had locked it"
    assert one.do(EJECT) == (0, 0)


def test_the_users_wish_is_told_to_whoever_asked_for_that(drive: World, hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    assert one.do(PERSISTENT) == (0, 0)
    tray(drive).tray.request_eject(force=False)
    assert [host.media() for host in hosts] == [1, 1]
    assert other.do(EJECT) == (0, 0), "which hosts may do in this state"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"device-type": "cd"}, 'writable is on, expected off with device-type "cd"'),
        (
            {"device-type": "cd", "writable": False, "removable": True},
            'removable is True, expected it with device-type "disk"',
        ),
        (
            {"device-type": "cd", "writable": False, "logical-block-size": 4096},
            'logical-block-size is 4096, expected it with device-type "disk"',
        ),
        ({"profile": "dvd"}, 'profile is "dvd", expected it with device-type "cd"'),
        ({"device-type": "tape"}, "device-type"),
    ],
)
def test_options_that_do_not_go_together(world: World, options: dict[str, object], text: str) -> None:
    world.add_disk("d1")
    with pytest.raises(OptionError, match=text):
        world.add_export("e1", "d1", lun=1, **options)


# --- other people's tools

FAMILIES = ("Inquiry", "Mandatory", "PreventAllow", "Read10", "Read12", "ReadCapacity10", "TestUnitReady")
"""What iscsi-test-cu asks of drives, too."""


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3)
    data = bytes(range(256)) * 4096
    image.add_fp(io.BytesIO(data), len(data), "/A.BIN;1")
    path = tmp_path / "a.iso"
    image.write(str(path))
    image.close()
    return path


@pytest.fixture
def served(iso: Path) -> Iterator[Served]:
    found = Served(iso, "device-type=cd", writable=False)
    yield found
    found.close()


@pytest.mark.qemu
def test_an_image_comes_out_as_it_is(served: Served, iso: Path) -> None:
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", str(iso), served.url)
    said = run("iscsi-inq", served.url)
    assert "Peripheral Device Type:MMC" in said
    assert "Removable:1" in said


@pytest.mark.qemu
@pytest.mark.parametrize("family", FAMILIES)
def test_the_conformance_suite_on_what_drives_do(served: Served, family: str) -> None:
    counts, said = iscsi_test_cu(served.url, f"SCSI.{family}")
    assert counts["ran"] == counts["total"] > 0
    assert counts["failed"] == 0, said[-4000:]


@pytest.mark.qemu
def test_the_conformance_suite_on_the_tray(served: Served) -> None:
    """It wants conditions of disks, and no unit attention condition for whoever has loaded the medium."""
    counts, said = iscsi_test_cu(served.url, "SCSI.StartStopUnit")
    assert counts["ran"] == counts["total"] == 3
    assert said.count("MEDIUM_NOT_PRESENT-TRAY_OPEN(0x3a02)") == 2
    failed = [line for line in said.splitlines() if "[FAILED]" in line]
    assert all("(0x2800)" in line or "(0x2400)" in line for line in failed)

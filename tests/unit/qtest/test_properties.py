"""Properties of devices as QEMU calls them, on a device and by `-global`: nothing is dropped in silence."""

from __future__ import annotations

import subprocess
import sys

import pytest

from devmodels.options import OptionError
from tests.unit.qtest.bench import machine
from tests.unit.qtest.test_control import NULL

BLK = f"{NULL}n0 -device virtio-blk-pci,drive=n0,addr=8,disable-modern=on"
SCSI = "-device virtio-scsi-pci,addr=8,disable-modern=on"
DISK = f"{NULL}n0 -device virtio-scsi-pci -device scsi-hd,drive=n0"
CONFIG = 0xC000 + 20
"""Of a legacy device without MSI-X vectors."""


def seg_max(line: str) -> int:
    """Of the virtio device in slot 8, as a guest reads it in its configuration: at 12, or at 4 of virtio-scsi's."""
    with machine("-M", "pc", "-nodefaults", *line.split()) as client:
        client.set_config(8, 0, 0x10, 0xC001)
        client.set_config(8, 0, 0x04, 1)
        return client.number(f"inl {CONFIG + (4 if 'scsi' in line else 12):#x}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (BLK, 254),
        (f"{BLK},seg-max-adjust=off", 126),
        (f"{BLK},seg_max_adjust=on,queue-size=64", 62),
        (f"-global virtio-blk-device.seg-max-adjust=off {BLK},queue-size=64", 126),
        (f"-global virtio-blk-pci.seg-max-adjust=off {BLK},seg-max-adjust=on", 254),
        (SCSI, 254),
        (f"{SCSI},seg_max_adjust=off", 126),
        (f"-global virtio-scsi-device.seg_max_adjust=off {SCSI}", 126),
    ],
)
def test_segments_are_as_many_as_the_queue_has_room_for_or_126(line: str, expected: int) -> None:
    assert seg_max(line) == expected


@pytest.mark.parametrize(
    ("board", "line", "problem"),
    [
        ("pc", f"-global virtio-blk-pci.x=1 {BLK}", "virtio-blk-pci.x=1: Property 'virtio-blk-pci.x' not"),
        ("pc", f"-global virtio-device.x=1 {BLK}", "device.x=1: Property 'virtio-blk-device.x' not found"),
        (
            "pc",
            f"-global virtio-blk-device.disable-legacy=on {BLK}",
            "'virtio-blk-device.disable-legacy' not",
        ),
        ("pc", f"-global scsi-device.x=1 {DISK}", "scsi-device.x=1: Property 'scsi-hd.x' not found"),
        ("pc", "-global isa-fdc.driveA=x", "isa-fdc.driveA=x: Property 'isa-fdc.driveA' not found"),
        ("pc", "-global piix3-ide.x=1", "piix3-ide.x=1: Property 'piix3-ide.x' not found"),
        ("q35", "-global ich9-ahci.x=3", "ich9-ahci.x=3: Property 'ich9-ahci.x' not found"),
        ("pc", f"{BLK},any_layout=off", "any_layout=off is given; here it is always on"),
        ("pc", f"{BLK},aer=x", "Parameter 'aer' expects 'on' or 'off'"),
        ("pc", f"{BLK},seg-max-adjust=x", "Parameter 'seg-max-adjust' expects 'on' or 'off'"),
        ("pc", f"{DISK},scsi_version=2", "scsi_version=2 is given; here it is always 5"),
    ],
)
def test_what_a_device_does_not_have_or_cannot_have_is_refused(board: str, line: str, problem: str) -> None:
    with pytest.raises(OptionError) as caught, machine("-M", board, "-nodefaults", *line.split()):
        pass
    assert problem in str(caught.value)


def test_what_devices_do_anyway_is_taken() -> None:
    blk = "any_layout=on,notify_on_empty=on,aer=off,ats=off,account-failed=auto,scsi=off,x-pcie-flr-init=on"
    line = (
        f"{BLK},{blk} -device ich9-ahci,x-pcie-extcap-init=on -device scsi-cd,scsi_version=5,write-cache=auto"
    )
    line = line.replace("-device scsi-cd", "-device virtio-scsi-pci -device scsi-cd")
    with machine("-M", "pc", "-nodefaults", *line.split()) as client:
        assert client.config(8, 0, 0) == 0x1001_1AF4


def test_what_leaves_it_to_the_device_is_as_if_it_were_not_said() -> None:
    blk = "num-queues=65535,vectors=-1,logical_block_size=0,discard_granularity=4294967295,class=0,romsize=4294967295"
    line = f"{BLK},{blk} {NULL}n1 -device ide-hd,drive=n1,unit=4294967295,account-failed=auto"
    line += f" -device ide-cd,logical_block_size=0 {NULL}n2 -device virtio-scsi-pci,num_queues=-1"
    line += " -device scsi-hd,drive=n2,scsi-id=-1,lun=-1,cyls=0"
    with machine("-M", "pc", "-nodefaults", *line.split()) as client:
        assert client.config(8, 0, 0) == 0x1001_1AF4


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "-global nodev.x=1 -global zz.y=2",
            ["nodev.x has invalid class name", "zz.y has invalid class name"],
        ),
        ("-global virtio-blk.x=1", ["virtio-blk.x has invalid class name"]),
        ("-global piix4-ide.x=1", ["piix4-ide.x=1 not used"]),
        ("-global piix4-ide.addr=9 -device piix4-ide", []),
        (
            "-global PIIX4_PM.disable_s3=1 -global e1000.x=1 -global ide-device.x=1 -global scsi-hd.serial=5",
            [],
        ),
    ],
)
def test_what_a_global_is_not_used_for_is_said(line: str, expected: list[str]) -> None:
    with machine("-M", "pc", "-nodefaults", *line.split()) as client:
        assert client.assembling.warnings == [f"global {each}" for each in expected]


@pytest.mark.long
def test_warnings_go_to_standard_error_and_the_program_runs() -> None:
    words = ["-M", "none", "-global", "nodev.x=1", "-qtest", "stdio", "-qtest-log", "none"]
    ended = subprocess.run(
        [sys.executable, "-m", "devmodels.qtest", *words],
        input="endianness\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (0, "OK little\n")
    assert ended.stderr.endswith(": warning: global nodev.x has invalid class name\n")

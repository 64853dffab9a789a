"""The life of a drive and of the device that has it, over QMP and the human monitor (QEMU's program drive_del)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from guestsim.targets import TargetError
from tests.qtest_areas.bench import Area, Bench, Machine

AREA = Area("drive life", 12)
NULL = "file=null-co://,file.read-zeroes=on,format=raw"
DRIVE = f"-drive if=none,id=drive0,{NULL}"
BRIDGES = "-device pcie-root-port,id=p1 -device pcie-pci-bridge,bus=p1,id=b1"
NAME = "drive0"


def _has(machine: Machine, command: str, key: str) -> bool:
    found = machine.qmp(command)
    assert isinstance(found, list)
    return any(each[key] == NAME for each in found)


def _has_drive(machine: Machine) -> bool:
    return _has(machine, "query-block", "device")


def _drive_add(machine: Machine, *more: str) -> None:
    answer = machine.hmp(f"drive_add 0 {','.join((f'if=none,id={NAME}', *more))}")
    assert answer == "OK\r\n", answer
    assert _has_drive(machine)


def _drive_del(machine: Machine) -> None:
    assert _has_drive(machine)
    answer = machine.hmp(f"drive_del {NAME}")
    assert answer == "", answer
    assert not _has_drive(machine)


def _blockdev_add(machine: Machine) -> None:
    below = {"driver": "null-co", "read-zeroes": True}
    machine.qmp("blockdev-add", {"driver": "raw", "node-name": NAME, "file": below})
    assert _has(machine, "query-named-block-nodes", "node-name")


def _device_add(machine: Machine, bus: str = "") -> None:
    where = {"bus": bus} if bus else {}
    machine.qmp("device_add", {"driver": "virtio-blk-pci", "drive": NAME, "id": "dev0", **where})


def _device_del(machine: Machine, *, reset: bool) -> None:
    machine.qmp("device_del", {"id": "dev0"})
    if reset:
        machine.qmp("system_reset")
    machine.wait_event("DEVICE_DELETED", device="dev0")


@AREA.does("an empty drive is deleted by the human monitor, and another one gets its name")
def without_dev(bench: Bench) -> None:
    machine = bench.machine("pc", "-drive if=none,id=drive0")
    _drive_del(machine)
    _drive_add(machine)


@AREA.does("device_add over an empty drive fails, and leaves nothing that holds the drive")
def after_failed_device_add(bench: Bench) -> None:
    machine = bench.machine("pc", "-drive if=none,id=drive0")
    try:
        machine.qmp("device_add", {"driver": "virtio-blk-pci", "drive": NAME})
    except TargetError:
        pass
    else:
        raise AssertionError("device_add over an empty drive succeeds")
    _drive_del(machine)
    _drive_add(machine)


@AREA.does("the drive of a SCSI disk is deleted first, then the disk")
def drive_del_device_del(bench: Bench) -> None:
    machine = bench.machine("pc", DRIVE, "-device virtio-scsi-pci -device scsi-hd,drive=drive0,id=dev0")
    _drive_del(machine)
    _device_del(machine, reset=False)
    assert not _has_drive(machine)


@AREA.does("device_del of an empty CD-ROM drive")
def empty_device_del(bench: Bench) -> None:
    machine = bench.machine("pc", "-device virtio-scsi-pci -device scsi-cd,id=dev0")
    _device_del(machine, reset=False)


Start = Callable[[Machine, str], None]
"""What is done before the device is taken out, and on which bus it is."""


def _given(_machine: Machine, _bus: str) -> None:
    """The command line has it all."""


def _plugged(machine: Machine, bus: str) -> None:
    _device_add(machine, bus)


def _added(machine: Machine, bus: str) -> None:
    _drive_add(machine, NULL)
    _device_add(machine, bus)


def _node(machine: Machine, bus: str) -> None:
    _blockdev_add(machine)
    _device_add(machine, bus)


def _life(bench: Bench, *, start: Start, q35: bool) -> None:
    """A virtio-blk disk is taken out, and goes at a reset: its drive with it, but not a node of blockdev-add."""
    bus = "b1" if q35 else ""
    words = [BRIDGES] if q35 else []
    if start in (_given, _plugged):
        words.append(DRIVE)
    if start is _given:
        words.append(f"-device virtio-blk-pci,drive=drive0,id=dev0{',bus=b1' * q35}")
    machine = bench.machine("q35" if q35 else "pc", *words)
    start(machine, bus)
    _device_del(machine, reset=True)
    if start is _node:
        assert _has(machine, "query-named-block-nodes", "node-name")
    else:
        assert not _has_drive(machine)


for _start, _name, _what in (
    (_given, "cli-device", "drive and disk of the command line"),
    (_plugged, "device-add", "a drive of the command line, its disk by device_add"),
    (_added, "drive-add-device-add", "drive_add by the human monitor, device_add"),
    (_node, "blockdev", "blockdev-add, device_add: the node stays"),
):
    AREA.add(
        _name, f"{_what}; device_del, and a reset lets the disk go", partial(_life, start=_start, q35=False)
    )
    AREA.add(
        f"{_name}-q35",
        "the same behind a root port and a PCI bridge of q35",
        partial(_life, start=_start, q35=True),
    )

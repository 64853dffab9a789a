"""The monitor of the stand-in and QEMU's own: the same line of options, the same commands, the same answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from guestsim.targets import TargetError
from guestsim.targets.qemu import QemuTarget

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

OWN = ("node-name", "actual-size", "dirty-flag", "thread-id", "aio-max-batch", "poll-grow", "poll-shrink")
"""What each one has for itself: a drive's node has the drive's name here, and a number there."""


def started(folder: Path, words: Sequence[str], *, ours: bool) -> QemuTarget:
    """The stand-in or QEMU, with these words on its line."""
    if not ours:
        return QemuTarget(arguments=words, accel="tcg")
    binary = folder / "devmodels-system-x86_64"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} -m devmodels.qtest "$@"\n')
    binary.chmod(0o755)
    return QemuTarget(arguments=words, binary=str(binary), accel="qtest")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[QemuTarget, QemuTarget]]:
    """The stand-in and QEMU, with a disk, a CD drive with a disc, one without, a drive that nobody has."""
    targets = []
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        for image in ("disk", "disc", "disk2"):
            (tmp_path / name / image).write_bytes(bytes(1 << 20))
    drives = (
        "if=none,id=d0,format=raw,file=disk,file.locking=off",
        "if=none,id=cd0,format=raw,media=cdrom,file=disc,file.locking=off",
        "if=none,id=cd1,media=cdrom",
        "if=none,id=spare,format=raw,file=disk2,file.locking=off",
    )
    devices = (
        "ide-hd,drive=d0,bus=ide.0,id=hd",
        "ide-cd,drive=cd0,bus=ide.1,id=cdx",
        "ide-cd,drive=cd1,bus=ide.2,id=cdy",
    )
    try:
        for name in ("ours", "theirs"):
            words = ["-nodefaults", "-object", "iothread,id=io0"]
            for drive in drives:
                drive = drive.replace("file=di", f"file={tmp_path / name}/di")
                words += ["-drive", drive]
            for device in devices:
                words += ["-device", device]
            targets.append(started(tmp_path, words, ours=name == "ours"))
        yield targets[0], targets[1]
    finally:
        for target in targets:
            target.close()


def plain(value: Any) -> Any:
    """Without what is each one's own."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key not in OWN}
    if isinstance(value, list):
        return sorted((plain(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return value.replace("/theirs/", "/ours/") if isinstance(value, str) else value


def asked(target: QemuTarget, command: str, **arguments: Any) -> Any:
    try:
        return plain(target.qmp(command, {key.replace("_", "-"): each for key, each in arguments.items()}))
    except TargetError as error:
        return f"TargetError: {error}"


def human(line: str) -> tuple[str, dict[str, Any]]:
    return "human-monitor-command", {"command_line": line}


COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("query-block", {}),
    ("query-named-block-nodes", {}),
    ("query-iothreads", {}),
    ("object-add", {"qom_type": "iothread", "id": "io1"}),
    ("object-add", {"qom_type": "iothread", "id": "io1"}),
    ("query-iothreads", {}),
    ("object-del", {"id": "io1"}),
    ("object-del", {"id": "io1"}),
    ("blockdev-open-tray", {"id": "cdx"}),
    ("query-block", {}),
    ("blockdev-remove-medium", {"id": "cdx"}),
    ("query-block", {}),
    ("blockdev-close-tray", {"id": "cdx"}),
    ("eject", {"device": "d0"}),
    ("eject", {"device": "nobody"}),
    human("drive_del nobody"),
    human("drive_add 0 if=none,id=d0,driver=null-co"),
    human("drive_add 0 if=virtio,driver=null-co,size=1M"),
    human("drive_add 0 if=none,id=new,driver=null-co,size=1M"),
    human("drive_del new"),
    human("drive_del spare"),
    human("drive_del d0"),
    ("query-block", {}),
    ("migrate", {"uri": "unix:/nonexistent"}),
    ("query-migrate", {}),
    ("query-status", {}),
]


def tried(target: QemuTarget) -> None:
    """A migration is no longer being set up: QEMU opens its socket in a thread, and says meanwhile that it is at it."""
    assert any(asked(target, "query-migrate")["status"] != "setup" for _ in range(100_000))


def test_the_same_commands_have_the_same_answers(pair: tuple[QemuTarget, QemuTarget]) -> None:
    ours, theirs = pair
    for command, arguments in COMMANDS:
        if command == "query-migrate":
            tried(theirs)
        assert (command, asked(ours, command, **arguments)) == (command, asked(theirs, command, **arguments))
    assert ours.take_events() == theirs.take_events()


NODE = "driver=null-co,size=1M"


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_devices_without_an_id_have_the_same_places(tmp_path: Path, machine: str) -> None:
    """Those that the board has of its own are counted elsewhere."""
    words = [
        *("-nodefaults", "-M", machine, "-drive", f"if=ide,{NODE}", "-drive", f"if=virtio,{NODE}"),
        *("-device", "virtio-scsi-pci", "-device", "ide-cd", "-device", "scsi-cd"),
    ]
    found = []
    for ours in (True, False):
        target = started(tmp_path, words, ours=ours)
        try:
            target.qmp("device_add", {"driver": "scsi-cd"})
            anonymous = asked(target, "qom-list", path="/machine/peripheral-anon")
            own = asked(target, "qom-list", path="/machine/unattached")
            own = [each for each in own if each["type"] in _ATA]
            places = [(each["device"], each.get("qdev")) for each in asked(target, "query-block")]
            found.append((anonymous, own, sorted(places)))
        finally:
            target.close()
    assert found[0] == found[1]


_ATA = [f"child<{name}>" for name in ("piix3-ide", "ich9-ahci", "ide-hd", "ide-cd")]


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_one_more_ide_controller_has_the_fixed_ports(tmp_path: Path, machine: str) -> None:
    """Before the board's own, and whatever its registers say."""
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    words = [
        *(
            "-nodefaults",
            "-M",
            machine,
            "-drive",
            f"if=none,id=d0,format=raw,file={tmp_path}/disk,file.locking=off",
        ),
        *("-device", "ide-cd,bus=ide.0", "-device", "piix4-ide,id=x", "-device", "ide-hd,bus=x.0,drive=d0"),
    ]
    found = []
    for ours in (True, False):
        target = started(tmp_path, words, ours=ours)
        try:
            registers = [target.io_read(0x1F0 + at, 1) for at in range(2, 8)]
            registers += [target.io_read(port, 1) for port in (0x3F6, 0x170, 0x177)]
            functions = []
            for slot in range(8):
                target.io_write(0xCF8, 4, 0x8000_0000 | slot << 11 | 0x08)
                functions.append(target.io_read(0xCFC, 4))
            refused = asked(target, "device_add", driver="piix4-ide", id="y")
            found.append((registers, functions, refused.split(":")[0]))
        finally:
            target.close()
    assert found[0] == found[1]

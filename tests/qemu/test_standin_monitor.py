"""The monitor of the stand-in and QEMU's own: the same line of options, the same commands, the same answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guestsim.targets import TargetError
from guestsim.targets.qemu import QemuTarget
from guestsim.targets.qemu_process import Accelerator

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

OWN = ("node-name", "actual-size", "dirty-flag", "thread-id", "aio-max-batch", "poll-grow", "poll-shrink")
"""What each one has for itself: a drive's node has the drive's name here, and a number there."""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[QemuTarget, QemuTarget]]:
    """The stand-in and QEMU, with a disk, a CD drive with a disc, one without, a drive that nobody has."""
    binary = tmp_path / "devmodels-system-x86_64"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} -m devmodels.qtest "$@"\n')
    binary.chmod(0o755)
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
    sides: tuple[tuple[str, Accelerator], ...] = (("ours", "qtest"), ("theirs", "tcg"))
    try:
        for name, accel in sides:
            words = ["-nodefaults", "-object", "iothread,id=io0"]
            for drive in drives:
                drive = drive.replace("file=di", f"file={tmp_path / name}/di")
                words += ["-drive", drive]
            for device in devices:
                words += ["-device", device]
            own = str(binary) if name == "ours" else None
            targets.append(QemuTarget(arguments=words, binary=own, accel=accel))
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


def test_the_same_commands_have_the_same_answers(pair: tuple[QemuTarget, QemuTarget]) -> None:
    ours, theirs = pair
    for command, arguments in COMMANDS:
        assert (command, asked(ours, command, **arguments)) == (command, asked(theirs, command, **arguments))
    assert ours.take_events() == theirs.take_events()

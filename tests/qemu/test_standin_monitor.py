"""The monitor of the stand-in and QEMU's own: the same line of options, the same commands, the same answers."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from guestsim.targets import TargetError
from guestsim.targets.qemu import QemuTarget

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

OWN = (
    "account_failed",
    "account_invalid",
    "driver-specific",
    "wr_highest_offset",
    "idle_time_ns",
    "node-name",
    "actual-size",
    "dirty-flag",
    "thread-id",
    "aio-max-batch",
    "poll-grow",
    "poll-shrink",
)
"""What each one has for itself: a drive's node has the drive's name here, and a number there.

Statistics of nodes: QEMU's say that they do not count what fails.
"""


def started(folder: Path, words: Sequence[str], *, ours: bool) -> QemuTarget:
    """The stand-in or QEMU, with these words on its line."""
    if not ours:
        return QemuTarget(arguments=words, accel="tcg")
    binary = folder / "devmodels-system-x86_64"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} -m devmodels.qtest "$@"\n')
    binary.chmod(0o755)
    return QemuTarget(arguments=words, binary=str(binary), accel="qtest")


@contextmanager
def both(folder: Path, board: str, line: str) -> Iterator[tuple[QemuTarget, QemuTarget]]:
    """The stand-in and QEMU with the same words; `{}` in them is a folder with images, each one's own."""
    targets: list[QemuTarget] = []
    try:
        for name in ("ours", "theirs"):
            (folder / name).mkdir()
            for image in ("disk", "disc", "disk2"):
                (folder / name / image).write_bytes(bytes(1 << 20))
            words = ["-M", board, "-nodefaults", *line.format(folder / name).split()]
            targets.append(started(folder, words, ours=name == "ours"))
        yield targets[0], targets[1]
    finally:
        for target in targets:
            target.close()


DRIVES = """
    -object iothread,id=io0
    -drive if=none,id=d0,format=raw,file={0}/disk,file.locking=off
    -drive if=none,id=cd0,format=raw,media=cdrom,file={0}/disc,file.locking=off
    -drive if=none,id=cd1,media=cdrom
    -drive if=none,id=spare,format=raw,file={0}/disk2,file.locking=off
    -device ide-hd,drive=d0,bus=ide.0,id=hd
    -device ide-cd,drive=cd0,bus=ide.1,id=cdx
    -device ide-cd,drive=cd1,bus=ide.2,id=cdy
"""
"""A disk, a CD drive with a disc, one without, a drive that nobody has."""
NULL = "-blockdev null-co,size=1048576,node-name="
BRIDGES = f"""
    {NULL}n0 {NULL}n1 {NULL}n2 {NULL}n3 -blockdev null-co,node-name=n4
    -drive if=none,id=d0,file=null-co://,format=raw
    -drive if=none,id=d1,file=blkdebug::null-co://,format=raw
    -device ide-hd,id=hd0,drive=n0,bus=ide.0 -device ide-cd,id=cd,bus=ide.1
    -device virtio-blk-pci,drive=n1,id=vb
    -device pcie-root-port,id=rp,chassis=1 -device virtio-blk-pci,bus=rp,id=behind,drive=n2,disable-legacy=on
"""
"""Devices on the board's own bus and behind a port of it."""
CONTROLLERS = f"""
    {NULL}n0 {NULL}n1 {NULL}n2
    -drive if=none,id=d0,file=null-co://,format=raw
    -device ide-hd,drive=d0,id=hd -device ide-cd,id=cd
    -device virtio-blk-pci,drive=n0,id=vb -device virtio-scsi-pci,id=s0 -device scsi-hd,drive=n1,id=sh
    {NULL}n4 -drive if=none,id=d1,file=null-co://,format=raw
    -device ich9-ahci,id=a0 -device ide-hd,drive=n4,bus=a0.0,id=hba -device ide-hd,drive=d1,bus=a0.1
    -device piix4-ide,id=px
"""


def plain(value: Any) -> Any:
    """Without what is each one's own."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key not in OWN}
    if isinstance(value, list):
        return sorted((plain(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return alike(value) if isinstance(value, str) else value


def alike(text: str) -> str:
    """The same of what the human monitor prints."""
    text = text.replace("/theirs/", "/ours/").replace("\r\n", "\n")
    text = re.sub(r"(?m)^(\w+) \([#\w]+\): ", r"\1: ", text)
    return re.sub(r"thread_id=\d+", "thread_id=", text)


def asked(target: QemuTarget, command: str, **arguments: Any) -> Any:
    given = {key.replace("_", "-"): each for key, each in arguments.items()}
    try:
        answer = target.qmp(command, given)
        while answer == {"status": "setup"}:  # QEMU connects a while after the command
            answer = target.qmp(command, given)
        return plain(answer)
    except TargetError as error:
        return f"TargetError: {error}"


def human(line: str) -> tuple[str, dict[str, Any]]:
    return "human-monitor-command", {"command_line": line}


Commands = list[tuple[str, dict[str, Any]]]
COMMANDS: Commands = [
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
    ("eject", {"device": "cdx"}),
    ("eject", {"id": "cd0"}),
    ("blockdev-open-tray", {"device": "cdy"}),
    ("block_resize", {"device": "hd", "size": 512}),
    ("device_del", {"id": "d0"}),
    human("info block"),
    human("info block -v"),
    human("info block spare"),
    human("info block nobody"),
    human("info blockstats"),
    ("query-blockstats", {}),
    ("query-jobs", {}),
    ("query-block-jobs", {}),
    ("query-name", {}),
    ("query-chardev", {}),
    ("system_powerdown", {}),
    human("info block-jobs"),
    human("info chardev"),
    human("info name"),
    human("info iothreads"),
    human("info status"),
    human("stop"),
    human("info status"),
    human("c"),
    human("info status x"),
    human("info nothing"),
    human("nothing"),
    human("stop now"),
    human("help nothing"),
    human("eject"),
    human("eject -x cd0"),
    human("eject cdx"),
    human("eject d0"),
    human("change cd0"),
    human("change cd0 /nonexistent"),
    human("change d0 null-co://"),
    human("change cd0 null-co:// raw read-only"),
    human("info block cd0"),
    human("eject -f cd0"),
    human("info block cd0"),
    ("blockdev-change-medium", {"id": "cdx", "filename": "null-co://"}),
    human("change cd1 blkdebug::null-co://"),
    ("query-block", {}),
    human("block_resize d0"),
    human("block_resize d0 x"),
    human("block_resize d0 2"),
    human("block_resize d0 1048576B"),
    human("block_set_io_throttle d0 0 0 0 100 0 0"),
    human("info block d0"),
    human("block_set_io_throttle d0 0 0 0 1 1 0"),
    human("block_set_io_throttle d0 0 0 0 0 0 0"),
    human("device_add"),
    human("device_add nothing"),
    human("device_add virtio-scsi-pci,id=s9"),
    human("device_del"),
    human("device_del nobody"),
    human("drive_del"),
    human("drive_add"),
    human("qemu-io"),
    human("system_reset"),
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
    ("migrate", {"uri": "nonsense"}),
    ("query-migrate", {}),
    human("info migrate"),
    human("migrate"),
    human("migrate -x unix:/a"),
    human("migrate -r unix:/a"),
    human("migrate nonsense"),
]


def typ(name: str) -> tuple[str, dict[str, Any]]:
    return "qom-get", {"path": f"/machine/peripheral/{name}", "property": "type"}


def plugged(driver: str, **options: Any) -> tuple[str, dict[str, Any]]:
    return "device_add", {"driver": driver, "drive": "n3", "id": "new", **options}


ON_Q35: Commands = [
    typ("hd0"),
    typ("cd"),
    typ("vb"),
    typ("vb/virtio-backend"),
    ("query-block", {}),
    ("query-named-block-nodes", {}),
    ("block_resize", {"device": "d0", "size": 2 << 20}),
    ("block_resize", {"node_name": "n0", "size": 2 << 20}),
    human("info block"),
    human("device_del vb"),
    ("device_del", {"id": "vb"}),
    ("device_del", {"id": "rp"}),
    ("device_del", {"id": "hd0"}),
    ("device_del", {"id": "cd"}),
    ("device_del", {"id": "nobody"}),
    plugged("virtio-blk-pci"),
    plugged("virtio-blk-pci", bus="pcie.0"),
    plugged("virtio-blk-pci", bus="pci.0"),
    plugged("virtio-blk-pci", bus="nowhere"),
    plugged("ide-hd"),
    plugged("ide-hd", bus="ide.3"),
    plugged("ide-hd", bus="ide.9"),
    plugged("virtio-blk-pci", bus="rp"),
    ("device_del", {"id": "behind"}),
    ("system_reset", {}),
    typ("behind"),
    typ("new"),
]
ON_PC: Commands = [
    typ("hd"),
    typ("cd"),
    typ("sh"),
    ("query-pci", {}),
    human("info pci"),
    human("info block"),
    ("device_del", {"id": "hd"}),
    plugged("ide-hd", drive="n2", bus="ide.0"),
    plugged("virtio-blk-pci", bus="pcie.0", drive="n2"),
    ("device_del", {"id": "sh"}),
    typ("sh"),
    ("device_del", {"id": "vb"}),
    ("device_del", {"id": "hba"}),
    ("device_del", {"id": "px"}),
    ("device_del", {"id": "a0"}),
    ("device_del", {"id": "s0"}),
    ("device_add", {"driver": "piix3-ide"}),
    ("system_reset", {}),
    typ("vb"),
    typ("a0"),
]
SESSIONS: dict[str, tuple[str, str, Commands]] = {
    "drives": ("q35", DRIVES, COMMANDS),
    "q35": ("q35", BRIDGES, ON_Q35),
    "pc": ("pc", CONTROLLERS, ON_PC),
}


@pytest.mark.parametrize("name", SESSIONS)
def test_the_same_commands_have_the_same_answers(name: str, tmp_path: Path) -> None:
    board, line, commands = SESSIONS[name]
    with both(tmp_path, board, line) as (ours, theirs):
        for command, arguments in commands:
            mine = asked(ours, command, **arguments)
            assert (command, arguments, mine) == (command, arguments, asked(theirs, command, **arguments))
        told = ours.take_events()
        said: list[Any] = []
        for _ in range(100):
            said += theirs.take_events()
            if len(said) >= len(told):
                break
            theirs.qmp("query-status")  # QEMU's devices go a while after the command
        assert in_order(told) == in_order(said)


def in_order(events: list[Any]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True) for each in events)


@pytest.mark.parametrize("name", ["q35", "pc"])
def test_the_tree_is_part_of_qemus(name: str, tmp_path: Path) -> None:
    board, line, _ = SESSIONS[name]
    command, arguments = human("info qtree")
    with both(tmp_path, board, line) as (ours, theirs):
        mine, other = (asked(side, command, **arguments).splitlines() for side in (ours, theirs))
    theirs_too, at = [], 0
    for line in mine:
        if line in other[at:]:
            at += other[at:].index(line) + 1
            theirs_too.append(line)
    assert mine == theirs_too


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

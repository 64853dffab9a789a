"""One session at our monitor and at QEMU's own: the same commands end the same way, with answers of the same form."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ConnectError, QMPClient

from tests.unit.monitor.qemu_commands import NEWER, STORAGE_DAEMON, SYSTEM
from tests.unit.monitor.schemas import Comparison, form_errors
from tests.unit.monitor.support import MIB, Talk, in_daemon, in_machine
from tests.unit.test_cli_serve import connect, run

pytestmark = pytest.mark.qemu

Step = tuple[str, dict[str, Any]]
Answers = list[dict[str, Any]]
BACKEND = "/machine/peripheral/v0/virtio-backend"
NULL = {"driver": "null-co", "node-name": "n1", "size": MIB}
LIMITS = {"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 100, "iops_rd": 0, "iops_wr": 0}
GROUP = {"qom-type": "throttle-group", "id": "t0", "limits": {"iops-total": 100}}
THROTTLE = {"driver": "throttle", "node-name": "f0", "file": "n2", "throttle-group": "t0"}


def export(folder: Path, **more: object) -> dict[str, Any]:
    address = {"type": "unix", "path": str(folder / "vu.sock")}
    return {"type": "vhost-user-blk", "id": "e0", "node-name": "n2", "addr": address, **more}


def block_steps(folder: Path) -> list[Step]:
    """What the daemon has, too."""
    return [
        ("query-version", {}),
        ("query-commands", {}),
        ("no-such", {}),
        ("query-version", {"now": True}),
        ("blockdev-add", {**NULL, "node-name": "n2"}),
        ("blockdev-add", {**NULL, "node-name": "n2"}),
        ("blockdev-add", {"driver": "null-co"}),
        ("blockdev-add", {"driver": "no", "node-name": "n3"}),
        ("blockdev-add", {"driver": "raw", "node-name": "n3", "file": "no"}),
        ("query-named-block-nodes", {"flat": True}),
        ("query-named-block-nodes", {"flat": 1}),
        ("object-add", GROUP),
        ("object-add", GROUP),
        ("object-add", {"qom-type": "no", "id": "t1"}),
        ("object-add", {**GROUP, "id": "t1", "limits": {"iops-total": 1, "iops-read": 1}}),
        ("qom-get", {"path": "/objects/t0", "property": "limits"}),
        ("qom-get", {"path": "t0", "property": "limits"}),
        ("qom-get", {"path": "/objects/no", "property": "limits"}),
        ("qom-get", {"path": "/objects/t0", "property": "no"}),
        ("qom-set", {"path": "/objects/t0", "property": "limits", "value": {"iops-total": 50}}),
        ("qom-set", {"path": "/objects/t0", "property": "limits", "value": 5}),
        ("qom-set", {"path": "/objects/t0", "property": "type", "value": "x"}),
        ("qom-get", {"path": "/objects/t0", "property": "type"}),
        ("qom-list", {"path": "/no"}),
        ("blockdev-add", THROTTLE),
        ("object-del", {"id": "t0"}),
        ("object-del", {"id": "no"}),
        ("x-debug-query-block-graph", {}),
        ("query-named-block-nodes", {}),
        ("blockdev-reopen", {"options": [{"driver": "null-co", "node-name": "no"}]}),
        ("blockdev-reopen", {"options": [{"driver": "null-co"}]}),
        ("blockdev-reopen", {"options": [{**NULL, "node-name": "n2", "size": 2 * MIB}]}),
        ("x-blockdev-change", {"parent": "no", "node": "n2"}),
        ("x-blockdev-change", {"parent": "f0"}),
        ("x-blockdev-change", {"parent": "f0", "child": "file", "node": "n2"}),
        ("x-blockdev-change", {"parent": "f0", "child": "no"}),
        ("blockdev-del", {"node-name": "n2"}),
        ("blockdev-del", {"node-name": "no"}),
        ("blockdev-del", {"node-name": "f0"}),
        ("object-del", {"id": "t0"}),
        ("block_resize", {"node-name": "n2", "size": -512}),
        ("block_resize", {"node-name": "no", "size": MIB}),
        ("block_resize", {"size": MIB}),
        ("block_resize", {"node-name": "n2"}),
        ("block_resize", {"node-name": 5, "size": MIB}),
        ("block_resize", {"node-name": "n2", "size": "1M"}),
        ("block-export-add", export(folder)),
        ("block-export-add", export(folder)),
        ("block-export-add", export(folder, id="e1", type="no")),
        ("block-export-add", export(folder, **{"id": "e1", "node-name": "no"})),
        ("query-block-exports", {}),
        ("blockdev-del", {"node-name": "n2"}),
        ("block-export-del", {"id": "no"}),
        ("block-export-del", {"id": "e0", "mode": "soft"}),
        ("block-export-del", {"id": "e0"}),
        ("query-block-exports", {}),
    ]


def machine_steps(folder: Path) -> list[Step]:
    """What takes a machine."""
    image = folder / "medium.img"
    image.write_bytes(bytes(MIB))
    medium = [
        ("blockdev-open-tray", {}),
        ("blockdev-close-tray", {}),
        ("blockdev-remove-medium", {}),
        ("blockdev-insert-medium", {"node-name": "n2"}),
        ("blockdev-change-medium", {"filename": str(image), "format": "raw"}),
        ("eject", {}),
    ]
    return [
        ("cont", {}),
        ("query-status", {}),
        ("stop", {}),
        ("stop", {}),
        ("query-status", {}),
        ("query-block", {}),
        ("query-blockstats", {}),
        ("query-blockstats", {"query-nodes": True}),
        ("block-latency-histogram-set", {"id": BACKEND, "boundaries": [10, 20], "boundaries-write": [5]}),
        ("block-latency-histogram-set", {"id": BACKEND, "boundaries": [20, 10]}),
        ("block-latency-histogram-set", {"id": "no"}),
        ("query-blockstats", {}),
        ("block-latency-histogram-set", {"id": BACKEND}),
        ("block_set_io_throttle", {"id": BACKEND, **LIMITS}),
        ("block_set_io_throttle", {"id": BACKEND, **LIMITS, "iops_rd": 1}),
        ("block_set_io_throttle", {"id": "no", **LIMITS}),
        ("block_set_io_throttle", LIMITS),
        ("block_set_io_throttle", {"id": BACKEND, "bps": 0}),
        ("query-block", {}),
        ("block_set_io_throttle", {"id": BACKEND, **LIMITS, "iops": 0}),
        *((name, {"id": BACKEND, **more}) for name, more in medium),
        *((name, {"id": "no", **more}) for name, more in medium),
        ("eject", {}),
        ("blockdev-insert-medium", {"id": BACKEND, "node-name": "n1"}),
        ("blockdev-insert-medium", {"id": BACKEND, "node-name": "no"}),
        ("qom-get", {"path": "/machine/peripheral/v0", "property": "drive"}),
        ("qom-get", {"path": "/machine/peripheral/v0", "property": "type"}),
        ("qom-set", {"path": "/machine/peripheral/v0", "property": "drive", "value": "n2"}),
        ("qom-set", {"path": "/machine/peripheral/v0", "property": "drive", "value": "no"}),
        ("qom-set", {"path": "/machine/peripheral/v0", "property": "drive", "value": "n1"}),
        ("system_reset", {}),
        ("device-list-properties", {"typename": "no"}),
        ("device-list-properties", {"typename": "virtio-blk-pci"}),
        ("device_add", {"driver": "virtio-blk-pci", "drive": "n2", "id": "v1"}),
        ("device_add", {"driver": "virtio-blk-pci", "drive": "n2", "id": "v1"}),
        ("device_add", {"driver": "virtio-blk-pci", "drive": "n1", "id": "v2"}),
        ("device_add", {"driver": "no"}),
        ("device_add", {}),
        ("device_add", {"driver": "virtio-blk-pci", "id": "v3"}),
        ("device_add", {"driver": "virtio-blk-pci", "drive": "no", "id": "v3"}),
        ("device_add", {"driver": "virtio-blk-pci", "drive": "n2", "id": "v3", "bogus": 1}),
        ("query-block", {}),
        ("device_del", {"id": "no"}),
        ("device_del", {"id": "v1"}),
        ("human-monitor-command", {"command-line": "bogus"}),
        ("human-monitor-command", {"command-line": 'qemu-io no "read 0 512"'}),
        ("human-monitor-command", {}),
        ("quit", {"now": True}),
    ]


def tray_steps(folder: Path) -> list[Step]:
    """A drive called cd0 with n1 in it, and one called cd1 without a medium."""
    image = folder / "medium.img"
    image.write_bytes(bytes(MIB))
    change = {"filename": str(image), "format": "raw"}
    n2 = {**NULL, "node-name": "n2", "read-only": True}
    return [
        ("blockdev-add", n2),
        ("query-block", {}),
        ("blockdev-remove-medium", {"id": "cd0"}),
        ("blockdev-insert-medium", {"id": "cd0", "node-name": "n2"}),
        ("blockdev-close-tray", {"id": "cd0"}),
        ("blockdev-open-tray", {"id": "cd0"}),
        ("blockdev-open-tray", {"id": "cd0", "force": True}),
        ("query-block", {}),
        ("blockdev-insert-medium", {"id": "cd0", "node-name": "n2"}),
        ("blockdev-remove-medium", {"id": "cd0"}),
        ("blockdev-remove-medium", {"id": "cd0"}),
        ("query-block", {}),
        ("blockdev-insert-medium", {"id": "cd0", "node-name": "no"}),
        ("blockdev-insert-medium", {"id": "cd0", "node-name": "n2"}),
        ("blockdev-insert-medium", {"id": "cd1", "node-name": "n2"}),
        ("blockdev-close-tray", {"id": "cd0"}),
        ("query-block", {}),
        ("eject", {"id": "cd0"}),
        ("eject", {"id": "cd0", "force": True}),
        ("eject", {"id": "cd1"}),
        ("query-block", {}),
        ("blockdev-change-medium", {"id": "cd1", **change}),
        ("blockdev-change-medium", {"id": "cd1", **change, "read-only-mode": "read-only"}),
        ("blockdev-change-medium", {"id": "cd1", **change, "filename": str(folder / "no")}),
        ("query-block", {}),
        ("query-blockstats", {}),
        ("qom-get", {"path": "/machine/peripheral/cd1", "property": "type"}),
        ("qom-get", {"path": "/machine/peripheral/cd0", "property": "drive"}),
        ("device_add", {"driver": "scsi-cd", "id": "cd2", "bus": "s0.0"}),
        ("device_add", {"driver": "scsi-cd", "id": "cd3", "bus": "no.0"}),
        ("query-block", {}),
        ("device_del", {"id": "cd2"}),
    ]


@contextmanager
def qemu(folder: Path, *command: str) -> Iterator[Path]:
    path = folder / "qemu.sock"
    with subprocess.Popen([part.format(path=path) for part in command]) as process:
        try:
            deadline = time.monotonic() + 20
            while not path.exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)  # another process's start: nothing to wait on
            yield path
        finally:
            process.kill()


def theirs(path: Path, steps: Sequence[Step]) -> Answers:
    async def session() -> Answers:
        client = QMPClient("judge")
        for _ in range(100):
            # The socket is there a moment before anybody listens.
            with suppress(ConnectError):
                await client.connect(str(path))
                break
            await asyncio.sleep(0.05)
        answers = [await client._raw({"execute": name, "arguments": given}) for name, given in steps]
        with suppress(EOFError, ConnectionResetError):
            await client.disconnect()
        return [dict(answer) for answer in answers]

    return asyncio.run(session())


def system(folder: Path, steps: Sequence[Step]) -> Answers:
    machine = ["qemu-system-x86_64", "-M", "pc", "-nodefaults", "-display", "none", "-S"]
    monitor = ["-qmp", "unix:{path},server=on,wait=off"]
    disk = ["-blockdev", f"null-co,node-name=n1,size={MIB}", "-device", "virtio-blk-pci,drive=n1,id=v0"]
    with qemu(folder, *machine, *monitor, *disk) as path:
        return theirs(path, steps)


def system_with_drives(folder: Path, steps: Sequence[Step]) -> Answers:
    machine = ["qemu-system-x86_64", "-M", "pc", "-nodefaults", "-display", "none", "-S"]
    monitor = ["-qmp", "unix:{path},server=on,wait=off"]
    node = ["-blockdev", f"null-co,node-name=n1,size={MIB},read-only=on"]
    devices = ["virtio-scsi-pci,id=s0", "scsi-cd,drive=n1,id=cd0", "scsi-cd,id=cd1"]
    drives = [word for each in devices for word in ("-device", each)]
    with qemu(folder, *machine, *monitor, *node, *drives) as path:
        return theirs(path, steps)


def storage_daemon(folder: Path, steps: Sequence[Step]) -> Answers:
    listen = ["--chardev", "socket,id=c0,path={path},server=on,wait=off", "--monitor", "c0"]
    with qemu(folder, "qemu-storage-daemon", *listen) as path:
        return theirs(path, steps)


def recorded(steps: Sequence[Step], answers: Answers) -> Any:
    async def story(talk: Talk) -> None:
        for name, given in steps:
            answers.append(dict(await talk.client._raw({"execute": name, "arguments": given})))

    return story


OPTIONAL = {"dirty-flag", "driver-specific", "description", "default-value", "active", "children"}
"""What one of both shows and the other does not: formats of theirs, later versions' members."""
OURS = {"driver", "size", "read-only", "role"}
"""What x-debug-query-block-graph shows here besides."""


def alike(one: object, other: object) -> bool:
    """Whether keys and types are the same, of lists those of the first items."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = [{key for key in each if key not in OPTIONAL | OURS} for each in (one, other)]
        return names[0] == names[1] and all(alike(one[name], other[name]) for name in names[0])
    if isinstance(one, list) and isinstance(other, list):
        return not one or not other or alike(one[0], other[0])
    return type(one) is type(other)


SAME_TEXT = {
    "qom-get", "object-del", "blockdev-reopen", "block_resize", "query-version", "no-such", "x-blockdev-change",
    "block-export-del", "block_set_io_throttle", "block-latency-histogram-set", "blockdev-open-tray",
    "blockdev-close-tray", "blockdev-remove-medium", "blockdev-insert-medium", "blockdev-change-medium", "eject",
    "device_del", "qom-list", "query-named-block-nodes", "human-monitor-command", "quit",
}  # fmt: skip
"""Commands whose errors are QEMU's to the letter, where QEMU's are not of its own drivers."""
OWN_TEXT = (
    "Could not open",
    "Image format driver",
    "Cannot change the option",
    "The node",
    "Permission conflict",
)


def compare(steps: Sequence[Step], ours: Answers, other: Answers) -> list[str]:
    assert len(ours) == len(other) == len(steps)
    wrong = []
    for step, mine, judge in zip(steps, ours, other, strict=True):
        text, right = mine.get("error", {}), judge.get("error", {})
        if text or right:
            letter = step[0] in SAME_TEXT and not right.get("desc", "").startswith(OWN_TEXT)
            same = (
                text.get("desc") == right.get("desc") if letter else text.get("class") == right.get("class")
            )
        else:
            same = alike(mine["return"], judge["return"])
        if not same:
            wrong.append(f"{step}: {mine} and not {judge}")
    return wrong


def test_session_with_a_machine(tmp_path: Path) -> None:
    steps = [*block_steps(tmp_path), *machine_steps(tmp_path)]
    ours: Answers = []
    in_machine(
        tmp_path,
        recorded(steps, ours),
        nodes=[NULL],
        devices=[{"driver": "virtio-blk-pci", "drive": "n1", "id": "v0"}],
    )
    assert compare(steps, ours, system(tmp_path, steps)) == []


def test_session_with_drives(tmp_path: Path) -> None:
    steps = tray_steps(tmp_path)
    ours: Answers = []
    in_machine(
        tmp_path,
        recorded(steps, ours),
        nodes=[{**NULL, "read-only": True}],
        devices=[
            {"driver": "virtio-scsi-pci", "id": "s0"},
            {"driver": "scsi-cd", "drive": "n1", "id": "cd0"},
            {"driver": "scsi-cd", "id": "cd1"},
        ],
    )
    assert compare(steps, ours, system_with_drives(tmp_path, steps)) == []


def test_session_with_a_daemon(tmp_path: Path) -> None:
    steps = [*block_steps(tmp_path), ("device_add", {}), ("system_reset", {}), ("device_del", {"id": "v0"})]
    ours: Answers = []
    in_daemon(tmp_path, recorded(steps, ours), nodes=[])
    assert compare(steps, ours, storage_daemon(tmp_path, steps)) == []


def test_our_shell_talks_to_qemus_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*words: str) -> tuple[int, str]:
        status = run(["monitor", str(path), *words], monkeypatch)
        return status, "".join(capsys.readouterr())

    listen = ["--chardev", "socket,id=c0,path={path},server=on,wait=off", "--monitor", "c0"]
    with qemu(tmp_path, "qemu-storage-daemon", *listen) as path:
        connect(path).close()
        assert ask("blockdev-add", "driver=null-co", "node-name=n0", "size=1M", "read-only=on") == (0, "")
        assert ask("info", "nodes")[1].split("\n")[3].split() == ["n0", "null-co", "1", "MiB", "read-only"]
        status, text = ask("blockdev-del", "node-name=no")
        assert (status, text) == (
            1,
            "devmodels: blockdev-del: Failed to find node with node-name='no'\n",
        )


# --- the schema

KNOWN = """
block-export-add.fixed-iothread: theirs only
query-block -> [].inserted.active: ours only
query-block -> [].inserted.children: ours only
BLOCK_IO_ERROR.qom-path: ours only
"""
LATER_OR_OURS = (
    "blockdev-",
    "block-export-add<",
    "block-export-add.type:",
    "object-add<",
    "query-qmp-schema",
    "x-debug-query-block-graph",
)
"""Options of drivers, exports and objects of our own, and what is no promise of QEMU's."""


def test_schema_is_of_the_form_of_qemus(tmp_path: Path) -> None:
    ours: Answers = []
    step: list[Step] = [("query-qmp-schema", {})]
    in_machine(tmp_path, recorded(step, ours))
    mine = ours[0]["return"]
    (judge,) = system(tmp_path, step)
    assert list(form_errors(judge["return"])) == [], "the test's own idea of the form is right"
    both = Comparison(mine, judge["return"])
    for info in mine:
        if info["name"] in both.theirs and info["meta-type"] == "command":
            both.command(info["name"])
        elif info["meta-type"] == "event":
            both.event(info["name"])
    found = [line for line in both.differences if not line.startswith(LATER_OR_OURS)]
    assert found == KNOWN.split("\n")[1:-1]


def test_the_names_of_qemus_commands_are_those(tmp_path: Path) -> None:
    def names(answers: Answers) -> set[str]:
        return {each["name"] for each in answers[0]["return"]}

    step: list[Step] = [("query-commands", {})]
    assert names(storage_daemon(tmp_path, step)) == set(STORAGE_DAEMON)
    (tmp_path / "qemu.sock").unlink(missing_ok=True)
    found = names(system(tmp_path, step))
    assert set(SYSTEM) <= found
    assert not found & set(NEWER)

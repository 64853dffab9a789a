"""Commands on the control socket that only the stand-in has, with what no client should say."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devmodels.monitor.command import CommandError, text_of
from devmodels.monitor.table import commands as table
from devmodels.options import OptionError
from devmodels.qtest.commands import Commands
from devmodels.qtest.control import Control
from devmodels.qtest.human import COMMANDS, INFO
from tests.unit.qtest.bench import Client, machine


@pytest.mark.parametrize("board", ["pc", "q35"])
@pytest.mark.parametrize("bus", [["pci.0"], {"name": "pcie.0"}, None, 1, "nowhere"])
def test_a_bus_that_is_no_name_is_refused(board: str, bus: object) -> None:
    options: Mapping[str, object] = {"driver": "virtio-scsi-pci", "id": "s0", "bus": bus}
    with machine("-M", board, "-m", "1M", "-nodefaults") as client:
        control = Control(client.assembling, lambda: None)
        commands = Commands(client.assembling, control.world, control.migration)
        with pytest.raises((CommandError, OptionError), match=r"[Bb]us"):
            client.board.context.run(commands.device_add(control.world, options))
        assert not client.board.assembly.has("s0")
        control.close()


PAGE = Path(__file__).parents[3] / "docs" / "qmp.md"
NULL = "-blockdev null-co,size=1048576,node-name="


class Monitor:
    """What a client of a machine's control socket can ask."""

    def __init__(self, client: Client, control: Control) -> None:
        self.world = control.world
        self.board = client.board

    def __call__(self, name: str, **arguments: object) -> Any:
        """A command's answer."""
        given = {key.replace("_", "-"): each for key, each in arguments.items()}
        answer = self.board.context.run(table(self.world)[name](self.world, given))
        self.board.context.run_until_idle()
        return msgspec.to_builtins(answer)

    def refused(self, name: str, **arguments: object) -> str:
        """What its error says."""
        with pytest.raises((CommandError, OptionError, OSError)) as caught:
            self(name, **arguments)
        return text_of(caught.value)


@contextmanager
def monitor(board: str, line: str) -> Iterator[Monitor]:
    with machine("-M", board, "-m", "1M", "-nodefaults", *line.split()) as client:
        control = Control(client.assembling, lambda: None)
        yield Monitor(client, control)
        control.close()


@pytest.mark.parametrize(("board", "bus"), [("pc", "ide.0"), ("q35", "ide.0")])
def test_disks_of_ata_say_what_they_are_and_stay(board: str, bus: str) -> None:
    line = f"{NULL}n0 -device ide-hd,id=hd,drive=n0,bus={bus} -device ide-cd,id=cd,bus=ide.1"
    with monitor(board, line) as ask:
        for name in ("hd", "cd"):
            assert ask("qom-get", path=f"/machine/peripheral/{name}", property="type") == f"ide-{name}"
        assert ask.refused("device_del", id="hd") == f"Bus '{bus}' does not support hotplugging"
        assert ask.refused("device_add", driver="ide-cd", bus="ide.1").startswith("Bus 'ide.1' does not")


def test_what_is_on_q35s_own_bus_stays_and_what_is_behind_a_port_goes() -> None:
    line = "-device pcie-root-port,id=rp -device virtio-scsi-pci,id=s0 -device virtio-scsi-pci,id=s1,bus=rp"
    with monitor("q35", line) as ask:
        for name in ("rp", "s0"):
            assert ask.refused("device_del", id=name) == "Bus 'pcie.0' does not support hotplugging"
        ask("device_del", id="s1")
        ask.board.context.step(1_000_000)
        ask("device_del", id="s1")
        ask("system_reset")
        assert list(ask.board.assembly.devices) == ["s0"]


@pytest.mark.parametrize(
    ("board", "expected"), [("none", "none"), ("pc", "pc-i440fx-7.2"), ("q35", "pc-q35-7.2")]
)
def test_the_machine_has_the_type_of_qemus(board: str, expected: str) -> None:
    with monitor(board, "") as ask:
        assert ask("qom-get", path="/machine", property="type") == f"{expected}-machine"
        (machine,) = (each for each in ask("qom-list", path="/") if each["name"] == "machine")
        assert machine["type"] == f"child<{expected}-machine>"


def test_a_disk_of_nothing_has_qemus_name_and_keeps_its_size() -> None:
    line = "-drive if=none,id=d0,file=null-co://,format=raw -drive if=none,id=d1,file=blkdebug::null-co://"
    with monitor("pc", line) as ask:
        names = {each["device"]: each["inserted"]["file"] for each in ask("query-block")}
        assert names == {"d0": "null-co://", "d1": "blkdebug::null-co://"}
        refused = ask.refused("block_resize", device="d0", size=1 << 20)
        assert refused == "Image format driver does not support resize"


DRIVES = "-drive if=none,id=d0,file=null-co://,format=raw -drive if=none,id=cd0,media=cdrom"
DEVICES = "-device ide-hd,drive=d0,id=hd -device ide-cd,drive=cd0,id=cdx -device virtio-scsi-pci,id=s0"


def _human(ask: Monitor, line: str) -> str:
    text = str(ask("human-monitor-command", command_line=line))
    assert "\n" not in text.replace("\r\n", "")
    return text.replace("\r\n", "\n")


def test_the_human_monitor_shows_drives_and_their_devices() -> None:
    with monitor("pc", f"{DRIVES} {DEVICES}") as ask:
        disk = "d0 (d0): null-co:// (raw)\n    Attached to:      hd\n    Cache mode:       writeback\n"
        empty = "    Attached to:      cdx\n    Removable device: not locked, tray closed\n"
        assert _human(ask, "info block") == f"{disk}\ncd0: [not inserted]\n{empty}"
        _human(ask, "change cd0 null-co://")
        assert "cd0" in _human(ask, "info block cd0")
        assert _human(ask, "stop") == ""
        assert _human(ask, "info status") == "VM status: paused\n"
        assert _human(ask, "info block-jobs") == "No active jobs\n"
        tree = _human(ask, "info qtree").splitlines()
        assert '            drive = "d0"' in tree
        assert '      dev: virtio-scsi-pci, id "s0"' in tree
        assert '      id "s0"\n' in _human(ask, "info pci")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nothing", "unknown command: 'nothing'\n"),
        ("info nothing", "unknown command: 'info nothing'\n"),
        (
            "stop now",
            'stop|s: extraneous characters at the end of line\nTry "help stop" for more information\n',
        ),
        ("eject", 'eject: block device name expected\nTry "help eject" for more information\n'),
        ("eject -", 'eject: unsupported option -\nTry "help eject" for more information\n'),
        ("eject cdx", "Error: Device 'cdx' not found\n"),
        ('eject "cd0', 'eject: unterminated string\nTry "help eject" for more information\n'),
        ("block_resize d0 1Z", 'invalid size\nTry "help block_resize" for more information\n'),
        ("device_add", "Error: Parameter 'driver' is missing\n"),
        ("drive_del nobody", "Device 'nobody' not found\n"),
        ("help nothing", "unknown command: 'nothing'\n"),
        ("", ""),
    ],
)
def test_lines_that_the_human_monitor_does_not_take(line: str, problem: str) -> None:
    with monitor("pc", f"{DRIVES} {DEVICES}") as ask:
        assert _human(ask, line) == problem


def test_every_command_of_the_human_monitor_has_help() -> None:
    with monitor("pc", "") as ask:
        for topic, table in (("", COMMANDS), ("info ", INFO)):
            lines = _human(ask, f"help {topic}".strip() if not topic else "info").splitlines()
            for names in table:
                assert any(line.startswith(f"{topic}{names} ") for line in lines)
        assert _human(ask, "help qemu-io").startswith("qemu-io [-d]")


def test_commands_of_jobs_and_bitmaps_are_not_there_and_no_job_runs() -> None:
    """The block layer has neither; who asks for one of QEMU's commands hears that there is none such."""
    with monitor("pc", "") as ask:
        missing = re.findall(r"(?m)^\| `([a-z0-9_-]+)` \| missing \| \|$", PAGE.read_text())
        assert {"block-stream", "block-dirty-bitmap-add", "job-cancel", "transaction"} <= set(missing)
        assert set(missing).isdisjoint(table(ask.world))
        assert (ask("query-jobs"), ask("query-block-jobs")) == ([], [])


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))
        end.listen()
        yield end


def test_the_human_monitor_hands_the_machine_over_and_says_how_far_it_is(tmp_path: Path) -> None:
    detached = "terminal does not allow synchronous migration, continuing detached\n"
    with monitor("pc", "") as ask:
        first = _human(ask, "info migrate")
        assert first.startswith("globals:\nstore-global-state: on\n")
        assert first.endswith("clear-bitmap-shift: 18\n")
        expected = 'migrate: string expected\nTry "help migrate" for more information\n'
        assert _human(ask, "migrate") == expected
        assert _human(ask, "migrate -d -x unix:/a").startswith("migrate: unsupported option -x\n")
        refused = "Error: Parameter 'uri' expects a valid migration protocol\n"
        assert _human(ask, "migrate nonsense") == refused
        assert _human(ask, "info migrate") == f"{first}Migration status: failed\ntotal time: 0 ms\n"
        assert _human(ask, "migrate -r unix:/a") == "Error: Cannot resume if there is no paused migration\n"
        assert _human(ask, "migrate unix:/nonexistent") == detached
        assert _human(ask, "migrate -d unix:/nonexistent") == ""
        why = "Failed to connect to '/nonexistent': No such file or directory"
        assert _human(ask, "info migrate") == f"{first}Migration status: failed ({why})\ntotal time: 0 ms\n"
        with listening(tmp_path / "there") as there:
            _human(ask, f"migrate -d unix:{tmp_path}/there")
            other, _ = there.accept()
            assert _human(ask, "info migrate") == f"{first}Migration status: active\n"
            other.recv(1 << 20)
            other.sendall(b"\0")
            ask("query-status")
            ask.board.context.run_until_idle()
            assert _human(ask, "info migrate") == f"{first}Migration status: completed\n"
            other.close()


TWO = """
    -drive if=none,id=d0,file=null-co://,format=raw -drive if=none,id=d1,file=null-co://,format=raw
    -device virtio-blk-pci,drive=d0,id=hd -device ide-cd,drive=d1,id=cd
"""


@pytest.mark.parametrize("name", ["eject", "blockdev-open-tray", "blockdev-close-tray"])
def test_a_device_is_called_by_its_drive_and_by_its_id_where_qemu_does(name: str) -> None:
    with monitor("pc", TWO) as ask:
        assert ask.refused(name, device="cd") == "Device 'cd' not found"
        assert ask.refused(name, id="d1") == "Device 'd1' not found"
        ask(name, device="d1")
        ask(name, id="cd")


def test_other_commands_do_not_confuse_drives_and_ids_either() -> None:
    with monitor("pc", TWO) as ask:
        limited = _human(ask, "block_set_io_throttle cd 0 0 0 0 0 0")
        assert limited == "Error: Device 'cd' not found\n"
        assert ask.refused("blockdev-remove-medium", id="d1") == "Device 'd1' not found"
        assert (
            ask.refused("blockdev-change-medium", device="cd", filename="null-co://")
            == "Device 'cd' not found"
        )
        assert (
            ask.refused("block_resize", device="hd", size=512) == "Cannot find device='hd' nor node-name=''"
        )
        assert ask.refused("device_del", id="d0") == "Device 'd0' not found"


def test_drives_are_told_in_the_order_in_which_they_came_also_when_one_is_deleted() -> None:
    line = f"{TWO} {NULL}n0 -device ide-hd,drive=n0,id=n"
    with monitor("pc", line) as ask:

        def told(query: str) -> list[str]:
            return [each["device"] or each["qdev"] for each in ask(query)]

        for query in ("query-block", "query-blockstats"):
            assert told(query) == ["d0", "d1", "n"]
        _human(ask, "drive_del d0")
        _human(ask, "drive_add 0 if=none,id=d2,file=null-co://,format=raw")
        for query in ("query-block", "query-blockstats"):
            assert told(query) == ["/machine/peripheral/hd/virtio-backend", "d1", "n", "d2"]
        assert 'drive = ""' in _human(ask, "info qtree")


@pytest.mark.parametrize("port", [0x1F1, 0x1F2, 0x1F6, 0x3F6, 0x171, 0x376])
def test_registers_of_an_ide_channel_are_not_there_for_four_bytes(port: int) -> None:
    with machine("-M", "pc", "-nodefaults", *f"{NULL}n0 -device ide-hd,drive=n0".split()) as client:
        assert client.number(f"inl {port:#x}") == 0xFFFF_FFFF
        before = client.number(f"inb {port:#x}")
        client.ask(f"outl {port:#x} 0x5a")
        assert client.number(f"inb {port:#x}") == before
        assert client.number("inl 0x1f0") == 0

"""Machines that go to another place, and those that wait for one."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from devmodels.monitor.command import CommandError
from devmodels.qtest.control import Control
from devmodels.qtest.migration import HEADER, MAGIC, Migrate
from tests.unit.qtest.bench import Client, machine
from tests.unit.qtest.moving import sent


def control_of(client: Client) -> Control:
    return Control(client.assembling, lambda: None)


def cont(client: Client, control: Control) -> None:
    client.board.context.run(control.migration.cont(control.world))


def status(client: Client, control: Control) -> str | None:
    return client.board.context.run(control.migration.query_migrate(control.world)).status


def test_who_has_gone_takes_images_back_before_running_on(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    words = ["-M", "pc", "-m", "1M", "-nodefaults", "-device", "ide-hd,drive=d"]
    words += ["-drive", f"if=none,id=d,format=raw,file={image}"]
    with machine(*words) as source:
        control = control_of(source)
        state = source.board.assembly.run_state
        nodes = source.board.assembly.graph.nodes.values()
        _, length = HEADER.unpack_from(said := sent(source.board, control, tmp_path / "there"))
        assert len(said) == HEADER.size + length
        assert (state.status, [node.active for node in nodes]) == ("postmigrate", [False] * len(nodes))
        with machine(*words):
            with pytest.raises(CommandError, match="images cannot be taken back"):
                cont(source, control)
            assert (state.status, [node.active for node in nodes]) == ("postmigrate", [False] * len(nodes))
        cont(source, control)
        assert (state.status, [node.active for node in nodes]) == ("running", [True] * len(nodes))
        control.close()


@pytest.mark.parametrize("answer", [b"", b"there is no such device"])
@pytest.mark.parametrize("runs", [True, False])
def test_who_is_not_taken_runs_on_with_its_images(tmp_path: Path, answer: bytes, runs: bool) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    words = ["-M", "pc", "-m", "1M", "-nodefaults", "-device", "ide-hd,drive=d"]
    words += ["-drive", f"if=none,id=d,format=raw,file={image}", *([] if runs else ["-S"])]
    with machine(*words) as source:
        control = control_of(source)
        sent(source.board, control, tmp_path / "there", answer)
        told = source.board.context.run(control.migration.query_migrate(control.world))
        assert told.status == "failed"
        assert told.error_desc == (answer.decode() or "the other side has ended before it had the state")
        state = source.board.assembly.run_state
        nodes = source.board.assembly.graph.nodes.values()
        assert (state.running, [node.active for node in nodes]) == (runs, [True] * len(nodes))
        control.close()


def test_who_finds_nobody_has_never_stopped(tmp_path: Path) -> None:
    with machine("-M", "pc", "-m", "1M", "-nodefaults") as source:
        control, events = control_of(source), list[str]()
        control.world.events.add_listener(lambda event, _data: events.append(event))
        migrate = Migrate(f"unix:{tmp_path / 'nobody'}")
        source.board.context.run(control.migration.migrate(control.world, migrate))
        told = source.board.context.run(control.migration.query_migrate(control.world))
        assert (told.status, told.error_desc) == (
            "failed",
            f"Failed to connect to '{tmp_path / 'nobody'}': No such file or directory",
        )
        assert source.board.assembly.run_state.running
        assert not events
        control.close()


def test_one_migration_at_a_time_and_continuing_waits_for_it(tmp_path: Path) -> None:
    with (
        machine("-M", "pc", "-m", "1M", "-nodefaults", "-S") as source,
        socket.socket(socket.AF_UNIX) as there,
    ):
        control = control_of(source)
        there.bind(str(tmp_path / "there"))
        there.listen()
        migrate = Migrate(f"unix:{tmp_path / 'there'}")
        source.board.context.run(control.migration.migrate(control.world, migrate))
        with pytest.raises(CommandError, match="There's a migration process in progress"):
            source.board.context.run(control.migration.migrate(control.world, migrate))
        cont(source, control)
        state = source.board.assembly.run_state
        assert not state.running
        there.accept()[0].close()
        while status(source, control) == "active":
            source.board.context.run_once()
        assert state.running
        control.close()


def test_who_waits_does_not_run_until_the_state_is_there(tmp_path: Path) -> None:
    with machine("-M", "none") as target:
        control = control_of(target)
        problems: list[str] = []
        control.wait_for(f"unix:{tmp_path / 'here'}", problems.append)
        cont(target, control)
        assert target.board.assembly.run_state.status == "inmigrate"
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(tmp_path / "here"))
            other.sendall(b"what is this?   ")
            while not problems:
                target.board.context.run_once()
        assert problems == ["what came is no machine's state"]
        control.close()


def test_what_firmware_reads_comes_along(tmp_path: Path) -> None:
    words = ["-M", "q35", "-m", "1M", "-nodefaults"]
    with machine(*words) as source, machine(*words) as target:
        for line in ("outb 0x70 0x40", "outb 0x71 0xab", "outw 0x510 0", "inb 0x511"):
            source.ask(line)
        going, coming = control_of(source), control_of(target)
        coming.wait_for(f"unix:{tmp_path / 'here'}", pytest.fail)
        source.board.context.run(going.migration.migrate(going.world, Migrate(f"unix:{tmp_path / 'here'}")))
        state = target.board.assembly.run_state
        while not state.running:
            target.board.context.run_once()
        while status(source, going) == "active":
            source.board.context.run_once()
        assert source.board.assembly.run_state.status == "postmigrate"
        assert target.ask("inb 0x71") == "OK 0x00ab"
        assert target.ask("inb 0x511") == f"OK 0x{ord('E'):04x}"
        going.close()
        coming.close()


@pytest.mark.parametrize("firmware", [(bytes(128), 128, -1, 0), (b"", 0, -1, 0), (bytes(128), 0, 0, 1 << 63)])
def test_firmware_that_does_not_fit_leaves_the_machine_waiting(
    tmp_path: Path, firmware: tuple[object, ...]
) -> None:
    words = ["-M", "q35", "-m", "1M", "-nodefaults"]
    with machine(*words) as source:
        source.ask("writel 0x1000 0x1234")
        going = control_of(source)
        said = sent(source.board, going, tmp_path / "there")
        going.close()
    _, snapshot = msgspec.msgpack.decode(said[HEADER.size :])
    body = msgspec.msgpack.encode(((*firmware, -1, [], 0, [], []), snapshot))
    with machine(*words) as target, socket.socket(socket.AF_UNIX) as other:
        coming, problems = control_of(target), list[str]()
        coming.wait_for(f"unix:{tmp_path / 'here'}", problems.append)
        other.connect(str(tmp_path / "here"))
        other.sendall(HEADER.pack(MAGIC, len(body)) + body)
        while not problems:
            target.board.context.run_once()
        assert problems == ["what firmware's devices hold does not fit"]
        assert target.board.assembly.run_state.status == "inmigrate"
        assert target.ask("readl 0x1000") == "OK 0x0000000000000000"
        coming.close()


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        ((1 << 63, [], 0, [], []), "the time is none"),
        ((-2, [], 0, [], []), "the time is none"),
        ((0, [(24, True)], 0, [], []), "inputs are forced that are not there"),
        ((0, [(-1, True)], 0, [], []), "inputs are forced that are not there"),
        ((0, [], 1 << 32, [], []), "what was plugged does not fit"),
        ((0, [], 0, [32 * 256], []), "what was plugged does not fit"),
        ((0, [], 0, [-1], []), "what was plugged does not fit"),
        ((0, [], 0, [], ["disk"]), 'device "disk" waits to be ejected, and is not there'),
    ],
)
def test_what_a_board_cannot_hold_leaves_the_machine_waiting(
    tmp_path: Path, held: tuple[object, ...], problem: str
) -> None:
    words = ["-M", "pc", "-m", "1M", "-nodefaults"]
    with machine(*words) as source:
        going = control_of(source)
        said = sent(source.board, going, tmp_path / "there")
        going.close()
    (cmos, byte, item, at, *_), snapshot = msgspec.msgpack.decode(said[HEADER.size :])
    body = msgspec.msgpack.encode(((cmos, byte, item, at, *held), snapshot))
    with machine(*words) as target, socket.socket(socket.AF_UNIX) as other:
        coming, problems = control_of(target), list[str]()
        coming.wait_for(f"unix:{tmp_path / 'here'}", problems.append)
        other.connect(str(tmp_path / "here"))
        other.sendall(HEADER.pack(MAGIC, len(body)) + body)
        while not problems:
            target.board.context.run_once()
        assert problems == [problem]
        assert target.board.assembly.run_state.status == "inmigrate"
        assert target.ask("clock_step 0") == "OK 0"
        coming.close()

"""The program over its two sockets, as a qtest client starts it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devmodels.options import OptionError
from devmodels.qtest.channels import Socket
from devmodels.qtest.commandline import parse
from devmodels.qtest.control import Entrance
from devmodels.qtest.hotplug import DOWN, EJECT, HOTPLUG_PORT, UP
from guestsim.targets import TargetError
from guestsim.targets.qemu import QemuTarget
from guestsim.targets.qmp import Json
from tests.unit.qtest.clients import GREETED, check_clients_of_qtest, connected


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The console script, also where the package is not installed."""
    path: Path = tmp_path_factory.mktemp("bin") / "devmodels-system-x86_64"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m devmodels.qtest "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.long
def test_the_target_for_qemu_has_it_for_a_machine(binary: str) -> None:
    with QemuTarget(
        binary=binary,
        blockdevs=[{"driver": "null-co", "node-name": "d0", "size": 1 << 20}],
        devices=[{"driver": "ide-hd", "drive": "d0", "bus": "ide.0", "id": "disk"}],
    ) as target:
        assert target.read(0xB00F_A000, 4) == 0x2922_8086
        target.ram_write(1 << 20, b"memory" * 50_000)
        assert target.ram_read(1 << 20, 300_000) == b"memory" * 50_000
        assert target.qmp("query-status") == {"running": True, "singlestep": False, "status": "running"}
        assert target.statistics("disk")["rd_operations"] == 0
        target.stop()
        assert [name for name, _ in target.take_events()] == ["STOP"]


def _ran(*arguments: str, requests: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devmodels.qtest", *arguments],
        input=requests,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.long
def test_requests_at_standard_input() -> None:
    ended = _ran(
        "-M",
        "q35,accel=qtest",
        "-qtest",
        "stdio",
        requests="outl 0xcf8 0x8000fa00\ninl 0xcfc\nclock_step 5\n",
    )
    assert (ended.returncode, ended.stdout) == (0, "OK\nOK 0x29228086\nOK 5\n")
    # As QEMU does, where no -qtest-log says otherwise.
    assert re.sub(r"\d\.\d{6}\]", "T]", ended.stderr).splitlines() == [
        "[I T] OPENED",
        "[R +T] outl 0xcf8 0x8000fa00",
        "[S +T] OK",
        "[R +T] inl 0xcfc",
        "[S +T] OK 0x29228086",
        "[R +T] clock_step 5",
        "[S +T] OK 5",
        "[I +T] CLOSED",
    ]


@pytest.mark.parametrize("log", ["none", "/dev/null"])
def test_no_log(log: str) -> None:
    ended = _ran("-M", "none", "-qtest", "stdio", "-qtest-log", log, requests="endianness\n")
    assert (ended.stdout, ended.stderr) == ("OK little\n", "")


def test_a_log_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    words = ("-chardev", "stdio,id=qtest", "-qtest", "chardev:qtest", "-qtest-log", str(path))
    ended = _ran("-M", "pc,accel=qtest", *words, requests="endianness\n")
    assert (ended.stdout, ended.stderr) == ("OK little\n", "")
    assert [line.partition("] ")[2] for line in path.read_text().splitlines()] == [
        "OPENED",
        "endianness",
        "OK little",
        "CLOSED",
    ]


@pytest.mark.long
@pytest.mark.parametrize("implied", [True, False])
def test_sockets_that_are_inherited(implied: bool) -> None:
    """As QEMU's own Python client starts it: chardevs over file descriptors, which come before or after their users."""
    (qtest, its_qtest), (control, its_control) = (socket.socketpair() for _ in range(2))
    with qtest, control, its_qtest, its_control:
        chardevs = [
            *("-chardev", f"socket,id=mon,fd={its_control.fileno()}"),
            *("-chardev", f"socket,id=qtest,fd={its_qtest.fileno()}"),
        ]
        users = [
            "-mon",
            "mon,mode=control" if implied else "chardev=mon,mode=control",
            "-qtest",
            "chardev:qtest",
        ]
        command = [sys.executable, "-m", "devmodels.qtest", "-display", "none", "-vga", "none"]
        command += [*chardevs, *users] if implied else [*users, *chardevs]
        command += ["-accel", "qtest", "-machine", "q35", "-qtest-log", "none"]
        with subprocess.Popen(command, pass_fds=(its_control.fileno(), its_qtest.fileno())) as process:
            try:
                control.settimeout(60)
                qtest.settimeout(60)
                assert b'"QMP"' in control.recv(4096)
                control.sendall(b'{"execute": "qmp_capabilities"}\n')
                assert control.recv(4096) == b'{"return": {}}\r\n'
                qtest.sendall(b"outl 0xcf8 0x8000fa00\ninl 0xcfc\n")
                with qtest.makefile("rb") as answers:
                    assert [answers.readline(), answers.readline()] == [b"OK\n", b"OK 0x29228086\n"]
                control.sendall(b'{"execute": "quit"}\n')
                assert process.wait(60) == 0
            finally:
                process.kill()


@pytest.mark.parametrize("form", ["unix:{}", "unix:path={}", "unix:path={},server=off"])
def test_a_socket_by_its_path(tmp_path: Path, form: str) -> None:
    path = tmp_path / "q"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(60)
        words = ["-M", "none", "-qtest", form.format(path), "-qtest-log", "none"]
        with subprocess.Popen([sys.executable, "-m", "devmodels.qtest", *words]) as process:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"endianness\n")
                assert connection.recv(100) == b"OK little\n"
            assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["-qtest", "tcp:1"], "expected unix:PATH"),
        (["-qtest", "chardev:no"], 'chardev "no" not found; the chardevs are: none'),
        (
            ["-chardev", "stdio,id=a", "-qtest", "chardev:a", "-qmp", "chardev:a"],
            'chardev "a" is in use already',
        ),
        (["-chardev", "socket,id=a,fd=x"], "expected the number of an open socket"),
        (["-chardev", "socket,id=a,fd=999", "-qtest", "chardev:a"], "Bad file descriptor"),
        (["-chardev", "null,id=a", "-chardev", "null,id=a"], "Duplicate ID 'a' for chardev"),
    ],
)
def test_channels_that_cannot_be(words: list[str], problem: str) -> None:
    def begin() -> None:
        launch = parse(words)
        assert isinstance(launch.qtest, Socket)
        Entrance(launch.qtest, option="-qtest").wait()

    with pytest.raises(OptionError, match=re.escape(problem)):
        begin()


def test_what_leads_nowhere() -> None:
    words = [
        "-chardev",
        "null,id=a",
        "-mon",
        "a",
        "-monitor",
        "null",
        "-qmp",
        "none",
        "-qtest",
        "unix:x",
        "-qtest",
        "null",
    ]
    launch = parse(words)
    assert (launch.qtest, launch.monitors) == (None, [])


@pytest.mark.long
@pytest.mark.parametrize("wait", ["on", "off"])
def test_clients_of_a_server_come_one_after_the_other(tmp_path: Path, wait: str) -> None:
    path = tmp_path / "qmp"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    command = [sys.executable, "-m", "devmodels.qtest", "-M", "none", "-qtest", "stdio", "-qtest-log", "none"]
    command += ["-qmp", f"unix:{path},server=on,wait={wait}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"endianness\n")
            process.stdin.flush()
            if wait == "off":
                assert process.stdout.readline() == b"OK little\n"
            for says in (b"", GREETED, GREETED):
                with connected(path) as client:
                    assert b'"QMP"' in client.recv(4096)
                    client.sendall(says)
                    assert not says or client.recv(4096) == b'{"return": {}}\r\n'
            if wait == "on":
                assert process.stdout.readline() == b"OK little\n"
        finally:
            process.kill()


@pytest.mark.long
@pytest.mark.parametrize("wait", ["on", "off"])
def test_clients_of_qtest_come_one_after_the_other(tmp_path: Path, wait: str) -> None:
    steps = check_clients_of_qtest([sys.executable, "-m", "devmodels.qtest"], tmp_path, wait=wait)
    assert steps == ["OPENED", "CLOSED"] * 3


def test_a_client_at_standard_input_that_says_nothing_more_keeps_nobody_waiting() -> None:
    command = [sys.executable, "-m", "devmodels.qtest", "-M", "none", "-qtest", "stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"endianness\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"OK little\n"
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.long
def test_what_is_wrong_is_one_line(binary: str) -> None:
    ended = _ran("-device", "virtio-blk-pci,drive=nothing")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "no drive 'nothing'" in ended.stderr
    with pytest.raises(TargetError, match="exited with status 1"):
        QemuTarget(binary=binary, devices=json.loads('[{"driver": "nvme"}]'))


@pytest.mark.long
def test_what_a_board_holds_beside_its_devices_migrates_to_another_process(
    binary: str, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    node: dict[str, Json] = {"driver": "null-co", "node-name": "d0", "size": 1 << 20}
    disk: dict[str, Json] = {"driver": "virtio-blk-pci", "drive": "d0", "addr": "6", "id": "disk"}

    def machine(*words: str) -> QemuTarget:
        return QemuTarget(
            binary=binary, accel="qtest", board="pc", blockdevs=[node], devices=[disk], arguments=words
        )

    with machine() as source, machine("-incoming", f"unix:{here}") as target:
        source._qtest.clock_step(5_000_000)
        target._qtest.clock_step(1_000_000)
        source._qtest.requests([b"set_irq_in ioapic unnamed-gpio-in 5 1\n"])
        source.qmp("device_del", {"id": "disk"})
        source.qmp("migrate", {"uri": f"unix:{here}"})
        while source.qmp("query-migrate") != {"status": "completed"}:
            pass
        while target.qmp("query-migrate") != {"status": "completed"}:
            pass
        assert target._qtest.clock_step(1_000_000) == 6_000_000
        assert target.irq_level(5)
        assert target.io_read(HOTPLUG_PORT + UP, 4) == 0
        assert target.io_read(HOTPLUG_PORT + DOWN, 4) == 1 << 6
        target.take_events()
        target.io_write(HOTPLUG_PORT + EJECT, 4, 1 << 6)
        target.qmp("query-status")
        gone = [members for name, members in target.take_events() if name == "DEVICE_DELETED"]
        assert gone[-1] == {"device": "disk", "path": "/machine/peripheral/disk"}

"""The program in the background, and the file with its number."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devmodels.options import OptionError
from devmodels.qtest.commandline import parse
from tests.unit.qtest.clients import GREETED, connected

PROGRAM = [sys.executable, "-m", "devmodels.qtest", "-M", "none", "-qtest-log", "none"]


def ended(pid: int) -> bool:
    """Wait for a process that is nobody's child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 60)[0])
    finally:
        os.close(fd)


@pytest.mark.long
def test_a_daemon_is_there_when_its_start_has_ended(tmp_path: Path) -> None:
    line = "-daemonize -pidfile pid -qmp unix:qmp,server=on,wait=off"
    started = subprocess.run([*PROGRAM, *line.split()], cwd=tmp_path, capture_output=True, timeout=60)
    assert (started.returncode, started.stdout, started.stderr) == (0, b"", b"")
    text = (tmp_path / "pid").read_text()
    pid = int(text)
    try:
        assert text == f"{pid}\n"
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}
        assert os.getsid(pid) not in (pid, os.getsid(0))
        assert (tmp_path / "qmp").stat().st_mode & 0o777 == 0o750
        with connected(tmp_path / "qmp") as client, client.makefile("rb") as answers:
            client.sendall(GREETED + b'{"execute": "quit"}\n')
            assert [*json.loads(answers.readline())] == ["QMP"]
            assert answers.readline() == b'{"return": {}}\r\n'
        assert ended(pid)
        assert not (tmp_path / "pid").exists()
    finally:
        if not ended_already(pid):
            os.kill(pid, signal.SIGKILL)


def ended_already(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("-device nothing", "nothing"),
        ("-qmp unix:/nonexistent/x", "No such file or directory"),
        ("-pidfile /nonexistent/x", "Could not create '/nonexistent/x': No such file or directory"),
        ("-chardev stdio,id=a", "cannot use stdio with -daemonize"),
    ],
)
def test_a_daemon_that_cannot_be_is_one_line(tmp_path: Path, line: str, problem: str) -> None:
    words = [*PROGRAM, "-pidfile", "pid", "-daemonize", *line.split()]
    started = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=60, text=True)
    assert (started.returncode, started.stdout, started.stderr.count("\n")) == (1, "", 1)
    assert problem in started.stderr
    assert not (tmp_path / "pid").exists()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_file_with_the_number_is_one_processs(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "pid"
    path.write_text("an old one, and a longer one")
    words = [*PROGRAM, "-pidfile", str(path)]
    with subprocess.Popen([*words, "-monitor", "stdio"], stdin=-1, stdout=-1) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"QEMU")
            assert path.read_text() == f"{process.pid}\n"
            other = subprocess.run(words, capture_output=True, timeout=60, text=True)
            assert other.returncode == 1
            assert other.stderr.endswith(
                "cannot create PID file: Cannot lock pid file: Resource temporarily unavailable\n"
            )
            assert path.read_text() == f"{process.pid}\n"
            process.send_signal(number)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not path.exists()


@pytest.mark.long
def test_a_signal_while_the_start_waits_for_somebody_takes_the_file_away(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    words = [*PROGRAM, "-pidfile", str(path), "-qmp", f"unix:{tmp_path}/qmp,server=on"]
    with subprocess.Popen(words) as process:
        try:
            while not (tmp_path / "qmp").exists():
                assert process.poll() is None
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not path.exists()


@pytest.mark.parametrize("line", ["-daemonize -monitor stdio", "-qtest stdio -daemonize"])
def test_a_daemon_has_no_standard_input(line: str) -> None:
    with pytest.raises(OptionError, match=r"^cannot use stdio with -daemonize$"):
        parse(line.split())

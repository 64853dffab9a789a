"""The program's monitors where nobody has a UNIX socket for them: a terminal, a pipe, a file, TCP, telnet."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devmodels.options import OptionError
from devmodels.qtest.commandline import parse
from devmodels.qtest.lineeditor import MAX_HISTORY, MAX_LINE, LineEditor
from tests.unit.qtest.clients import GREETED, connected, free_port
from tests.unit.qtest.terminals import chardevs, said_to

PROGRAM = [sys.executable, "-m", "devmodels.qtest"]
SMALL = [*PROGRAM, "-M", "none", "-qtest-log", "none"]
HELLO = "QEMU 7.2.0 monitor - type 'help' for more information\r\n(qemu) "
QUIT = b'{"execute": "quit"}\n'


def typed(text: str) -> str:
    """What a terminal is sent when somebody types it."""
    return "".join("\x1b[D" * at + text[: at + 1] + "\x1b[K" for at in range(len(text))) + "\r\n"


def on_terminal(text: str) -> str:
    """The same where a terminal makes a line feed a new line."""
    return text.replace("\n", "\r\n")


@contextmanager
def running(
    *words: str, stdin: int | None = None, stdout: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*SMALL, *words], stdin=stdin, stdout=stdout) as process:
        try:
            yield process
        finally:
            process.kill()


def hear(fd: int, end: str) -> str:
    """What comes, up to `end`."""
    heard = ""
    while not heard.endswith(end):
        assert select.select([fd], [], [], 60)[0], heard
        piece = os.read(fd, 4096).decode()
        assert piece, heard
        heard += piece
    return heard


@pytest.mark.long
def test_the_human_monitor_at_a_pipe() -> None:
    said = said_to([*PROGRAM, "-M", "q35"], b"info status\nc\n\ninfo status").decode()
    assert said == (
        "QEMU monitor - type 'help' for more information\r\n"
        f"(qemu) {typed('info status')}VM status: paused (prelaunch)\r\n"
        f"(qemu) {typed('c')}"
        "(qemu) \r\n"
        f"(qemu) {typed('info status')}VM status: running\r\n"
        f"(qemu) {typed('quit')}"
    )


@pytest.mark.long
def test_the_human_monitor_goes_on_where_the_input_ends() -> None:
    with running("-monitor", "stdio", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"info name\n")
        process.stdin.close()
        assert hear(process.stdout.fileno(), "K\r\n(qemu) ") == f"{HELLO}{typed('info name')}(qemu) "
        process.terminate()
        assert (process.wait(60), process.stdout.read()) == (0, b"")


@pytest.mark.long
def test_the_human_monitor_at_a_terminal_that_is_afterwards_as_it_was() -> None:
    ours, its = pty.openpty()
    before = termios.tcgetattr(its)
    try:
        with running("-chardev", "stdio,id=m,mux=on", "-mon", "m", stdin=its, stdout=its) as process:
            assert hear(ours, "(qemu) ") == on_terminal(HELLO)
            assert not termios.tcgetattr(its)[3] & (termios.ECHO | termios.ICANON)
            assert termios.tcgetattr(its)[3] & termios.ISIG
            os.write(ours, b"inof\x7f\x7ffo name\r")
            assert hear(ours, "\n(qemu) ").endswith(on_terminal("info name\x1b[K\r\n(qemu) "))
            os.write(ours, b"quit\r")
            assert hear(ours, "\n") == on_terminal(typed("quit"))
            assert process.wait(60) == 0
        assert termios.tcgetattr(its) == before
    finally:
        os.close(ours)
        os.close(its)


@pytest.mark.long
def test_the_terminal_is_as_it_was_after_a_signal_too() -> None:
    ours, its = pty.openpty()
    before = termios.tcgetattr(its)
    try:
        with running("-monitor", "stdio", stdin=its, stdout=its) as process:
            assert hear(ours, "(qemu) ") == on_terminal(HELLO)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert termios.tcgetattr(its) == before
    finally:
        os.close(ours)
        os.close(its)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_qmp_at_standard_input(tmp_path: Path, kind: str) -> None:
    commands = GREETED.strip() + b'{"execute": "query-status", "id": 1}{"execute": "nothing"}' + QUIT
    if kind == "pipe":
        ended = subprocess.run([*SMALL, "-qmp", "stdio"], input=commands, capture_output=True, timeout=60)
        said = ended.stdout
    else:
        (tmp_path / "in").write_bytes(commands)
        with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
            ended = subprocess.run([*SMALL, "-qmp", "stdio"], stdin=source, stdout=sink, timeout=60)
        said = (tmp_path / "out").read_bytes()
    assert ended.returncode == 0
    lines = said.splitlines()
    assert [*json.loads(lines[0])] == ["QMP"]
    assert lines[1] == b'{"return": {}}'
    assert json.loads(lines[2])["id"] == 1
    assert json.loads(lines[3])["error"]["class"] == "CommandNotFound"
    assert json.loads(lines[4])["event"] == "SHUTDOWN"
    assert lines[5:] == [b'{"return": {}}']


@pytest.mark.long
@pytest.mark.parametrize("form", ["-qmp-pretty unix:{},server=on,wait=off", "chardev"])
def test_qmp_over_several_lines(tmp_path: Path, form: str) -> None:
    path = tmp_path / "q"
    words = form.format(path).split()
    if form == "chardev":
        words = ["-chardev", f"socket,id=a,path={path},server=on,wait=off"]
        words += ["-mon", "a,mode=control,pretty=on"]
    with running(*words), connected(path) as client, client.makefile("rb") as answers:
        greeting = b"".join(answers.readline() for _ in range(14))
        assert json.loads(greeting)["QMP"]["version"]["qemu"]["major"] == 7
        assert greeting.startswith(b'{\r\n    "QMP": {\r\n        "version": {\r\n')
        assert greeting.endswith(b'        "capabilities": [\r\n        ]\r\n    }\r\n}\r\n')
        client.sendall(GREETED)
        assert answers.read(30) == b'{\r\n    "return": {\r\n    }\r\n}\r\n'


def connected_by_tcp(port: int) -> socket.socket:
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline


@pytest.mark.long
@pytest.mark.parametrize(
    "form",
    [
        "-monitor tcp:127.0.0.1:{},server=on,wait=off",
        "-monitor tcp:localhost:{},server,nowait,nodelay",
        "-chardev socket,id=a,host=127.0.0.1,port={},server=on,wait=off -mon a,mode=readline",
    ],
)
def test_clients_of_the_human_monitor_over_tcp_come_one_after_the_other(form: str) -> None:
    port = free_port()
    with running(*form.format(port).split()) as process:
        for _ in range(2):
            with connected_by_tcp(port) as client:
                assert hear(client.fileno(), "(qemu) ") == HELLO
                client.sendall(b"info version\n")
                assert hear(client.fileno(), "\n(qemu) ") == f"{typed('info version')}7.2.0\r\n(qemu) "
        with connected_by_tcp(port) as client:
            client.sendall(b"q\n")
            assert process.wait(60) == 0


@pytest.mark.long
def test_telnet() -> None:
    port = free_port()
    with running("-monitor", f"telnet:127.0.0.1:{port},server=on,wait=off") as process:
        for _ in range(2):
            with connected_by_tcp(port) as client:
                assert client.recv(12, socket.MSG_WAITALL) == bytes.fromhex("fffb01 fffb03 fffb00 fffd00")
                assert hear(client.fileno(), "(qemu) ") == HELLO
                # Its answers, of which the last one comes in two pieces, and a command without an option.
                client.sendall(bytes.fromhex("fffd03 fffb18 ff"))
                client.sendall(bytes.fromhex("fe22 fff1") + b"info version\r\0")
                assert hear(client.fileno(), "\n(qemu) ") == f"{typed('info version')}7.2.0\r\n(qemu) "
        with connected_by_tcp(port) as client:
            assert client.recv(12, socket.MSG_WAITALL)[0] == 0xFF
            client.sendall(b"quit\r\ninfo status\n")
            assert hear(client.fileno(), "quit\x1b[K\r\n")
            assert client.recv(1) == b""
            assert process.wait(60) == 0


@pytest.mark.long
def test_qtest_and_qmp_by_tcp_from_the_other_side() -> None:
    with socket.create_server(("127.0.0.1", 0)) as qtest, socket.create_server(("127.0.0.1", 0)) as control:
        ports = [each.getsockname()[1] for each in (qtest, control)]
        with running("-qtest", f"tcp:127.0.0.1:{ports[0]}", "-qmp", f"tcp:127.0.0.1:{ports[1]}") as process:
            client, monitor = qtest.accept()[0], control.accept()[0]
            with client, monitor, client.makefile("rb") as answers:
                assert b'"QMP"' in monitor.recv(4096)
                client.sendall(b"endianness\n")
                assert answers.readline() == b"OK little\n"
            assert process.wait(60) == 0


@pytest.mark.long
def test_chardevs_have_the_names_that_qemu_gives_them(tmp_path: Path) -> None:
    port = free_port()
    assert chardevs(PROGRAM, tmp_path, port) == {
        "compat_monitor0": f"unix:{tmp_path}/q,server=on",
        "compat_monitor1": f"telnet:127.0.0.1:{port},server=on",
        "compat_monitor2": "stdio",
        "n": "null",
        "qtest": "null",
    }


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("-monitor stdio -qmp stdio", "cannot use stdio by multiple character devices"),
        ("-monitor stdio -qtest stdio", "cannot use stdio by multiple character devices"),
        ("-chardev stdio,id=a -monitor stdio", "cannot use stdio by multiple character devices"),
        ("-monitor somewhere", "expected unix:PATH, tcp:HOST:PORT or telnet:HOST:PORT"),
        ("-monitor tcp:host", "expected unix:PATH, tcp:HOST:PORT or telnet:HOST:PORT"),
        ("-monitor tcp:host:x", 'port: "x" is given; expected a number up to 65535'),
        ("-monitor tcp::65536", 'port: "65536" is given; expected a number up to 65535'),
        ("-monitor tcp::1,bla=3", "Invalid parameter 'bla'"),
        ("-chardev socket,id=a,port=1,path=x", "path: given together with port; expected one of them"),
        ("-chardev null,id=a -mon a,mode=x", 'mode: "x" is given; expected control or readline'),
        ("-chardev null,id=a -mon a,pretty=on", "'pretty' is not compatible with HMP monitors"),
    ],
)
def test_monitors_that_cannot_be(line: str, problem: str) -> None:
    with pytest.raises(OptionError, match=re.escape(problem)):
        parse(line.split())


@pytest.mark.long
@pytest.mark.parametrize("where", ["tcp:127.0.0.1:{}", "tcp:127.0.0.1:{},server=on"])
def test_an_address_that_cannot_be_had_is_one_line(where: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if "server" not in where:
            taken.close()
        ended = subprocess.run([*SMALL, "-monitor", where.format(port)], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (1, b"", 1)
    assert f"127.0.0.1:{port}: ".encode() in ended.stderr


def test_what_is_kept_of_lines_has_bounds() -> None:
    shown: list[bytes] = []
    editor = LineEditor(b"> ", shown.append)
    editor.feed(b"x" * (MAX_LINE + 10) + b"\n")
    assert editor.next() == b"x" * MAX_LINE
    editor.feed(
        b"".join(b"%d\n" % number for number in range(MAX_HISTORY + 1)) + b"\x1b[A" * (MAX_HISTORY + 1)
    )
    assert [editor.next() for _ in range(MAX_HISTORY + 1)][-1] == b"%d" % MAX_HISTORY
    assert editor.next() is None
    assert len(editor) == 0
    editor.feed(b"\n")
    assert editor.next() == b"1"
    editor.feed(b"\x1b[" + b"1" * 10_000 + b"~a\n")
    assert editor.next() == b"a"

"""`devmodels serve` as a user meets it: a wrong option is one line and status 2; a right one serves until a signal."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devmodels.blockbackend.registry import our_own
from devmodels.cli.main import main
from devmodels.cli.serve import Server
from devmodels.monitor.command import command as command_of
from devmodels.monitor.human import human_monitor_command

MEMORY = "driver=memory,size=1M,node-name=d0"
DRIVERS = ", ".join(f'"{name}"' for name in sorted(our_own()))


def export(folder: Path, more: str = "", *, name: str = "e0", node: str = "d0") -> str:
    path = folder / f"{name}.sock"
    return f"type=vhost-user-blk,id={name},node-name={node},addr.type=unix,addr.path={path}{more}"


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The command's exit status; in this process."""
    monkeypatch.setattr(sys, "argv", ["devmodels", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command logs to the standard error of its moment."""
    logger = logging.getLogger("devmodels")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Refusal]:
    before = set(os.listdir("/proc/self/fd"))
    yield Refusal(monkeypatch, capsys)
    assert set(os.listdir("/proc/self/fd")) == before, "the command left descriptors open"


class Refusal:
    """Runs the command and gives its one line on standard error, without the program's name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        assert run(list(arguments), self._monkeypatch) == 2
        out, err = self._capsys.readouterr()
        assert out == ""
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert err.startswith("devmodels: ")
        return err.removeprefix("devmodels: ").rstrip("\n")

    def serve(self, blockdev: list[str], exports: list[str]) -> str:
        arguments = [argument for text in blockdev for argument in ("--blockdev", text)]
        arguments += [argument for text in exports for argument in ("--export", text)]
        return self("serve", *arguments)


# --- the command itself


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"], monkeypatch) == 0
    assert re.fullmatch(r"devmodels \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_help_names_every_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--help"], monkeypatch) == 0
    text = capsys.readouterr().out
    options = ("--blockdev", "--device", "--export", "--poll-max-ns", "--strict", "--verbose")
    for option in (*options, "type=vhost-user-blk", "type=vfio-user"):
        assert option in text


def test_no_command_shows_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([], monkeypatch) == 2
    assert "serve" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nope"], "No such command 'nope'."),
        (["serve"], "Missing option '--blockdev'."),
        (["serve", "--blockdev", MEMORY], "Missing option '--export'."),
        (["serve", "--nope"], "No such option: --nope"),
        (["serve", "--blockdev"], "Option '--blockdev' requires an argument."),
        (
            ["serve", "--blockdev", "a", "--export", "b", "--poll-max-ns=-1"],
            "Invalid value for '--poll-max-ns': Input should be greater than or equal to 0",
        ),
        (
            ["serve", "--blockdev", "a", "--export", "b", "--record-limit=1M"],
            "--record-limit: 1M is given; expected --record with it",
        ),
    ],
)
def test_wrong_command_line(refusal: Refusal, arguments: list[str], line: str) -> None:
    assert refusal(*arguments) == line


# --- nodes


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nonsense", '--blockdev: "nonsense" is given; expected key=value'),
        ("{", "--blockdev: Input data was truncated; expected a JSON object"),
        ("driver=memory,size=1M", "--blockdev: node-name: missing; expected a name to refer to it"),
        (
            '{"node-name": "d0"}',
            f'--blockdev "d0": driver: missing; expected one of {DRIVERS}',
        ),
        (
            "driver=qcow2,node-name=d0",
            f'--blockdev "d0": driver: "qcow2" is given; expected one of {DRIVERS}',
        ),
        (
            "driver=memory,node-name=d0,size=big",
            '--blockdev "d0": size: "big" is given; expected a number of bytes from 0 to 2**63 - 512',
        ),
        (
            '{"driver": "memory", "node-name": "d0", "size": "1M"}',
            '--blockdev "d0": size: "1M" is given; expected a number of bytes from 0 to 2**63 - 512',
        ),
        (
            "driver=memory,node-name=d0,size=1M,read-only=maybe",
            '--blockdev "d0": read-only: "maybe" is given; expected on or off (in JSON: true or false)',
        ),
        (
            "driver=memory,node-name=0,size=1M",
            (
                '--blockdev "0": node-name: "0" is given; expected a letter and then up to 30 letters,'
                " digits, '-', '.', '_'"
            ),
        ),
    ],
)
def test_wrong_node(refusal: Refusal, tmp_path: Path, text: str, line: str) -> None:
    assert refusal.serve([text], [export(tmp_path)]) == line


def test_unknown_option_of_a_node_lists_those_that_there_are(refusal: Refusal, tmp_path: Path) -> None:
    line = refusal.serve([f"{MEMORY},cash.direct=on"], [export(tmp_path)])
    assert line.startswith(
        '--blockdev "d0": cash: no such option; expected one of accounting, active, auto-read-only, cache, '
    )


def test_unknown_option_inside_an_option(refusal: Refusal, tmp_path: Path) -> None:
    line = refusal.serve([f"{MEMORY},cache.fast=on"], [export(tmp_path)])
    assert line == '--blockdev "d0": cache.fast: no such option; expected one of direct, no-flush'


def test_two_nodes_of_one_name(refusal: Refusal, tmp_path: Path) -> None:
    line = refusal.serve([MEMORY, MEMORY], [export(tmp_path)])
    assert line == '--blockdev "d0": node-name: given to two nodes; expected a name of its own'


def test_missing_file(refusal: Refusal, tmp_path: Path) -> None:
    line = refusal.serve([f"driver=file,filename={tmp_path}/no.img,node-name=d0"], [export(tmp_path)])
    assert line.startswith('--blockdev "d0": filename: cannot open ')
    assert line.endswith("No such file or directory")


def test_locked_image(refusal: Refusal, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    node = f"driver=file,filename={image},active=on,node-name="
    line = refusal.serve([f"{node}d0", f"{node}d1"], [export(tmp_path)])
    assert line.startswith('--blockdev "d1": filename: cannot lock ')
    assert "in use" in line


# --- exports


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (",num-queues=0", "num-queues: 0 is given; expected 1 to 256"),
        (",num-queues=257", "num-queues: 257 is given; expected 1 to 256"),
        (",num-queues=two", 'num-queues: "two" is given; expected an integer'),
        (",writable=yes", 'writable: "yes" is given; expected on or off (in JSON: true or false)'),
        (
            ",logical-block-size=1000",
            "logical-block-size: 1000 is given; expected a power of two from 512 to 65536",
        ),
        (
            ",logical-block-size=0",
            "logical-block-size: 0 is given; expected a power of two from 512 to 65536",
        ),
        (",size-max=4G", "size-max: 4294967296 is given; expected 0 to 4294967295"),
        (",lifetime.pre-eol-info=4", "lifetime: pre-eol-info is 4, expected 0 to 3"),
        (",serial=" + "x" * 21, f"serial: '{'x' * 21}' is given; expected at most 20 bytes"),
        (",addr.port=1", "addr.port: no such option; expected one of path, type"),
        (
            ",fixed-iothread=on",
            (
                "fixed-iothread: no such option; expected one of addr, id, iothread, iothread-vq-mapping, lifetime,"
                " logical-block-size, node-name, num-queues, rerror, secure-erase, serial, size-max, type, werror,"
                " writable, writethrough"
            ),
        ),
        (",iothread=t9", 'iothread "t9" not found'),
        (
            ",num-queues=2,iothread-vq-mapping.0.iothread=t9",
            'IOThread "t9" object does not exist',
        ),
    ],
)
def test_wrong_option_of_an_export(refusal: Refusal, tmp_path: Path, more: str, line: str) -> None:
    assert refusal.serve([MEMORY], [export(tmp_path, more)]) == f'--export "e0": {line}'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "type=nbd,id=e0",
            '--export: type: "nbd" is given; expected "vhost-user-blk", "vhost-user-scsi", "iscsi", "vfio-user"',
        ),
        (
            "id=e0",
            '--export: type: missing; expected "vhost-user-blk", "vhost-user-scsi", "iscsi", "vfio-user"',
        ),
        ("type=vhost-user-blk", "--export: id: missing; expected a string"),
        (
            '{"type": "vhost-user-blk", "id": "e0", "node-name": "d0"}',
            '--export "e0": addr: missing; expected an object of type, path',
        ),
        (
            "type=vhost-user-blk,id=e0,node-name=d0,addr.type=inet,addr.path=x",
            '--export "e0": addr.type: "inet" is given; expected "unix"',
        ),
        (
            # Linux would give such a socket a name of its own choice, where nobody looks.
            "type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path=",
            '--export "e0": addr.path: "" is given; expected the path of a UNIX socket',
        ),
    ],
)
def test_wrong_export(refusal: Refusal, text: str, line: str) -> None:
    assert refusal.serve([MEMORY], [text]) == line


def test_unknown_node(refusal: Refusal, tmp_path: Path) -> None:
    line = refusal.serve([MEMORY], [export(tmp_path, node="d7")])
    assert line == '--export "e0": node-name: "d7" is given; expected "d0"'


def test_two_exports_of_one_id(refusal: Refusal, tmp_path: Path) -> None:
    line = refusal.serve([MEMORY], [export(tmp_path), export(tmp_path)])
    assert line == '--export "e0": id: given to two exports; expected an id of its own'


def test_writable_export_of_a_read_only_node(refusal: Refusal, tmp_path: Path) -> None:
    line = refusal.serve([f"{MEMORY},read-only=on"], [export(tmp_path, ",writable=on")])
    assert line == '--export "e0": writable: on, but node "d0" is read-only'


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nonexistent-folder/vu.sock", "No such file or directory"),
        ("/proc/vu.sock", "No such file or directory"),
        ("x" * 200, "AF_UNIX path too long"),
        (".", "Address already in use"),
    ],
)
def test_socket_that_cannot_be_bound(refusal: Refusal, path: str, reason: str) -> None:
    text = f"type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path={path}"
    assert refusal.serve([MEMORY], [text]) == f'--export "e0": addr.path: cannot listen at {path!r}: {reason}'


def test_file_in_the_sockets_place_is_left_alone(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "e0.sock").write_text("precious")
    assert refusal.serve([MEMORY], [export(tmp_path)]).endswith("Address already in use")
    assert (tmp_path / "e0.sock").read_text() == "precious"


def test_socket_of_a_living_server_is_left_alone(refusal: Refusal, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(tmp_path / "e0.sock"))
        living.listen()
        assert refusal.serve([MEMORY], [export(tmp_path)]).endswith("Address already in use")
        assert (tmp_path / "e0.sock").exists()


# --- serving


def test_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "e0.sock"))
    with Server(poll_max_ns=0, strict=False) as server:
        server.add_blockdev(MEMORY)
        server.add_export(export(tmp_path))
        with socket.socket(socket.AF_UNIX) as front_end:
            front_end.connect(str(tmp_path / "e0.sock"))


def test_everything_is_given_up_at_the_end(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    handler = signal.getsignal(signal.SIGTERM)
    with Server(poll_max_ns=0, strict=False) as server:
        server.add_blockdev(MEMORY)
        server.add_export(export(tmp_path))
        server.add_export(export(tmp_path, name="e1"))
        assert (tmp_path / "e1.sock").exists()
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) == before
    assert signal.getsignal(signal.SIGTERM) == handler


def test_image_is_not_in_use_before_a_guest_is_there(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    node = f"driver=file,filename={image},node-name="
    with Server(poll_max_ns=0, strict=False) as server:
        server.add_blockdev(f"{node}d0")
        server.add_blockdev(f"{node}d1")
        server.add_export(export(tmp_path, ",writable=on"))
        server.add_export(export(tmp_path, ",writable=on", name="e1", node="d1"))


def test_json_and_pairs_say_the_same(tmp_path: Path) -> None:
    node = {"driver": "memory", "size": 1 << 20, "node-name": "d1"}
    offer = {
        "type": "vhost-user-blk",
        "id": "e1",
        "node-name": "d1",
        "addr": {"type": "unix", "path": str(tmp_path / "e1.sock")},
        "num-queues": 3,
    }
    with Server(poll_max_ns=0, strict=False) as server:
        server.add_blockdev(MEMORY)
        server.add_export(export(tmp_path, ",num-queues=3"))
        server.add_blockdev(json.dumps(node))
        server.add_export(json.dumps(offer))
        assert queues(server, tmp_path / "e0.sock") == queues(server, tmp_path / "e1.sock") == 3


def queues(server: Server, path: Path) -> int:
    """How many queues the export at `path` says it has."""
    with socket.socket(socket.AF_UNIX) as front_end:
        front_end.connect(str(path))
        front_end.sendall(struct.pack("<III", 17, 1, 0))
        server.context.run_until_idle()
        answer = front_end.recv(20)
    server.context.run_until_idle()
    return int(struct.unpack("<IIIQ", answer)[3])


@contextmanager
def daemon(tmp_path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m devmodels serve` as a process of its own, once it listens."""
    command = [sys.executable, "-m", "devmodels", "serve", "--blockdev", MEMORY, "--export", export(tmp_path)]
    with subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 20
            while not (tmp_path / "e0.sock").exists():
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.005)  # another process's start: nothing to wait on
            yield process
        finally:
            process.kill()


def connect(path: Path) -> socket.socket:
    """A front end of the daemon at `path`, whose socket is there a moment before anybody listens."""
    deadline = time.monotonic() + 20
    while True:
        front_end = socket.socket(socket.AF_UNIX)
        try:
            front_end.connect(str(path))
        except ConnectionRefusedError:
            front_end.close()
            assert time.monotonic() < deadline
        else:
            return front_end


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_in_peace_from_the_moment_it_listens(tmp_path: Path, number: signal.Signals) -> None:
    with daemon(tmp_path) as process:
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert not (tmp_path / "e0.sock").exists()


@pytest.mark.long
def test_what_waits_for_limits_or_at_a_break_point_is_done_before_the_end(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    with Server(poll_max_ns=0, strict=False) as server:
        server.add_object("qom-type=throttle-group,id=t0,limits.bps-total=1")
        server.add_blockdev(f"driver=file,node-name=d0,filename={image}")
        server.add_blockdev("driver=throttle,node-name=f0,file=d0,throttle-group=t0")
        server.add_blockdev("driver=blkdebug,node-name=b0,image=f0")
        for line in (
            "aio_write -P 1 0 512",
            "aio_write -P 2 512 512",
            "break pwritev A",
            "aio_write -P 3 1k 512",
        ):
            command = command_of(human_monitor_command)
            given = {"command-line": f"qemu-io b0 '{line}'"}
            server.context.run(command(server.world, given))
    gc.collect()
    assert [len(image.read_bytes().strip(b"\0")), *recwarn] == [1536]


@pytest.mark.long
def test_idle_daemon_uses_no_processor(tmp_path: Path) -> None:
    with daemon(tmp_path) as process, connect(tmp_path / "e0.sock") as front_end:
        front_end.sendall(struct.pack("<III", 17, 1, 0))
        front_end.recv(20)
        ticks = cpu_ticks(process.pid)
        front_end.settimeout(0.5)
        with pytest.raises(TimeoutError):  # the point is what happens meanwhile: nothing
            front_end.recv(1)
        assert cpu_ticks(process.pid) - ticks <= 1
        process.terminate()
        assert process.wait(10) == 0


def cpu_ticks(pid: int) -> int:
    """Processor time of a process in clock ticks (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.long
def test_verbose_tells_of_connections(tmp_path: Path) -> None:
    with daemon(tmp_path, "-v") as process:
        with connect(tmp_path / "e0.sock") as front_end:
            front_end.sendall(struct.pack("<III", 17, 1, 0))
            front_end.recv(20)
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(2)]
        process.terminate()
        assert process.wait(10) == 0
    assert lines == ["devmodels: e0: front end connected\n", "devmodels: e0: front end disconnected\n"]

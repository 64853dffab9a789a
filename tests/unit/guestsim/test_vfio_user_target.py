"""Guests on functions over vfio-user: with a server in this very thread, at a socket that is there, and bad servers."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner, Result

from guestsim.cli import app
from guestsim.disk import Disk
from guestsim.drivers import virtio_blk
from guestsim.drivers.pci import scan
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_bus import open_function
from guestsim.errors import DisconnectedError
from guestsim.guest import Guest
from guestsim.script.needs import TargetSpecError, parse_target
from guestsim.targets import TargetError
from guestsim.targets import vfio_messages as msg
from guestsim.targets.vfio_connection import RefusedError, VfioConnection
from guestsim.targets.vfio_daemon import VfioDaemonTarget
from guestsim.targets.vfio_user import VfioUserTarget
from tests.unit.exports.vfio.served import Served

# --- a server in this thread


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as found:
        yield found


def test_the_bus_has_the_functions_where_they_were_put(served: Served) -> None:
    assert [(each.slot, each.vendor, each.device) for each in scan(served.guest)] == [
        (4, 0x1AF4, 0x1001),
        (5, 0x1AF4, 0x1001),
    ]
    assert served.target.read(0xE100_0000, 4) == 0xFFFF_FFFF
    served.target.write(0xE100_0000, 4, 1)
    assert served.target.io_read(0xCFC, 4) == 0xFFFF_FFFF
    served.target.io_write(0xCFC, 4, 1)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("interrupts", [Interrupts.MSIX, Interrupts.INTX])
def test_two_disks_at_work(served: Served, interrupts: Interrupts, legacy: bool) -> None:
    disks = [served.disk(slot, interrupts, legacy=legacy) for slot in (4, 5)]
    for number, disk in enumerate(disks):
        disk.write(4096, bytes([number + 1]) * 8192)
    for number, disk in enumerate(disks):
        assert disk.read(4096, 8192) == bytes([number + 1]) * 8192
        assert disk.interrupts == 2


def test_a_server_that_goes_is_told(served: Served) -> None:
    disk = served.disk(4)
    served.servers["v0"].close()
    with pytest.raises(DisconnectedError, match=r"vfio-user:.*v0: the server closed the connection"):
        disk.read(0, 512)


def test_a_client_has_no_host(served: Served) -> None:
    target = served.target
    asked: list[Callable[[], object]] = [
        lambda: target.resize("d0", 1),
        lambda: target.plug({"id": "x"}),
        lambda: target.unplug("x"),
        lambda: target.statistics("x"),
        target.stop,
        target.cont,
        target.take_events,
    ]
    for ask in asked:
        with pytest.raises(TargetError):
            ask()
    assert target.violations() is None
    assert not target.irq_level(5)


# --- at a socket that is there


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of a `devmodels serve` with a function over a disk of 1 MiB."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "image").write_bytes(b"\x5a" * (1 << 20))
    node = {"driver": "file", "node-name": "d0", "filename": str(folder / "image")}
    command = [sys.executable, "-m", "devmodels", "serve", "--blockdev", json.dumps(node)]
    command += ["--device", "virtio-blk-pci,id=v0,drive=d0,num-queues=2"]
    command += ["--export", f"type=vfio-user,id=e0,device=v0,addr.type=unix,addr.path={folder}/s"]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 20
        while not (folder / "s").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        yield str(folder / "s")
        process.terminate()


HEAD = """\
name: one
drives: [{driver: file, node-name: d0, size: 1M}]
devices: [{driver: virtio-blk-pci, drive: d0}]
steps:
  - probe
"""


def run(path: Path, target: str, *options: str) -> Result:
    result = CliRunner().invoke(app, ["run", str(path), "--target", target, *options])
    assert "Traceback" not in result.output
    return result


@pytest.mark.long
def test_a_script_on_a_server_that_is_there(tmp_path: Path, daemon: str) -> None:
    path = tmp_path / "one.guest.yaml"
    path.write_text(
        f"{HEAD}  - read: {{at: 4k, length: 4k}}\n    expect: {{data: {{pattern: 0x5a}}, used-length: 4097}}\n"
        "  - random: {seed: 1, requests: 20, depth: 4, at: 512k}\n    queue: 1\n"
    )
    for memory in ("shared", "bounced"):
        result = run(path, f"vfio-user:{daemon}", "--json", "--memory", memory)
        assert result.exit_code == 0, result.output
        (report,) = json.loads(result.stdout)
        assert (report["target"], report["memory"]) == (f"vfio-user:{daemon}", memory)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("resize: {drive: d0, to: 2M}", "needs a host that resizes drives"),
        ("stop", "needs a host that stops the machine and is told events"),
        ("plug: {driver: scsi-hd, id: a, drive: d0}", "needs a host that plugs devices"),
    ],
)
def test_what_a_server_lacks_is_told(tmp_path: Path, daemon: str, step: str, reason: str) -> None:
    path = tmp_path / "one.guest.yaml"
    path.write_text(f"{HEAD}  - {step}\n")
    result = run(path, f"vfio-user:{daemon}", "-q")
    assert reason in " ".join(result.stdout.split())


def test_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "one.guest.yaml"
    path.write_text(HEAD)
    result = run(path, f"vfio-user:{tmp_path}/no", "-q")
    assert result.exit_code == 1
    assert "cannot connect: No such file or directory" in " ".join(result.output.split())


def test_a_socket_goes_with_the_target() -> None:
    assert str(parse_target("vfio-user")) == "vfio-user"
    assert parse_target("vfio-user:/a/b").socket == "/a/b"
    with pytest.raises(TargetSpecError, match="vfio-user"):
        parse_target("vfio-user:")


@pytest.mark.slow
@pytest.mark.parametrize("interrupts", [Interrupts.MSIX, Interrupts.INTX])
def test_queues_with_threads_of_their_own(interrupts: Interrupts) -> None:
    """Messages are dealt with at home, requests and interrupts come from two other threads."""
    queues = [{"iothread": "t0"}, {"iothread": "t1"}]
    target = VfioDaemonTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
        devices=[
            {
                "driver": "virtio-blk-pci",
                "drive": "d0",
                "id": "v0",
                "num-queues": 2,
                "iothread-vq-mapping": queues,
            }
        ],
        arguments=("--object", "iothread,id=t0", "--object", "iothread,id=t1"),
    )
    with closing(target), closing(Guest(target)) as guest:
        (function,) = scan(guest)
        disk = Disk(guest, virtio_blk.VirtioBlk(guest, open_function(guest, function)))
        guest.run(disk.driver.probe(interrupts=interrupts))
        for number in range(200):
            writes = [virtio_blk.write(at * 512, bytes([number]) * 512) for at in (number, 999)]
            guest.run(disk.driver.execute_all(writes, queue=number % 2))
        for number in range(200):
            assert disk.read(number * 512, 512) == bytes([number]) * 512


# --- servers that do wrong


def header(
    number: int, command: int, payload: bytes, *, flags: int = 1, error: int = 0, size: int = 0
) -> bytes:
    return struct.pack("<HHIII", number, command, size or 16 + len(payload), flags, error) + payload


GREETING = struct.pack("<HH", 0, 1) + b'{"capabilities": {}}\0'


@contextmanager
def serving(path: Path, *answers: Callable[[int, int], bytes]) -> Iterator[None]:
    """A server that greets, and then says of each message what `answers` make of its id and command."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def behave() -> None:
            with suppress(OSError), listener.accept()[0] as connection:
                for answer in answers:
                    head = connection.recv(16, socket.MSG_WAITALL)
                    if len(head) < 16:
                        return
                    number, command, size, _, _ = struct.unpack("<HHIII", head)
                    connection.recv(size - 16, socket.MSG_WAITALL) if size > 16 else None
                    connection.sendall(answer(number, command))

        thread = Thread(target=behave)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def greet(number: int, command: int) -> bytes:
    return header(number, command, GREETING)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda number, command: b"", "closed the connection instead of answering DEVICE_RESET"),
        (
            lambda number, command: header(number, command, b"")[:9],
            "closed the connection instead of answering",
        ),
        (
            lambda number, command: header(number + 1, command, b""),
            "answered DEVICE_RESET with an answer to DEVICE_RESET",
        ),
        (lambda number, command: header(number, 4, b""), "with an answer to DEVICE_GET_INFO"),
        (lambda number, command: header(number, command, b"", size=8), "sent DEVICE_RESET of 8 bytes"),
        (
            lambda number, command: header(number, command, b"", size=1 << 30),
            "sent DEVICE_RESET of 1073741824 bytes",
        ),
    ],
)
def test_a_wrong_answer_ends_the_connection(
    tmp_path: Path, answer: Callable[[int, int], bytes], text: str
) -> None:
    with (
        serving(tmp_path / "s", greet, answer),
        closing(VfioConnection(str(tmp_path / "s"), "server", timeout=5)) as connection,
    ):
        for _ in range(2):
            with pytest.raises(DisconnectedError, match=text):
                connection.ask(msg.Command.DEVICE_RESET)


def test_a_refusal_is_told_with_its_reason(tmp_path: Path) -> None:
    def refuse(number: int, command: int) -> bytes:
        return header(number, command, b"", flags=0x21, error=17)

    with (
        serving(tmp_path / "s", greet, refuse),
        closing(VfioConnection(str(tmp_path / "s"), "server")) as connection,
    ):
        with pytest.raises(RefusedError, match="the server refused DMA_MAP: File exists") as refused:
            connection.ask(msg.Command.DMA_MAP)
        assert refused.value.error == 17


@pytest.mark.parametrize(
    "greeting", [b"", b"\0\0", struct.pack("<HH", 1, 0), b"\0\0\1\0{\0", b"\0\0\1\0[]\0"]
)
def test_a_wrong_greeting(tmp_path: Path, greeting: bytes) -> None:
    with (
        serving(tmp_path / "s", lambda number, command: header(number, command, greeting)),
        pytest.raises(DisconnectedError, match="answered VERSION with"),
    ):
        VfioConnection(str(tmp_path / "s"), "server")


@pytest.mark.long
def test_memory_that_is_not_there_is_refused_to_the_server(tmp_path: Path) -> None:
    """And a command that nobody knows."""
    seen: list[bytes] = []

    def ask(number: int, command: int) -> bytes:
        del number, command
        return header(1, 11, struct.pack("<QQ", 1 << 60, 4), flags=0) + header(2, 99, b"", flags=0)

    def note(number: int, command: int) -> bytes:
        seen.append(struct.pack("<HH", number, command))
        return b""

    with (
        serving(tmp_path / "s", greet, ask, note, note),
        closing(VfioUserTarget({}, {})) as target,
        closing(VfioConnection(str(tmp_path / "s"), "server", memory=target.memory)) as connection,
    ):
        connection.post(msg.Command.DEVICE_RESET)
        while len(seen) < 2:
            connection.look()
            if connection.lost:
                break
    assert seen == [struct.pack("<HH", 1, 11), struct.pack("<HH", 2, 99)]

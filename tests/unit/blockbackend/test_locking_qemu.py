"""Image locks against QEMU's own tools: each keeps out of what the other uses, and readers share."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockOptionError, open_node
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.qemuio import need

pytestmark = pytest.mark.qemu

TOOLS = ("qemu-io", "qemu-img", "qemu-storage-daemon")


@pytest.fixture(autouse=True)
def _tools() -> None:
    need(*TOOLS)


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


@contextmanager
def ours(image: Path, context: IoContext, **options: object) -> Iterator[None]:
    """We have the image open."""
    names = {name.replace("_", "-"): value for name, value in options.items()}
    node = open_node({"driver": "file", "filename": str(image), **names}, context)
    try:
        yield
    finally:
        node.close()


def qemu_io(image: Path, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = ["qemu-io", "-f", "raw", *options, "-c", command, str(image)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def daemon(image: Path, *, writable: bool) -> Iterator[subprocess.Popen[str]]:
    """A qemu-storage-daemon that exports the image, or has ended because it could not."""
    socket = image.parent / "vu.sock"
    read_only, write = ("off", "on") if writable else ("on", "off")
    export = f"type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path={socket},writable={write}"
    blockdev = f"driver=file,filename={image},node-name=d0,read-only={read_only}"
    process = subprocess.Popen(
        ["qemu-storage-daemon", "--blockdev", blockdev, "--export", export],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: socket.exists() or process.poll() is not None)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def qemu_io_open(image: Path, *options: str) -> Iterator[None]:
    """A qemu-io that has the image open."""
    process = subprocess.Popen(
        ["qemu-io", "-f", "raw", *options, str(image)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # The answer to a command shows that the image is open.
        process.stdin.write("length\n")
        assert "1 MiB" in process.stdout.readline()
        yield
    finally:
        process.communicate("quit\n", timeout=60)


@pytest.mark.parametrize("read_only", [False, True])
def test_qemu_io_may_not_write_to_what_we_use(image: Path, context: IoContext, read_only: bool) -> None:
    with ours(image, context, read_only=read_only):
        refused = qemu_io(image, "write 0 512")
        assert refused.returncode == 1
        assert "lock" in refused.stderr
        assert image.read_bytes() == bytes(1 << 20)
    assert qemu_io(image, "write -P 7 0 512").returncode == 0
    assert image.read_bytes()[:512] == b"\x07" * 512


def test_a_second_daemon_may_not_write_to_what_we_use(image: Path, context: IoContext) -> None:
    with ours(image, context), daemon(image, writable=True) as process:
        _, text = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "lock" in text


def test_we_may_not_write_to_what_a_daemon_writes(image: Path, context: IoContext) -> None:
    with daemon(image, writable=True):
        for read_only in (False, True):
            with pytest.raises(BlockOptionError, match=r'in use elsewhere: .*"write" lock'):
                open_node({"driver": "file", "filename": str(image), "read-only": read_only}, context)
    with ours(image, context):
        pass


def test_we_may_not_write_to_what_qemu_io_writes(image: Path, context: IoContext) -> None:
    with qemu_io_open(image), pytest.raises(BlockOptionError, match='another user has the "write" lock'):
        open_node({"driver": "file", "filename": str(image)}, context)
    with ours(image, context):
        pass


def test_readers_share_an_image_both_ways(image: Path, context: IoContext) -> None:
    with ours(image, context, read_only=True):
        assert qemu_io(image, "read 0 512", "-r").returncode == 0
        with daemon(image, writable=False) as process:
            assert process.poll() is None
    with qemu_io_open(image, "-r"), ours(image, context, read_only=True):
        pass
    with daemon(image, writable=False), ours(image, context, read_only=True):
        pass


def test_force_share_reads_what_others_write_as_qemus_does(image: Path, context: IoContext) -> None:
    with daemon(image, writable=True), ours(image, context, read_only=True, force_share=True):
        pass
    with ours(image, context):
        assert qemu_io(image, "read 0 512", "-r", "-U").returncode == 0
        info = subprocess.run(
            ["qemu-img", "info", "-U", str(image)], capture_output=True, timeout=60, check=False
        )
        assert info.returncode == 0


def test_without_locks_nobody_is_kept_out(image: Path, context: IoContext) -> None:
    with ours(image, context, locking="off"):
        assert qemu_io(image, "write 0 512").returncode == 0

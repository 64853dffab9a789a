"""Our initiator on other people's target (`tgtd`) and on our own daemon, beside QEMU's on both."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockBackend, BlockNode, BlockOptionError, Flags, Graph, Op, Request
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk
from tests.unit.exports.iscsi.served import SIZE, TARGET, Served, run

from .daemons import Tgtd

pytestmark = pytest.mark.qemu

EXAMPLE = Path(__file__).parents[4] / "examples" / "copy_disk.py"
SECRET, OTHER = "twelve-bytes-and-more", "another-secret-of-its-own"


def pattern(path: Path) -> Path:
    """An image with data, zeroes, and data again."""
    random_data = random.Random(1).randbytes(20 << 20)
    path.write_bytes(
        bytes(3 << 20) + random_data + bytes(SIZE - (3 << 20) - len(random_data) - 4096) + b"x" * 4096
    )
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


@pytest.fixture
def tgtd(image: Path) -> Iterator[Callable[..., Tgtd]]:
    started: list[Tgtd] = []

    def start(**given: object) -> Tgtd:
        started.append(Tgtd(image, **given))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def graph() -> Iterator[Graph]:
    found = Graph(IoContext.wall())
    yield found
    found.close()
    found.context.close()


def ours(image: Path, *options: str) -> tuple[Served, dict[str, object]]:
    """Our daemon over an image, and a node's options for it."""
    served = Served(image, *options)
    given: dict[str, object] = {
        "driver": "iscsi",
        "transport": "tcp",
        "portal": f"127.0.0.1:{served.port}",
        "target": TARGET,
        "node-name": "i0",
        "discard": "unmap",
    }
    return served, given


@pytest.fixture(params=["ours", "tgtd"])
def reached(
    request: pytest.FixtureRequest, image: Path, tgtd: Callable[..., Tgtd]
) -> Iterator[tuple[dict[str, object], str]]:
    """A node's options and a URL for a disk of 64 MiB, of our daemon and of `tgtd`."""
    if request.param == "tgtd":
        target = tgtd()
        yield target.options, target.url
        return
    served, options = ours(image)
    yield options, served.url
    served.close()


def keyval(options: dict[str, object]) -> str:
    return ",".join(f"{key}={value}" for key, value in options.items() if key != "node-name")


def copy(source: str, target: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), source, target, "--compare"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_image_is_copied_in_and_out_by_either_initiator(
    reached: tuple[dict[str, object], str], tmp_path: Path
) -> None:
    options, url = reached
    source, back, again = pattern(tmp_path / "source.img"), tmp_path / "back.img", tmp_path / "again.img"
    said = copy(f"driver=file,filename={source}", keyval(options))
    assert "compared 64 MiB" in said
    with back.open("wb") as file:
        file.truncate(SIZE)
    copy(keyval(options), f"driver=file,filename={back}")
    assert back.read_bytes() == source.read_bytes()
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", url, str(again))
    assert again.read_bytes() == source.read_bytes()
    again.write_bytes(again.read_bytes()[::-1])
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", str(again), url)
    copy(keyval(options), f"driver=file,filename={back}")
    assert back.read_bytes() == again.read_bytes()


def test_requests_of_every_kind(reached: tuple[dict[str, object], str], graph: Graph) -> None:
    disk = Disk(graph.add(reached[0]))
    data = bytes(range(256)) * 4096
    assert disk.write(1000, data, Flags.FUA) == 0
    assert disk.do(Op.WRITE_ZEROES, 2000, 100_000, flags=Flags.MAY_UNMAP) == 0
    assert disk.do(Op.DISCARD, 8 << 20, 1 << 20) == 0
    assert disk.do(Op.FLUSH) == 0
    assert disk.read(1000, len(data)) == data[:1000] + bytes(100_000) + data[101_000:]
    request = disk.submit(Op.BLOCK_STATUS, 0, SIZE)
    assert disk.wait(request) == 0
    assert request.status.pnum > 0
    disk.backend.close()


def test_thin_provisioning_of_tgtd_is_used(tgtd: Callable[..., Tgtd], graph: Graph, image: Path) -> None:
    disk = Disk(graph.add(tgtd(parameters="thin_provisioning=1").options))
    assert disk.node.can_unmap
    assert disk.write(0, b"x" * (4 << 20)) == 0
    assert disk.do(Op.DISCARD, 0, 4 << 20) == 0
    assert disk.do(Op.FLUSH) == 0
    assert disk.read(0, 1 << 20) == bytes(1 << 20)
    disk.backend.close()
    assert image.stat().st_blocks * 512 < 1 << 20


def test_secrets_of_tgtd(tgtd: Callable[..., Tgtd], graph: Graph) -> None:
    target = tgtd(chap=("me", SECRET), proof=("it", OTHER))
    for name, data in (("s0", SECRET), ("s1", OTHER), ("s2", "a-secret-that-is-wrong")):
        graph.object_add({"qom-type": "secret", "id": name, "data": data})
    mine = {**target.options, "user": "me", "password-secret": "s0"}
    with pytest.raises(BlockOptionError, match="cannot open LUN 1"):
        graph.add(target.options)
    with pytest.raises(BlockOptionError, match="cannot open LUN 1"):
        graph.add({**mine, "password-secret": "s2"})
    with pytest.raises(BlockOptionError, match="not who it should be"):
        graph.add({**mine, "target-user": "it", "target-password-secret": "s2"})
    graph.add({**mine, "target-user": "it", "target-password-secret": "s1"})
    graph.add({**mine, "node-name": "i1"})


@pytest.mark.parametrize(("header", "data"), [("CRC32C", "None"), ("CRC32C", "CRC32C"), ("None", "CRC32C")])
def test_digests_of_tgtd(tgtd: Callable[..., Tgtd], graph: Graph, header: str, data: str) -> None:
    target = tgtd()
    target.tell(f"--mode target --op update --tid 1 -n HeaderDigest -v {header}")
    target.tell(f"--mode target --op update --tid 1 -n DataDigest -v {data}")
    words = {"CRC32C": "crc32c", "None": "none"}
    given = {**target.options, "header-digest": words[header], "data-digest": words[data]}
    disk = Disk(graph.add(given))
    payload = bytes(range(255)) * 3000
    assert disk.write(512, payload) == 0
    assert disk.read(512, len(payload)) == payload
    disk.backend.close()


def test_requests_live_through_a_target_that_is_killed(tgtd: Callable[..., Tgtd], graph: Graph) -> None:
    target = tgtd()
    node: BlockNode = graph.add(target.options)
    backend, context = BlockBackend(node), graph.context
    ended: list[int] = []
    payload = memoryview(random.Random(2).randbytes(1 << 20))

    def submit(number: int) -> None:
        backend.submit(
            Request(
                Op.WRITE, number << 20, 1 << 20, [payload], done=lambda request: ended.append(request.error)
            )
        )

    for number in range(8):
        submit(number)
    while not ended:
        context.run_once()
    for number in range(8, 24):
        submit(number)
    context.turn()
    target.stop()
    target.start()
    while len(ended) < 24:
        context.run_once()
    assert ended == [0] * 24
    disk = Disk(node)
    assert disk.read(23 << 20, 1 << 20) == payload
    disk.backend.close()
    backend.close()


SCRIPT = """
name: a guest's disk over a network
drives: [{driver: file, node-name: d0, size: 64M}]
devices: [{driver: virtio-blk-pci, drive: d0}]
steps:
  - probe
  - write: {at: 4096, length: 64k, random: 7}
  - read: {at: 4096, length: 64k}
    expect: {data: {random: 7}, status: OK}
  - zero: {at: 2M, length: 64k}
  - flush
  - random: {requests: 200, seed: 1, depth: 8, at: 8M, length: 8M}
"""


def test_a_guest_works_on_it_by_vhost_user(reached: tuple[dict[str, object], str], tmp_path: Path) -> None:
    script, path = tmp_path / "work.guest.yaml", tmp_path / "vu.sock"
    script.write_text(SCRIPT)
    node = keyval(reached[0]) + ",node-name=i0"
    export = (
        f"type=vhost-user-blk,id=e0,node-name=i0,addr.type=unix,addr.path={path},num-queues=2,writable=on"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-m", "devmodels", "serve", "-v", "--blockdev", node, "--export", export],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemon.stderr is not None
        assert any("session 1 with the target" in line for line in daemon.stderr)
        deadline = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < deadline
        guest = sys.executable, "-c", "from guestsim.cli import main; main()"
        said = run(*guest, "run", "--target", f"vhost-user:{path}", str(script))
        assert "1 of 1 scripts as expected" in said
    finally:
        daemon.terminate()
        daemon.communicate(timeout=30)


def test_a_disk_over_a_disk_over_a_network(image: Path, graph: Graph) -> None:
    """Our daemon exports a node of `tgtd`'s disk: commands, sizes and blocks come through."""
    target = Tgtd(image)
    node = ",".join(f"{key}={value}" for key, value in target.options.items())
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "devmodels", "serve", "-v", "--blockdev", node, "--export"),
            f"type=iscsi,id=e0,node-name=i0,target={TARGET},addr.type=inet,addr.host=127.0.0.1,addr.port=0,writable=on",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "are at" in line)
        portal = line.split()[-1]
        disk = Disk(graph.add({**target.options, "portal": portal, "target": TARGET, "lun": 0}))
        assert disk.node.size == SIZE
        assert disk.write(1 << 20, b"y" * 65536) == 0
        assert disk.read(1 << 20, 65536) == b"y" * 65536
        disk.backend.close()
    finally:
        process.terminate()
        process.communicate(timeout=30)
        target.stop()
    with image.open("rb") as file:
        file.seek(1 << 20)
        assert file.read(65536) == b"y" * 65536

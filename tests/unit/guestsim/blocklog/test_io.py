"""`guestsim io` as its users meet it: a log is replayed by a guest or straight on a node, and it says how that went."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from guestsim.cli import app
from guestsim.disk import boot
from guestsim.guest import Guest
from guestsim.quick import disk_machine

SIZE = 1 << 20
COMMANDS = """\
write -P 0x11 0 64k
write -f -P 0x22 1k 512
aio_write -P 0x33 128k 4k
aio_write -P 0x44 256k 4k
aio_flush
write -z -u 2k 1k
discard 512k 64k
flush
read -P 0x22 1k 512
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.qemu-io"
    path.write_text(COMMANDS)
    return path


def io(log: Path | str, image: Path | None, *arguments: str | Path) -> Result:
    node = [] if image is None else ["--blockdev", _node(image)]
    return CliRunner().invoke(app, ["io", str(log), *node, *map(str, arguments)])


def _node(image: Path) -> str:
    return f"driver=file,filename={image},node-name=d0,discard=unmap"


def _expected() -> bytes:
    content = bytearray(SIZE)
    content[: 64 << 10] = b"\x11" * (64 << 10)
    content[1024:1536] = b"\x22" * 512
    content[128 << 10 : 132 << 10] = b"\x33" * 4096
    content[256 << 10 : 260 << 10] = b"\x44" * 4096
    content[2048:3072] = bytes(1024)
    return bytes(content)


WAYS = {
    "straight to a node": ["--direct"],
    "as fast as it goes": ["--direct", "--speed", "max"],
    "eight at a time": ["--direct", "--speed", "max", "--depth", "8"],
    "on a virtual clock": ["--direct", "--clock", "virtual"],
    "through a guest": [],
    "through a guest's packed ring": [
        "--device",
        "virtio-blk-pci,packed=on,num-queues=2",
        "--clock",
        "virtual",
    ],
    "through a guest's MMIO device": ["--device", '{"driver": "virtio-blk-device"}', "--clock", "virtual"],
    "a guest as fast as it goes": ["--speed", "max", "--depth", "4"],
}


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_what_the_log_asks_for_is_done(way: str, log: Path, image: Path) -> None:
    result = io(log, image, *WAYS[way])
    assert (result.exit_code, result.stderr) == (0, "")
    assert image.read_bytes() == _expected()
    assert "1 reads found what was expected" in result.stdout


def test_figures_as_json(log: Path, image: Path) -> None:
    result = io(log, image, "--direct", "--json")
    told = json.loads(result.stdout)
    assert (told["requests"], told["errors"], told["reads-checked"], told["differences"]) == (8, 0, 1, 0)
    counts = {name: (of_op["requests"], of_op["bytes"]) for name, of_op in told["operations"].items()}
    assert counts == {
        "read": (1, 512),
        "write": (4, 65536 + 512 + 8192),
        "flush": (1, 0),
        "discard": (1, 65536),
        "write-zeroes": (1, 1024),
    }
    assert sum(told["over-time"]["ended"]) == 8
    assert max(told["over-time"]["max-depth"]) >= 1


def test_a_read_that_finds_something_else_is_told_and_exit_status_1(image: Path, tmp_path: Path) -> None:
    log = tmp_path / "a.qemu-io"
    log.write_text("write -P 1 0 4k\nread -P 1 0 4k\nread -P 2 0 4k\n")
    result = io(log, image, "--direct")
    assert result.exit_code == 1
    assert (
        "1 of 2 reads found something else than expected\n  request 2: read of 4096 bytes at 0"
        in result.stdout
    )


@pytest.mark.parametrize("way", ["straight to a node", "through a guest"])
def test_requests_that_fail_are_counted_and_the_rest_is_done(way: str, image: Path, tmp_path: Path) -> None:
    log = tmp_path / "a.qemu-io"
    log.write_text("read 2M 512\nwrite -P 7 0 512\n")
    result = io(log, image, *WAYS[way])
    assert result.exit_code == 0
    assert "1 of READ failed: EIO" in result.stdout
    assert image.read_bytes()[:512] == b"\7" * 512


def test_a_guest_cannot_ask_for_parts_of_sectors(image: Path, tmp_path: Path) -> None:
    log = tmp_path / "a.qemu-io"
    log.write_text("write -P 7 1 512\n")
    assert "1 of WRITE failed: EINVAL" in io(log, image, "--clock", "virtual").stdout
    assert io(log, image, "--direct").exit_code == 0
    assert image.read_bytes()[:514] == b"\0" + b"\7" * 512 + b"\0"


def test_a_recorded_guest_is_replayed_and_its_reads_compared(image: Path, tmp_path: Path) -> None:
    trace = tmp_path / "a.trace"
    with disk_machine(size=SIZE, num_queues=2) as machine:
        machine.record(trace)
        disk = boot(Guest(machine))
        disk.write(4096, bytes(range(256)) * 16)
        assert disk.read(4096, 512) == bytes(range(256)) * 2
        assert disk.read(0, 512) == bytes(512)
    result = io(trace, image, "--check", "--clock", "virtual", "--speed", "max", "--device", "virtio-blk-pci")
    assert result.exit_code == 0, result.stdout
    assert "2 reads found what was expected" in result.stdout
    assert image.read_bytes()[4096:8192] == bytes(range(256)) * 16
    image.write_bytes(b"x" * SIZE)
    assert io(trace, image, "--check", "--direct").exit_code == 1


def test_on_a_virtual_clock_the_times_are_those_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "a.iolog"
    log.write_text("fio version 3 iolog\n0 f add\n0 f open\n0 f read 0 512\n90000000 f read 0 512\n")
    slow = '{"driver": "delay", "node-name": "d1", "file": "d0", "read-ns": 3000000}'
    for way in (["--direct"], []):
        told = json.loads(
            io(
                log,
                None,
                "--blockdev",
                "driver=memory,node-name=d0,size=1M",
                "--blockdev",
                slow,
                "--clock",
                "virtual",
                "--json",
                *way,
            ).stdout
        )
        assert told["seconds"] == pytest.approx(90.003, abs=0.001)
        assert told["operations"]["read"]["latency-ns"]["max"] == pytest.approx(3_000_000, rel=0.01)
        assert told["late-ns"]["max"] == 0


@pytest.mark.long
def test_requests_of_any_length_are_done_in_pieces(tmp_path: Path) -> None:
    log = tmp_path / "a.qemu-io"
    log.write_text("write -P 7 0 20M\nread -P 7 0 20M\ndiscard 0 20M\n")
    for way in (["--direct"], []):
        told = json.loads(
            io(
                log,
                None,
                "--blockdev",
                "driver=memory,node-name=d0,size=64M",
                "--json",
                "--clock",
                "virtual",
                *way,
            ).stdout
        )
        assert (told["errors"], told["differences"], told["reads-checked"]) == (0, 0, 1)
        assert told["operations"]["write"]["bytes"] == 20 << 20


def test_the_picture_is_svg_with_every_operation(log: Path, image: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    assert io(log, image, "--direct", "--svg", path).exit_code == 0
    texts = [
        element.text for element in ElementTree.parse(path).iter() if element.text and element.text.strip()
    ]
    assert {"read", "write", "flush", "discard", "write zeroes", "Latency by percentile", "99.9"} <= set(
        texts
    )


def test_a_replay_is_recorded_and_the_trace_is_the_log_again(log: Path, image: Path, tmp_path: Path) -> None:
    trace = tmp_path / "a.trace"
    assert io(log, image, "--record", trace).exit_code == 0
    other = tmp_path / "other.img"
    other.write_bytes(bytes(SIZE))
    assert "1 reads found what was expected" in io(trace, other, "--direct", "--check").stdout
    assert other.read_bytes() == image.read_bytes() == _expected()


def test_the_disk_is_the_last_node_with_what_is_within_it(log: Path, image: Path) -> None:
    nodes = ["--blockdev", "driver=memory,node-name=other,size=1M", "--blockdev"]
    nodes.append(
        f"driver=raw,node-name=d0,discard=unmap,file.driver=file,file.filename={image},file.discard=unmap"
    )
    assert io(log, None, *nodes, "--direct").exit_code == 0
    assert image.read_bytes() == _expected()


@pytest.mark.parametrize("way", [["--direct"], []])
def test_nodes_may_name_objects(way: list[str], log: Path) -> None:
    nodes = ("driver=memory,node-name=d0,size=1M", "driver=throttle,node-name=d1,file=d0,throttle-group=g")
    arguments = [word for node in nodes for word in ("--blockdev", node)]
    group = "throttle-group,id=g,limits.iops-total=2"
    told = json.loads(
        io(log, None, *arguments, "--object", group, "--clock", "virtual", "--json", *way).stdout
    )
    assert told["seconds"] > 2


def test_a_slow_disk_behind_a_short_queue_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "a.qemu-io"
    log.write_text("".join(f"read {4096 * n} 512\n" for n in range(12)))
    slow = '{"driver": "delay", "node-name": "d1", "file": "d0", "read-ns": 30000000000}'
    arguments = ["--blockdev", "driver=memory,node-name=d0,size=1M", "--blockdev", slow]
    arguments += [
        "--device",
        "virtio-blk-pci,queue-size=4",
        "--clock",
        "virtual",
        "--speed",
        "max",
        "--depth",
        "12",
    ]
    told = json.loads(io(log, None, *arguments, "--json").stdout)
    assert (told["requests"], told["errors"]) == (12, 0)
    assert told["seconds"] == pytest.approx(90, abs=1)


def test_an_empty_log_is_no_error(image: Path, tmp_path: Path) -> None:
    log = tmp_path / "a.qemu-io"
    log.write_text("# nothing\n")
    result = io(log, image, "--direct", "--svg", tmp_path / "a.svg")
    assert (result.exit_code, result.stdout) == (0, "no requests\n")


def test_requests_of_other_disks_are_told(image: Path, tmp_path: Path) -> None:
    log = tmp_path / "a.iolog"
    log.write_text("fio version 2 iolog\na add\na open\nb add\nb open\na read 0 512\nb read 0 512\n")
    result = io(log, image, "--direct", "--json")
    assert json.loads(result.stdout)["left-out"] == {"request of b, and this is of a (--only chooses)": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--direct"], "guestsim io: --blockdev: missing, expected a node to replay the log on"),
        ([], "guestsim io: --blockdev: missing, expected a node to replay the log on"),
        (["--direct", "--target", "qemu"], "guestsim io: --direct: expected without --target,"),
        (
            ["--blockdev", "x", "--object", "x", "--target", "qemu"],
            "guestsim io: --object: expected with devmodels,",
        ),
        (
            ["--blockdev", "x", "--record", "x", "--direct"],
            "guestsim io: --direct: expected without --target,",
        ),
        (
            ["--speed", "fast"],
            "guestsim io: --speed: 'fast' is given, expected recorded, max, or how many times",
        ),
        (
            ["--blockdev", "x", "--check"],
            "guestsim io: --check: expected a trace, qemu-io does not tell what reads",
        ),
        (["--speed", "-1"], "guestsim io: --speed: '-1' is given, expected recorded, max, or how many times"),
        (
            ["--blockdev", "x", "--from", "x"],
            "guestsim io: --from: 'x' is given, expected one of trace, fio2",
        ),
        (["--target", "xen"], "guestsim io: --target: 'xen', expected one of devmodels, qemu"),
        (["--target", "vhost-user:/nowhere/x.sock"], "guestsim io: "),
        (
            ["--blockdev", "driver=memory", "--direct"],
            "guestsim io: --blockdev: node-name: missing; expected a name",
        ),
        (
            ["--blockdev", "driver=file,node-name=d0,filename=/nowhere", "--direct"],
            'guestsim io: --blockdev "d0":',
        ),
        (["--blockdev", "driver=x,node-name=d0"], "guestsim io: --blockdev: driver: "),
        (
            ["--blockdev", "driver=memory,size=1M"],
            "guestsim io: --blockdev: node-name: missing; expected a name",
        ),
        (
            ["--blockdev", '{"driver": "memory", "size": 1048576}'],
            "guestsim io: --blockdev: node-name: missing; expected a name",
        ),
        (
            ["--blockdev", "driver=memory,node-name=d0,size=1M", "--svg", "/nowhere/x.svg"],
            "/nowhere/x.svg: No such file or directory",
        ),
        (
            ["--blockdev", "driver=memory,node-name=d0,size=1M", "--device", "e1000"],
            "guestsim io: --device: driver:",
        ),
        (
            ["--blockdev", "driver=memory,node-name=d0,size=1M", "--device", "virtio-blk-pci,num-queues=0"],
            "guestsim io: --device",
        ),
        (
            [
                *("--blockdev", "driver=file,filename=x,node-name=d0"),
                *("--target", "vhost-user", "--device", "virtio-blk-device"),
            ],
            "guestsim io: --target: vhost-user has not a device 'virtio-blk-device'",
        ),
        (
            ["--blockdev", "driver=memory,node-name=d0,size=1M", "--target", "qemu", "--clock", "virtual"],
            "guestsim io: --clock: expected with devmodels, qemu has none",
        ),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str, log: Path) -> None:
    result = io(log, None, *arguments)
    assert result.stderr.startswith(message), result.stderr
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("way", [["--direct"], ["--clock", "virtual"]])
def test_a_wrong_line_of_the_log_ends_the_replay_with_its_place(
    way: list[str], image: Path, tmp_path: Path
) -> None:
    log = tmp_path / "a.qemu-io"
    log.write_text("flush\nwrite what\n")
    result = io(log, image, *way)
    assert (result.exit_code, result.stderr) == (
        2,
        f"{log}:2: expected an offset and a length after write and its options\n",
    )


@pytest.mark.parametrize("option", ["--record", "--svg"])
def test_what_is_written_is_not_the_log_that_is_read(option: str, log: Path, image: Path) -> None:
    result = io(log, image, option, log)
    assert result.exit_code == 2
    assert (
        result.stderr == f"guestsim io: {option}: {log} is given, which is the log; expected another file\n"
    )
    assert log.read_text() == COMMANDS


def test_a_picture_that_cannot_be_drawn_is_told_before_anything_is_done(log: Path, image: Path) -> None:
    assert io(log, image, "--svg", "/nowhere/x.svg").exit_code == 2
    assert image.read_bytes() == bytes(SIZE)

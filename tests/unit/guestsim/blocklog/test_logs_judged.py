"""Logs judged by those whose formats they are: fio, qemu-io and blkparse read what is written here."""

from __future__ import annotations

import json
import random
import struct
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devmodels.blockbackend.request import Flags, Op
from guestsim.blocklog.blkparse import LINE, write_blkparse
from guestsim.blocklog.events import Begin, End, Event, Losses
from guestsim.blocklog.fio import read_fio
from guestsim.cli import app
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from tests.unit.blockbackend.qemuio import need

from .logs import begins, read

pytestmark = pytest.mark.qemu

SIZE = 1 << 20


def _run(*command: str | Path, text: str | None = None) -> str:
    answer = subprocess.run(
        list(map(str, command)), input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def _guestsim(*arguments: str | Path) -> None:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest's work, recorded: 60 requests, up to four of them at once."""
    path = tmp_path_factory.mktemp("trace") / "a.trace"
    chance = random.Random(1)
    with disk_machine(size=SIZE, num_queues=2) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        for _ in range(15):
            disk.requests(*(_operation(chance, part) for part in range(4)), queue=chance.randrange(2))
    return path


def _operation(chance: random.Random, part: int) -> virtio_blk.Operation:
    """A request in one quarter of the disk."""
    length = 512 * chance.randrange(1, 64)
    offset = part * SIZE // 4 + 512 * chance.randrange((SIZE // 4 - length) // 512)
    kind = chance.randrange(10)
    if kind < 4:
        return virtio_blk.read(offset, length)
    if kind < 8:
        return virtio_blk.write(offset, chance.choice((chance.randbytes(length), b"\x5a" * length)))
    return chance.choice(
        (virtio_blk.discard([(offset, length)]), virtio_blk.write_zeroes([(offset, length)]))
    )


# --- fio


def _fio(*arguments: str | Path) -> dict[str, Counter[str]]:
    """What fio has done: how often and how many bytes, by operation."""
    text = _run("fio", "--name=a", "--output-format=json", *arguments)
    (job,) = json.loads(text[text.index("{") :])["jobs"]
    return {
        op: Counter(ios=job[op]["total_ios"], bytes=job[op]["io_bytes"]) for op in ("read", "write", "trim")
    }


def _sums(log: list[Begin]) -> dict[str, Counter[str]]:
    names = {Op.READ: "read", Op.WRITE: "write", Op.DISCARD: "trim"}
    sums = {name: Counter(ios=0, bytes=0) for name in names.values()}
    for begin in log:
        if begin.op in names:
            sums[names[begin.op]] += Counter(ios=1, bytes=begin.length)
    return sums


@pytest.mark.parametrize("version", ["fio2", "fio3"])
def test_fio_replays_a_guest_s_requests(version: str, trace: Path, tmp_path: Path) -> None:
    need("fio")
    image, log = tmp_path / "disk.img", tmp_path / "a.iolog"
    image.write_bytes(bytes(SIZE))
    _guestsim("convert", trace, log, "--to", version)
    found = _fio(f"--read_iolog={log}", f"--replay_redirect={image}", "--ioengine=psync")
    expected = _sums(begins(read(read_fio, log.read_text())))
    assert expected["read"]["ios"] > 10
    assert expected["write"]["ios"] > 10
    assert found["read"] == expected["read"]
    assert found["write"] == expected["write"]
    # fio 3.33 passes trims of an iolog over.
    assert found["trim"] in (expected["trim"], Counter(ios=0, bytes=0))


def test_what_fio_records_is_what_fio_did(tmp_path: Path) -> None:
    need("fio")
    image, log = tmp_path / "disk.img", tmp_path / "a.iolog"
    work = ("--rw=randrw", "--bsrange=512-16k", "--fsync=8", "--ioengine=psync", "--randseed=7")
    found = _fio(f"--filename={image}", f"--size={SIZE}", f"--write_iolog={log}", *work)
    requests = begins(read(read_fio, log.read_text()))
    assert {**_sums(requests), "trim": found["trim"]} == found
    assert any(one.op is Op.FLUSH for one in requests)
    assert [one.time_ns for one in requests] == sorted(one.time_ns for one in requests)


# --- qemu-io


def _commands(seed: int) -> list[str]:
    """Commands at random, each aio_… at a place of its own as long as it may be under way."""
    chance = random.Random(seed)
    lines: list[str] = []
    running = 0
    for _ in range(80):
        length = 512 * chance.randrange(1, 32)
        place = f"{512 * chance.randrange(512)} {length}"
        lines.append(
            chance.choice(
                (
                    f"write -P {hex(chance.randrange(256))} {place}",
                    f"write {place}",
                    f"w -f -P {chance.randrange(256)} 0x{512 * chance.randrange(512):x} 1.5k",
                    f"write -z {place}",
                    f"write -z -u {place}",
                    f"read {place}",
                    f"writev -P 7 {512 * chance.randrange(512)} 1k 512 {length}",
                    "flush",
                    "sleep 1",
                    f"aio_write -P {chance.randrange(256)} {512 * (1024 + 32 * running)} {length}",
                    f"aio_read {512 * (1024 + 32 * running)} {length}",
                    "aio_flush",
                )
            )
        )
        running = 0 if lines[-1] == "aio_flush" else running + 1
        if running == 30:
            lines.append("aio_flush")
            running = 0
    return lines


WAYS = {
    "straight": ["--direct"],
    "straight, eight at a time": ["--direct", "--speed", "max", "--depth", "8"],
    "a guest": ["--speed", "max"],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(3))
def test_qemu_io_and_a_replay_leave_the_same_image(seed: int, way: str, tmp_path: Path) -> None:
    need("qemu-io")
    log = tmp_path / "a.qemu-io"
    log.write_text("\n".join(_commands(seed)) + "\n")
    theirs, ours = _images(tmp_path)
    _run("qemu-io", "-f", "raw", "-d", "unmap", theirs, text=log.read_text())
    node = f"driver=file,filename={ours},node-name=d0,discard=unmap"
    _guestsim("io", log, "--blockdev", node, *WAYS[way])
    assert ours.read_bytes() == theirs.read_bytes()


def test_qemu_io_does_what_a_guest_did(trace: Path, tmp_path: Path) -> None:
    need("qemu-io")
    theirs, ours = _images(tmp_path)
    log = tmp_path / "a.qemu-io"
    _guestsim("convert", trace, log, "--data", tmp_path / "data")
    assert "aio_write" in log.read_text()
    _run("qemu-io", "-f", "raw", "-d", "unmap", theirs, text=log.read_text())
    _guestsim(
        "io", trace, "--blockdev", f"driver=file,filename={ours},node-name=d0,discard=unmap", "--direct"
    )
    assert ours.read_bytes() == theirs.read_bytes()


def _images(folder: Path) -> tuple[Path, Path]:
    paths = folder / "theirs.img", folder / "ours.img"
    for path in paths:
        path.write_bytes(bytes(SIZE))
    return paths


# --- blkparse

_RECORD = struct.Struct("<IIQQIIIIIHH")
"""struct blk_io_trace (linux/blktrace_api.h)."""
_MAGIC = 0x65617407
_READ, _WRITE, _FLUSH, _DISCARD, _FUA = 1 << 0, 1 << 1, 1 << 2, 1 << 13, 1 << 15
_ACTIONS = {"Q": (1, 1 << 4), "D": (7, 1 << 6), "C": (8, 1 << 7)}
_FS = 1 << 8
_CATEGORIES = {Op.READ: _READ, Op.WRITE: _WRITE, Op.FLUSH: _FLUSH, Op.DISCARD: _DISCARD}


def test_the_text_is_as_blkparse_prints_it(tmp_path: Path) -> None:
    need("blkparse")
    events: list[Event] = [
        Begin(0, 0, Op.READ, 0, 4096, "8,16"),
        Begin(1, 1_500, Op.WRITE, 1 << 40, 1 << 20, "8,16"),
        End(0, 2_000_000_000),
        Begin(2, 3_000_000_001, Op.FLUSH, 0, 0, "8,16"),
        End(1, 3_000_000_002, 5),
        End(2, 3_000_000_003),
        Begin(3, 12_345_000_000_000, Op.DISCARD, 512, 512, "8,16"),
        Begin(4, 12_345_000_000_001, Op.WRITE, 1024, 512, "8,16", Flags.FUA),
        End(4, 12_345_000_000_002),
        End(3, 12_345_000_000_003),
    ]
    ours = list(write_blkparse(events, Losses(), ends=True))
    (tmp_path / "t.blktrace.0").write_bytes(b"".join(_records(events)))
    text = _run("blkparse", "-D", tmp_path, "-i", "t")
    theirs = [line for line in text.splitlines() if LINE.fullmatch(line)]
    assert [_without_process(line) for line in ours] == [_without_process(line) for line in theirs]


def _without_process(line: str) -> str:
    return line if " C " in line else line[: line.rindex("[")]


def _records(events: Sequence[Event]) -> list[bytes]:
    """What the kernel would have written: an issue is queued first."""
    records: list[bytes] = []
    running: dict[int, Begin] = {}

    def add(begin: Begin, time_ns: int, action: str, error: int = 0) -> None:
        code, category = _ACTIONS[action]
        category |= _CATEGORIES[begin.op] | _FS | (_FUA if begin.flags & Flags.FUA else 0)
        major, minor = map(int, begin.disk.split(","))
        records.append(
            _RECORD.pack(
                _MAGIC,
                len(records) + 1,
                time_ns,
                begin.offset // 512,
                begin.length,
                code | category << 16,
                0,
                major << 20 | minor,
                begin.queue,
                -error & 0xFFFF,
                0,
            )
        )

    for event in events:
        if isinstance(event, Begin):
            running[event.number] = event
            add(event, event.time_ns, "Q")
            add(event, event.time_ns, "D")
        else:
            add(running[event.number], event.time_ns, "C", event.error)
    return records

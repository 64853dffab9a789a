"""blklogwrites against QEMU's: the same requests make the same log."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.unit.blockbackend.qemuio import need, ours, theirs
from tests.unit.blockbackend.support import Disk

pytestmark = pytest.mark.qemu

SIZE = 1 << 20


def stack(tmp_path: Path, options: dict[str, object]) -> dict[str, object]:
    return {
        "driver": "blklogwrites",
        "discard": "unmap",
        "file": {"driver": "file", "filename": str(tmp_path / "disk.img")},
        "log": {"driver": "file", "filename": str(tmp_path / "log")},
        **options,
    }


def begin(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(SIZE))
    (tmp_path / "log").write_bytes(b"")


def trimmed(log: bytes) -> bytes:
    """QEMU's log ends with what was written last, ours with a sector."""
    return log.rstrip(b"\0")


@pytest.mark.parametrize("seed", range(20))
def test_the_logs_are_the_same(tmp_path: Path, seed: int) -> None:
    need("qemu-io")
    draw = random.Random(seed)
    sector = draw.choice([32, 512, 1024, 4096])
    # QEMU takes discards and zeroes in whole sectors alone.
    shapes = [
        "write -P {} {} {}",
        "write -P {} {} {}",
        "write -z {1} {2}",
        "discard {1} {2}",
        "flush",
        "flush",
    ]
    commands = []
    for number in range(30):
        shape = draw.choice(shapes)
        unit = 100 if "-P" in shape and draw.random() < 0.3 else sector
        place, length = unit * draw.randrange(40), unit * draw.randrange(1, 12)
        commands.append(shape.format(number + 1, place, length))
    options: dict[str, object] = {"log-sector-size": sector}
    if draw.random() < 0.5:
        options["log-super-update-interval"] = draw.randrange(1, 6)
    more = {"log-append": True}
    logs = []
    for run in (
        lambda given, do: theirs(stack(tmp_path, given), do),
        lambda given, do: _ours(stack(tmp_path, given), do),
    ):
        begin(tmp_path)
        run(options, [*commands, "write 0 4k", "flush"])
        run(more, [*commands[:10], "write 0 4k", "flush"])
        logs.append(((tmp_path / "disk.img").read_bytes(), trimmed((tmp_path / "log").read_bytes())))
    assert logs[0][0] == logs[1][0]
    assert logs[0][1] == logs[1][1]


def _ours(options: dict[str, object], commands: list[str]) -> None:
    disk = Disk(options)
    assert ours(disk, commands)[1] is False
    disk.close()

"""What `guestsim lint` says of the drivers that most guests have: Linux's virtio-blk, and SeaBIOS's before it.

SeaBIOS uses the disk when it starts from it: a boot sector of ours calls its disk services.  Linux comes next, on the
same disk: one trace has both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from guestsim.cli import app

from .backends import devmodels_serve
from .bios import READ, SECTOR, WRITE, Call, boot_sector, start_from_disk
from .conftest import needed
from .vm import run_guest

pytestmark = pytest.mark.guest

MIB = 1 << 20
LOADS = [Call(READ, 3, 0x1000, 1), Call(READ, 127, 0x2000, 8), Call(WRITE, 2, 0x1000, 200)]
"""What a boot loader asks for: some sectors, as many as one call may name, and a write."""


def record(
    folder: Path, size: int, calls: Sequence[Call], options: str = "", *, linux: bool = False
) -> tuple[Path, str]:
    """The trace of a machine that starts from a disk of `size` bytes, and what its boot sector said.

    Where that is asked for, the trace goes on with one that starts Linux.
    """
    image, trace = folder / "disk.img", folder / "disk.trace"
    image.write_bytes(boot_sector(calls).ljust(size, b"\0"))
    more = ("--strict", "--record", str(trace))
    with needed(), devmodels_serve(image, folder, 1, options, more) as backend:
        said = start_from_disk(backend, folder)
        if linux:
            files = {"expected": b"size=4m\n", "host.bin": os.urandom(MIB)}
            run = run_guest("recorded.sh", backend, files=files)
            for item in ("mount", "files", "fio-4k", "fio-sizes", "unmount", "end"):
                run.check(item)
    return trace, said


def lint(trace: Path) -> list[dict[str, Any]]:
    """The sessions that were found; the listing for people is printed."""
    print(CliRunner().invoke(app, ["lint", str(trace)]).stdout)  # noqa: T201
    report = json.loads(CliRunner().invoke(app, ["lint", str(trace), "--json"]).stdout)
    assert report["strict"]
    sessions: list[dict[str, Any]] = report["sessions"]
    return sessions


def found(session: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["level"], each["clause"], each["summary"]) for each in session["findings"]]


def test_of_both_in_one_trace_only_linux_priorities_are_remarked(tmp_path: Path) -> None:
    trace, said = record(tmp_path, 64 * MIB, LOADS, linux=True)
    assert said == "+++"
    firmware, before_linux, linux = lint(trace)
    assert firmware["requests"] == {"IN": 4, "OUT": 1}
    assert "BLK_F_FLUSH" not in firmware["feature-names"]
    assert found(firmware) == []
    # Here it finds the disk, and starts a kernel from elsewhere.
    assert before_linux["requests"] == {}
    assert before_linux["features"] == firmware["features"]
    assert found(before_linux) == []
    assert {"IN", "OUT", "FLUSH", "DISCARD"} <= set(linux["requests"])
    # It goes on writing an I/O priority where the field was called `ioprio` once (virtblk_setup_cmd).
    assert found(linux) == [("remark", "VIRTIO 1.4 §5.2.6", "0x4004 in the reserved field of the header")]


def test_seabios_passes_on_what_goes_beyond_the_disk(tmp_path: Path) -> None:
    """Its INT 13h looks at the first sector of a call only (extended_access)."""
    last = MIB // SECTOR - 1
    trace, said = record(
        tmp_path, MIB, [*LOADS, Call(READ, 2, 0x1000, last), Call(READ, 1, 0x1000, last + 1)]
    )
    assert said == "+++--"
    (firmware,) = lint(trace)
    assert found(firmware) == [
        ("must", "VIRTIO 1.4 §5.2.6.1", f"READ of 1024 bytes at sector {last} of 2048")
    ]


def test_seabios_accepts_size_max_and_sends_longer_segments(tmp_path: Path) -> None:
    """It multiplies `size_max` and `seg_max`, and makes one segment of so much (virtio_blk_op)."""
    trace, said = record(tmp_path, MIB, LOADS, "size-max=4096")
    assert said == "+-+"
    (firmware,) = lint(trace)
    assert "BLK_F_SIZE_MAX" in firmware["feature-names"]
    assert found(firmware) == [("must", "VIRTIO 1.4 §5.2.3", "a segment is longer than size_max 4096")]

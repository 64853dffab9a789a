"""A guest pauses, and moves from QEMU to QEMU and from daemon to daemon, on one image, while fio verifies in it.

Where vCPUs are TCG's, a live migration of QEMU's own loses stores of the guest's now and then: the migration thread
makes a page clean while a vCPU that has just marked it dirty goes on to note that it need not do so again.  With
QEMU's virtio-blk on a raw file, and no back end outside, 3 of 5 runs of six live moves each ended in a panic, a hang
or wrong data.  So the guest moves while it stands still, which must go well each time; and live, as fast as it goes,
which must go well in one of `ATTEMPTS` runs: that is for the way a move takes.  What a dirty log must hold,
`tests/unit/exports/test_vhost_log.py` says.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from .backends import devmodels_serve
from .conftest import ROW, Check, needed
from .kernel import get_kernel
from .vm import Guest, GuestFailure, GuestRun, best_accelerator, run_guest

pytestmark = pytest.mark.guest

QUEUES = 2
PAUSES = 5
MIB = 1 << 20
FIO_PART = 32 * MIB
PIECES = 4
ATTEMPTS = 6

SINGLE_THREADED = {"tcg": "tcg,thread=single"}
"""What to boot with for live moves, by the usual accelerator: with one thread for all vCPUs less is lost."""


@dataclass(frozen=True, slots=True)
class Story:
    """The run, and what QEMU said of each migration."""

    run: GuestRun
    moves: list[dict[str, int]]


def moved(folder: Path, *, live: bool) -> Story:
    """A run in which the guest pauses, moves, and moves back."""
    image = folder / "disk.img"
    pieces = [random.Random(seed).randbytes(8 * MIB) for seed in range(PIECES)]
    image.write_bytes(bytes(FIO_PART) + b"".join(pieces))
    sums = "".join(
        f"{hashlib.md5(piece).hexdigest()} {(FIO_PART + 8 * MIB * number) // MIB}\n"
        for number, piece in enumerate(pieces)
    )
    here, there = folder / "here", folder / "there"
    here.mkdir()
    there.mkdir()
    moves: list[dict[str, int]] = []

    def there_and_back(guest: Guest) -> None:
        guest.await_item("ready")
        with guest.qmp() as monitor:
            for _ in range(PAUSES):
                monitor.execute("stop")
                monitor.execute("cont")
        moves.extend(guest.move(backend, live=live) for backend in (second, first))
        guest.tell("enough")

    with (
        needed(),
        devmodels_serve(image, here, QUEUES) as first,
        devmodels_serve(image, there, QUEUES) as second,
    ):
        run = run_guest(
            "verifying.sh",
            first,
            files={"sums": sums.encode(), "fio-options": b"--rate=2m"},
            cpus=QUEUES,
            queues=QUEUES,
            timeout=60,
            accelerator=SINGLE_THREADED.get(best_accelerator(get_kernel())) if live else None,
            attend=there_and_back,
        )
    return Story(run, moves)


def _all_right(story: Story, check: Check, record_property: Callable[[str, object], None], how: str) -> None:
    check(story.run, "fio-verified")
    check(story.run, "page-cache")
    assert len(story.moves) == 2
    for number, move in enumerate(story.moves, 1):
        detail = f"downtime {move['downtime']} ms of {move['total-time']} ms"
        record_property(ROW, f"{f'{how} {number}':24} {move['downtime'] / 1000:>7.2f}  {detail}")


def test_guest_moves_standing_still_and_every_block_is_right(
    tmp_path: Path, check: Check, record_property: Callable[[str, object], None]
) -> None:
    _all_right(moved(tmp_path, live=False), check, record_property, "move")


def test_guest_moves_live_and_every_block_is_right(
    tmp_path: Path, check: Check, record_property: Callable[[str, object], None]
) -> None:
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        story = moved(folder, live=True)
        try:
            _all_right(story, check, record_property, "live move")
        except GuestFailure as failure:
            if attempt + 1 == ATTEMPTS:
                raise
            record_property(ROW, f"attempt {attempt + 1} lost something: {str(failure).splitlines()[0]}")
        else:
            return

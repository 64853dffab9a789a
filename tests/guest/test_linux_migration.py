"""A guest pauses, and moves from QEMU to QEMU and from daemon to daemon, on one image, while fio verifies in it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from .backends import devmodels_serve
from .conftest import ROW, Check, needed
from .vm import Guest, GuestRun, run_guest

pytestmark = pytest.mark.guest

QUEUES = 2
PAUSES = 5
MIB = 1 << 20
FIO_PART = 32 * MIB
PIECES = 4


@dataclass(frozen=True, slots=True)
class Story:
    """The run, what QEMU said of each migration, and what each daemon printed."""

    run: GuestRun
    moves: list[dict[str, int]]
    words: list[str]


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("moved")
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
        moves.extend(guest.move(backend) for backend in (second, first))
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
            timeout=180,
            attend=there_and_back,
        )
        return Story(run, moves, [first.words(), second.words()])


@pytest.mark.xfail(
    strict=False,
    reason="in about one run of five the guest's work does not end after the second move: cause unknown",
)
def test_guest_moves_and_every_block_is_right(
    moved: Story, check: Check, record_property: Callable[[str, object], None]
) -> None:
    check(moved.run, "fio-verified")
    check(moved.run, "page-cache")
    for number, move in enumerate(moved.moves, 1):
        detail = f"downtime {move['downtime']} ms of {move['total-time']} ms"
        record_property(ROW, f"{f'migration {number}':24} {move['downtime'] / 1000:>7.2f}  {detail}")
    assert len(moved.moves) == 2

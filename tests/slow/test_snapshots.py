"""A machine saved at a thousand random events of its life, each restored in a process that never saw it.

All of them go on to the same bytes in the disk and in the guest's memory as the machine that was left alone. Requests
in flight are among what is saved: the host stops the machine now and then, which holds them back, and where the disk
fails its errors stop the machine.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from devmodels.snapshot import restore_snapshot, save_snapshot
from guestsim.targets.inprocess import InProcessTarget

from .walker import DISK, QUEUE_SIZE, Walker, boot

pytestmark = pytest.mark.slow

EVENTS = 1000
RAM = 17 << 20
SEED = 1
PROCESSES = 2


@dataclass(frozen=True)
class Kind:
    """A machine and its driver; `failing`: each sector cannot be read once, nor written once, nor zeroed once."""

    packed: bool = False
    indirect: bool = False
    in_order: bool = False
    shared: bool = True
    failing: bool = False

    def __str__(self) -> str:
        words = {
            "packed": self.packed,
            "indirect": self.indirect,
            "in-order": self.in_order,
            "bounced": not self.shared,
            "failing": self.failing,
        }
        return "-".join(word for word, said in words.items() if said) or "split"

    def build(self, image: Path) -> InProcessTarget:
        """The machine, with reads and writes that take their time."""
        device = {"driver": "virtio-blk-pci", "drive": "d0", "id": "v0", "addr": "4"}
        policy = {"rerror": "stop", "werror": "stop"}
        slow = {"driver": "delay", "node-name": "s0", "file": "f0", "read-ns": 30_000, "write-ns": 50_000}
        errors = [
            {"event": "none", "iotype": kind, "errno": error, "sector": sector, "once": True}
            for kind, error in (("read", 5), ("write", 28), ("write-zeroes", 28))
            for sector in range(DISK // 512)
        ]
        top = {"driver": "blkdebug", "node-name": "d0", "image": "s0"}
        return InProcessTarget(
            blockdevs=[
                {"driver": "file", "filename": str(image), "node-name": "f0"},
                slow,
                top | ({"inject-error": errors} if self.failing else {}),
            ],
            devices=[
                {**device, "packed": self.packed, "in_order": self.in_order}
                | {"num-queues": 2, "queue-size": QUEUE_SIZE}
                | policy
            ],
            ram=RAM,
            shared=self.shared,
        )

    def boot(self, target: InProcessTarget) -> Walker:
        """A guest on the machine."""
        return boot(target, seed=SEED, packed=self.packed, indirect=self.indirect, in_order=self.in_order)


KINDS = [
    Kind(),
    Kind(packed=True),
    Kind(indirect=True, shared=False),
    Kind(packed=True, indirect=True, shared=False),
    Kind(in_order=True),
    Kind(packed=True, in_order=True),
    Kind(in_order=True, indirect=True),
    Kind(packed=True, shared=False),
    Kind(failing=True),
    Kind(packed=True, in_order=True, shared=False, failing=True),
]


@dataclass(frozen=True)
class Moment:
    """What is saved at an event: the machine, its guest, and a copy of the disk."""

    kind: Kind
    image: Path
    snapshot: bytes
    guest: bytes
    step: int


def outcome(target: InProcessTarget, image: Path) -> tuple[str, str]:
    """Digests of the disk and of memory."""
    memory = hashlib.sha256()
    for region in target.assembly.memory.regions:
        memory.update(target.assembly.memory.load(region.base, region.size))
    return hashlib.sha256(image.read_bytes()).hexdigest(), memory.hexdigest()


def new_image(path: Path) -> Path:
    path.write_bytes(random.Random(SEED).randbytes(DISK))
    return path


def uninterrupted(folder: Path, kind: Kind) -> tuple[tuple[str, str], int]:
    """What the machine ends with when it is left alone, and after how many events."""
    image = new_image(folder / "alone.img")
    with kind.build(image) as target:
        walker = kind.boot(target)
        walker.finish(target)
        assert target.violations() == []
        return outcome(target, image), walker.step


def moments(folder: Path, kind: Kind, steps: set[int]) -> list[Moment]:
    """The machine saved at each of the steps of one run."""
    image = new_image(folder / "saved.img")
    saved = []
    with kind.build(image) as target:
        walker = kind.boot(target)
        for step in range(max(steps) + 1):
            if step in steps:
                snapshot = save_snapshot(target.assembly)
                copy = folder / f"{step}.img"
                shutil.copy(image, copy)
                saved.append(Moment(kind, copy, snapshot, pickle.dumps(walker), step))
            walker.walk(target)
    return saved


def holds_requests(moment: Moment) -> bool:
    """Whether the device had taken requests that it had not given back."""
    queues = msgspec.msgpack.decode(moment.snapshot)["virtio"]["v0"]["queues"]
    return any(queue["in_flight"] for queue in queues)


def failed(moment: Moment) -> bool:
    """Whether an error had stopped the machine."""
    return bool(msgspec.msgpack.decode(moment.snapshot)["status"] == "io-error")


def go_on(moment: Moment) -> tuple[tuple[str, str], list[tuple[str, str]]]:
    """In another process: restore and go on to the end; the outcome, and what the guest did wrong."""
    with moment.kind.build(moment.image) as target:
        restore_snapshot(target.assembly, moment.snapshot)
        walker: Walker = pickle.loads(moment.guest)
        walker.finish(target)
        return outcome(target, moment.image), target.violations() or []


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_all_go_on_to_the_same_bytes(
    tmp_path: Path, kind: Kind, record_property: Callable[[str, object], None]
) -> None:
    expected, length = uninterrupted(tmp_path, kind)
    steps = set(random.Random(SEED).sample(range(length), EVENTS // len(KINDS)))
    saved = moments(tmp_path, kind, steps)
    held = sum(holds_requests(moment) for moment in saved)
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        outcomes = pool.map(go_on, saved, chunksize=4)
    wrong = [moment.step for moment, found in zip(saved, outcomes, strict=True) if found != (expected, [])]
    assert wrong == []
    record_property("examples", f"{len(saved)} events ({held} with requests in flight),")
    assert held >= len(saved) // 8
    assert any(failed(moment) for moment in saved) is kind.failing

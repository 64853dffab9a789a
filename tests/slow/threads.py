"""Queues on four threads over one graph: verified data, exact sums, for as long as wanted.

    python -m tests.slow.threads --minutes 10

Two disks with six queues between them, on four iothreads.  Their nodes are throttled by one group.  A guest with a vCPU
for each queue does requests at random, held against a model of what the disk must contain, while filters are put into
the graph and taken out again and the limits change.  At the end what the guest has counted - requests and bytes, by
kind - is what the devices' backends have counted and, merged, the nodes below them.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from devmodels.iocontext import Coro
from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import BLK_HEADER, BLK_RANGE, SECTOR, BlkType
from guestsim.drivers.virtio_blk import Answer, Operation, VirtioBlk
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget
from guestsim.workload import Workload, run

SECOND = 10**9
PART = 96 << 10
"""Bytes of a disk that one vCPU works on."""
QUEUES = (4, 2)
MIX = (("read", 8), ("write", 8), ("zero", 1), ("flush", 1))
CHUNK = 200
"""Requests of one workload."""
IOPS = 2500
SWITCH_SECONDS = 1e-5
"""How long a thread has the interpreter at most: short, so that threads meet each other everywhere."""


@dataclass
class Ledger:
    """What a guest was answered well: operations and bytes under the names of statistics."""

    counts: Counter[str] = field(default_factory=Counter)

    def note(self, operation: Operation, answer: Answer) -> None:
        """One more answer."""
        assert answer.ok, f"{operation}: {answer.status_name}"
        kind = int.from_bytes(operation.readable[:4], "little")
        payload = len(operation.readable) - BLK_HEADER.size
        if kind == BlkType.IN:
            self._add("rd", operation.writable - 1)
        elif kind == BlkType.OUT:
            self._add("wr", payload)
        elif kind == BlkType.FLUSH:
            self.counts["flush_operations"] += 1
        elif kind == BlkType.WRITE_ZEROES:
            part = BLK_RANGE.unpack(operation.readable[BLK_HEADER.size :])
            self._add("wr", part["num_sectors"] * SECTOR)
        else:
            raise AssertionError(operation.name)

    def _add(self, what: str, nbytes: int) -> None:
        self.counts[f"{what}_operations"] += 1
        self.counts[f"{what}_bytes"] += nbytes


class Soak:
    """The machine, its guest, and what they have done."""

    def __init__(self, folder: Path, *, iops: int = IOPS, seed: int = 0) -> None:
        """The second disk is a file below `folder`, whose requests go to workers."""
        self.random = random.Random(seed)
        self.iops = iops
        image = folder / "soak.img"
        with image.open("wb") as file:
            file.truncate(QUEUES[1] * PART)
        disks: list[dict[str, object]] = [
            {"driver": "memory", "size": QUEUES[0] * PART},
            {"driver": "file", "filename": str(image)},
        ]
        mappings: list[list[dict[str, object]]] = [
            [{"iothread": f"t{number}"} for number in range(4)],
            [{"iothread": "t2", "vqs": [1]}, {"iothread": "t0", "vqs": [0]}],
        ]
        self.target = InProcessTarget(
            objects=[
                *({"qom-type": "iothread", "id": f"t{number}"} for number in range(4)),
                {"qom-type": "throttle-group", "id": "g0", "limits": {"iops-total": iops}},
            ],
            blockdevs=[
                *(
                    {**disk, "node-name": f"d{number}", "discard": "unmap", "accounting": True}
                    for number, disk in enumerate(disks)
                ),
                *(
                    {"driver": "throttle", "throttle-group": "g0", "node-name": f"thr{n}", "file": f"d{n}"}
                    for n in range(2)
                ),
            ],
            devices=[
                {
                    "driver": "virtio-blk-pci",
                    "drive": f"thr{number}",
                    "id": f"vd{number}",
                    "num-queues": QUEUES[number],
                    "iothread-vq-mapping": mapping,
                    "packed": bool(number),
                }
                for number, mapping in enumerate(mappings)
            ],
            clock="wall",
        )
        self.assembly = self.target.assembly
        self.guest = Guest(self.target, timeout_ns=60 * SECOND)
        self.ledgers = [Ledger(), Ledger()]
        self.disks = [VirtioBlk(self.guest, transport) for transport in virtio_blk.find(self.guest)]
        for driver, ledger in zip(self.disks, self.ledgers, strict=True):
            driver.on_answer = ledger.note
            self.guest.run(driver.probe())
        self.over = False
        self.changes: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.most = 0
        """The most requests that the group may have let through, by its limits."""

    # --- what goes on

    async def _change(self, coro: Coro[object], what: str) -> None:
        """Carry a change of the graph out while everything goes on."""
        ended: list[BaseException | None] = []
        self.assembly.context.start(coro, lambda _, error: ended.append(error))
        await self.guest.wait_until(lambda: bool(ended), what)
        assert ended == [None], ended
        self.changes[what] += 1

    async def _meddle(self) -> None:
        graph = self.assembly.graph
        chance = self.random
        while not self.over:
            await self.guest.sleep(chance.randrange(1_000_000, 20_000_000))
            below = f"d{chance.randrange(2)}"
            options: dict[str, object] = {"driver": "raw", "node-name": "f"}
            if chance.random() < 0.5:
                options = {"driver": "delay", "node-name": "f", "latency-ns": chance.randrange(200_000)}
            await self._change(graph.insert(options, above=below), "filters inserted")
            await self.guest.sleep(chance.randrange(1_000_000, 20_000_000))
            await self._change(graph.remove("f"), "filters removed")

    async def _work(self, disk: int, queue: int, requests: int | None) -> None:
        seed = 1000 * disk + queue
        while not self.over:
            chance = random.Random(seed)
            work = Workload(
                start=queue * PART,
                length=PART,
                requests=CHUNK if requests is None else requests,
                seed=seed,
                depth=chance.randrange(1, 9),
                max_length=16 << 10,
                scatter=3,
                mix=MIX,
            )
            self.requests.update(await run(self.disks[disk], work))
            seed += 10_000
            if requests is not None:
                break

    def run(self, *, seconds: float | None = None, requests: int | None = None) -> None:
        """Run for `seconds`, or until each queue has done so many `requests`."""
        guest = self.guest
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        start = time.monotonic_ns()

        async def main() -> None:
            meddler = guest.start(self._meddle())
            workers = [
                guest.start(self._work(disk, queue, requests))
                for disk, queues in enumerate(QUEUES)
                for queue in range(queues)
            ]
            if seconds is not None:
                await guest.sleep(int(seconds * SECOND))
                self.over = True
            limit = None if seconds is not None else 600 * SECOND
            await guest.wait_until(lambda: all(worker.finished for worker in workers), "the vCPUs", limit)
            self.over = True
            await guest.wait_until(lambda: meddler.finished, "the changes")
            for cpu in (*workers, meddler):
                cpu.result()

        try:
            guest.run(main())
        finally:
            sys.setswitchinterval(before)
        self.most += (time.monotonic_ns() - start) * self.iops // SECOND + self.iops // 10 + 1
        # Booting and other reads went through it, too.
        self.most += self.iops

    # --- what must hold

    def check(self) -> None:
        """AssertionError where a sum, a limit or a thread is not as it must be."""
        assert self.target.violations() == []
        assert not any(thread.errors for thread in self.assembly.graph.iothreads.by_id.values())
        total = 0
        for number, ledger in enumerate(self.ledgers):
            found = self.target.statistics(f"vd{number}")
            assert {name: found[name] for name in ledger.counts} == ledger.counts
            assert not any(value for name, value in found.items() if "failed" in name or "invalid" in name)
            node = self.assembly.graph[f"d{number}"].stats
            assert node is not None
            below = node.as_dict()
            for name in ("rd_bytes", "wr_bytes", "flush_operations"):
                assert below[name] == found[name]
            for kind in ("rd", "wr"):
                merged = found[f"{kind}_operations"] - found[f"{kind}_merged"]
                assert below[f"{kind}_operations"] == merged
                total += merged
        assert total <= self.most, "more than the limits let through"
        assert all(region.pins == 0 for region in self.assembly.memory.regions)

    @property
    def sums(self) -> Counter[str]:
        """What the guest was answered, over both disks."""
        return self.ledgers[0].counts + self.ledgers[1].counts

    def report(self) -> str:
        """One line."""
        sums = self.sums
        done = sum(value for name, value in sums.items() if name.endswith("_operations"))
        changes = ", ".join(f"{count} {what}" for what, count in sorted(self.changes.items()))
        return (
            f"{done} requests on 6 queues and 4 threads, {sums['rd_bytes']} bytes read and verified,"
            f" {sums['wr_bytes']} written; {changes}; all sums equal"
        )

    def close(self) -> None:
        """Give everything up."""
        self.guest.close()
        self.target.close()


def soak(
    folder: Path, *, seconds: float | None = None, requests: int | None = None, iops: int = IOPS
) -> Soak:
    """One run, checked and closed."""
    found = Soak(folder, iops=iops)
    try:
        found.run(seconds=seconds, requests=requests)
        found.check()
    except BaseException:
        print(found.target.violations(), file=sys.stderr)  # noqa: T201
        raise
    finally:
        found.close()
    return found


def main() -> None:
    """The command."""
    import tempfile

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--iops", type=int, default=IOPS, help="what the throttle group lets through")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        found = soak(Path(folder), seconds=60 * arguments.minutes, iops=arguments.iops)
        print(f"{time.monotonic() - start:.0f} s: {found.report()}")  # noqa: T201


if __name__ == "__main__":
    main()

"""The block graph is changed under a guest that keeps its disk busy: no error, every block right."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine

import pytest

from devmodels.blockbackend import Graph
from devmodels.iocontext import Coro
from guestsim.disk import boot
from guestsim.drivers.virtio_blk import VirtioBlk
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from guestsim.targets.inprocess import InProcessTarget

BLOCK, BLOCKS = 4096, 64
"""What each of the guest's CPUs works on: blocks of its own."""

CPUS = 4


class Changes:
    """Changes of the graph between the guest's device and node `disk0`, in any order."""

    def __init__(self, graph: Graph, run: Callable[[Coro[object]], Coroutine[object, None, None]]) -> None:
        self.graph = graph
        self.run = run
        self.random = random.Random(4)
        self.filters: list[str] = []
        self.counts = {"insert above": 0, "insert below": 0, "remove": 0, "replace": 0}
        self.numbers = 0

    def options(self) -> dict[str, object]:
        """Some filter that changes no data."""
        self.numbers += 1
        name = f"f{self.numbers}"
        self.filters.append(name)
        if self.random.random() < 0.5:
            return {"driver": "raw", "node-name": name}
        return {"driver": "delay", "node-name": name, "latency-ns": self.random.randrange(30_000)}

    async def change(self) -> None:
        """One of them."""
        choices = ["insert above"] if len(self.filters) < 2 else list(self.counts)
        what = self.random.choice(choices if len(self.filters) < 8 else ["remove", "replace"])
        self.counts[what] += 1
        some = self.random.choice([*self.filters, "disk0"])
        if what == "insert above":
            await self.run(self.graph.insert(self.options(), above=some))
            return
        some = self.random.choice(self.filters)
        if what == "insert below":
            await self.run(self.graph.insert(self.options(), below=some))
            return
        self.filters.remove(some)
        if what == "remove":
            await self.run(self.graph.remove(some))
        else:
            child = self.graph[some].children["file"].node.node_name
            self.graph.add({**self.options(), "file": child})
            await self.run(self.graph.replace(some, self.filters[-1]))
            self.graph.delete(some)


def change_under_load(machine: InProcessTarget, changes_wanted: int) -> tuple[int, dict[str, int]]:
    """Returns how many requests the guest did meanwhile, and how many changes of each kind there were."""
    guest = Guest(machine)
    disk: VirtioBlk = boot(guest).driver
    over = False
    requests = 0

    async def run(coro: Coro[object]) -> None:
        ended: list[BaseException | None] = []
        machine.assembly.context.start(coro, lambda _, error: ended.append(error))
        await guest.wait_until(lambda: bool(ended), "the change")
        assert ended == [None]

    async def work(cpu: int) -> None:
        nonlocal requests
        chance = random.Random(cpu)
        content = [0] * BLOCKS
        while not over:
            block, fill = chance.randrange(BLOCKS), chance.randrange(256)
            offset = (cpu * BLOCKS + block) * BLOCK
            kind = chance.random()
            if kind < 0.45:
                await disk.write(offset, bytes([fill]) * BLOCK, queue=cpu)
                content[block] = fill
            elif kind < 0.5:
                await disk.write_zeroes(offset, BLOCK)
                content[block] = 0
            elif kind < 0.55:
                await disk.flush()
            else:
                assert await disk.read(offset, BLOCK, queue=cpu) == bytes([content[block]]) * BLOCK
            requests += 1
            # Without a pause there would always be something to do, and virtual time would stand still.
            await guest.sleep(chance.randrange(1, 4_000))
        for block, fill in enumerate(content):
            assert await disk.read((cpu * BLOCKS + block) * BLOCK, BLOCK) == bytes([fill]) * BLOCK

    async def main() -> dict[str, int]:
        nonlocal over
        changes = Changes(machine.assembly.graph, run)
        workers = [guest.start(work(cpu)) for cpu in range(CPUS)]
        for _ in range(changes_wanted):
            await guest.sleep(changes.random.randrange(40_000))
            await changes.change()
        over = True
        await guest.wait_until(lambda: all(worker.finished for worker in workers), "the workers")
        for worker in workers:
            worker.result()
        return changes.counts

    counts = guest.run(main())
    guest.close()
    assert machine.violations() == []
    statistics = machine.statistics("vd0")
    assert all(value == 0 for name, value in statistics.items() if "failed" in name or "invalid" in name)
    return requests, counts


@pytest.mark.long
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "bounced"])
def test_a_guest_does_not_notice(shared: bool) -> None:
    with disk_machine(size=CPUS * BLOCKS * BLOCK, shared=shared, num_queues=CPUS) as machine:
        requests, counts = change_under_load(machine, 60)
    assert requests > 60
    assert min(counts.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "bounced"])
def test_a_guest_does_not_notice_a_thousand_changes(
    shared: bool, record_property: Callable[[str, object], None]
) -> None:
    with disk_machine(size=CPUS * BLOCKS * BLOCK, shared=shared, num_queues=CPUS) as machine:
        requests, counts = change_under_load(machine, 1000)
    record_property("requests", requests)
    print(f"{requests} requests under {counts}")  # noqa: T201
    assert requests > 1000
    assert min(counts.values()) > 100

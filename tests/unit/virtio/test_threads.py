"""What a guest and its host do to a device whose queues are at work on threads of their own, in any order."""

from __future__ import annotations

import threading

import pytest

from devmodels.dirtylog import DirtyLog
from devmodels.iocontext import WrongContextError
from devmodels.memoryregions import BouncedRegion, SharedRegion
from devmodels.virtio.constants import SUSPEND
from devmodels.virtio.threaded import ThreadedQueue
from devmodels.virtio_blk.threaded import ThreadedVirtioBlk
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.drivers.pci import COMMAND, COMMAND_MASTER
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_blk import BLK_FEATURES, Pending, VirtioBlk
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.virtio.storm import BLOCKS, QUEUES, Deed, StormWorld, meeting_everywhere

__all__ = ["meeting_everywhere"]

BLOCK = 1024
SIZE = QUEUES * BLOCK * BLOCKS


class World(StormWorld[VirtioBlk, Pending]):
    """A guest of a disk in memory with three queues on two threads."""

    driver_type = VirtioBlk
    name = "vd0"

    def __init__(self, seed: int, *, packed: bool = False, interrupts: Interrupts = Interrupts.MSIX) -> None:
        target = InProcessTarget(
            objects=[{"qom-type": "iothread", "id": name} for name in ("t0", "t1")],
            blockdevs=[{"driver": "memory", "node-name": "d0", "size": SIZE}],
            devices=[
                {
                    "driver": "virtio-blk-pci",
                    "drive": "d0",
                    "id": "vd0",
                    "num-queues": QUEUES,
                    "queue-size": 16,
                    "packed": packed,
                    "iothread-vq-mapping": [{"iothread": "t0"}, {"iothread": "t1"}],
                }
            ],
            clock="wall",
        )
        super().__init__(target, virtio_blk.find, seed, interrupts)

    @property
    def device(self) -> ThreadedVirtioBlk:
        found = self.virtio
        assert isinstance(found, ThreadedVirtioBlk)
        return found

    async def probe(self) -> None:
        features = {*BLK_FEATURES, SUSPEND.bit_length() - 1}
        await self.driver.probe(features=features, interrupts=self.interrupts)

    # --- requests

    async def burst(self) -> None:
        """Writes of different blocks to every queue, which are waited for later."""
        for queue in range(QUEUES):
            blocks = self.random.sample(range(BLOCKS), self.random.randrange(1, 5))
            taken = {block for other, block, _ in self.pending if other == queue}
            for block in set(blocks) - taken:
                fill = self.random.randrange(256)
                offset = (queue * BLOCKS + block) * BLOCK
                (one,) = await self.driver.submit(
                    [virtio_blk.write(offset, bytes([fill]) * BLOCK)], queue=queue
                )
                self.pending.append((queue, block, one))
                self.content[queue][block] = fill

    async def finish(self) -> None:
        """Wait for everything; what was dropped may have been done or not."""
        for queue, block, one in self.pending:
            if one.dropped:
                self.content[queue][block] = -1
                self.dropped += 1
            else:
                answer = await self.driver.finish(one)
                assert answer.ok
                self.done += 1
        self.pending.clear()

    async def verify(self) -> None:
        for queue in range(QUEUES):
            data = await self.driver.read(queue * BLOCKS * BLOCK, BLOCKS * BLOCK, queue=queue)
            for block in range(BLOCKS):
                self.check_block(queue, block, data[block * BLOCK : (block + 1) * BLOCK])

    # --- what is done to the device meanwhile

    async def reset_a_queue(self) -> None:
        await self.driver.reset_queue(self.random.randrange(QUEUES))

    async def stop_and_go(self) -> None:
        self.assembly.run_state.stop()
        await self.burst()
        self.assembly.run_state.cont()

    async def reset_it_while_stopped(self) -> None:
        self.assembly.run_state.stop()
        await self.burst()
        await self.reset_it()
        self.assembly.run_state.cont()

    async def reset_a_queue_while_stopped(self) -> None:
        self.assembly.run_state.stop()
        await self.burst()
        await self.reset_a_queue()
        self.assembly.run_state.cont()

    async def without_bus_mastering(self) -> None:
        function = self.transport.function
        command = function.read(COMMAND, 2)
        function.write(COMMAND, 2, command & ~COMMAND_MASTER)
        await self.burst()
        await self.guest.sleep(100_000)
        function.write(COMMAND, 2, command)

    def check_suspended(self) -> None:
        assert self.device.backend.in_flight == {}

    async def grow(self) -> None:
        backend = self.device.backend
        ended: list[object] = []
        self.assembly.context.start(backend.resize(backend.size + 512), lambda _, error: ended.append(error))
        await self.guest.wait_until(lambda: bool(ended), "the resize")
        assert ended == [None]

    async def change_memory(self) -> None:
        region = SharedRegion(1 << 32, bytearray(4096))
        self.assembly.memory.add(region)
        await self.burst()
        self.assembly.memory.remove(region)

    async def observe(self) -> None:
        log = DirtyLog(64 << 20)
        self.assembly.memory.observe(dirty_log=log)
        await self.burst()
        await self.finish()
        self.assembly.memory.observe()
        assert log.take() != []

    async def switch_the_cache(self) -> None:
        self.driver.set_write_cache(on=self.random.random() < 0.5)

    def deeds(self) -> list[Deed]:
        return [
            self.reset_it,
            self.reset_a_queue,
            self.stop_and_go,
            self.reset_it_while_stopped,
            self.reset_a_queue_while_stopped,
            self.save_and_restore,
            self.without_bus_mastering,
            self.suspend,
            self.grow,
            self.change_memory,
            self.observe,
            self.trace,
            self.switch_the_cache,
        ]

    def close(self) -> None:
        """Nothing may be left of the disk's, either."""
        self.assembly.context.run_until_idle()
        assert self.device.backend.in_flight == {}
        super().close()


@pytest.mark.long
@pytest.mark.parametrize(
    ("packed", "interrupts"),
    [(False, Interrupts.MSIX), (True, Interrupts.INTX), (False, Interrupts.POLLING)],
)
def test_whatever_is_done_no_request_is_lost(packed: bool, interrupts: Interrupts) -> None:
    world = World(7, packed=packed, interrupts=interrupts)
    world.guest.run(world.storm(13))
    world.close()
    assert world.done > 50
    assert world.dropped > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_longer_storm(packed: bool, seed: int) -> None:
    world = World(
        seed, packed=packed, interrupts=(Interrupts.MSIX, Interrupts.INTX, Interrupts.POLLING)[seed % 3]
    )
    world.guest.run(world.storm(600))
    world.close()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_device_is_taken_out_with_its_requests(stopped: bool) -> None:
    world = World(3)
    run = world.guest.run
    run(world.probe())
    run(world.burst())
    if stopped:
        world.assembly.run_state.stop()
        run(world.burst())
    world.assembly.context.run(world.assembly.remove_device("vd0"))
    assert world.assembly.devices == {}
    assert all(region.pins == 0 for region in world.assembly.memory.regions)
    for name in ("t0", "t1"):
        world.assembly.graph.delete_object(name)
    world.assembly.graph.delete("d0")
    world.guest.close()
    world.target.close()


def test_a_reset_through_the_legacy_interface_is_over_at_once() -> None:
    with InProcessTarget(
        objects=[{"qom-type": "iothread", "id": "t0"}],
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": SIZE}],
        devices=[{"driver": "virtio-blk-device", "drive": "d0", "id": "vd0", "iothread": "t0"}],
        clock="wall",
    ) as target:
        guest = Guest(target)
        (transport,) = virtio_blk.find(guest)
        driver = VirtioBlk(guest, transport)
        guest.run(driver.probe(interrupts=Interrupts.POLLING))
        target.assembly.run_state.stop()
        guest.run(driver.submit([virtio_blk.write(0, bytes(BLOCK))]))
        target.assembly.machine.run_until_idle()
        assert len(target.assembly.backends["d0"].in_flight) == 1
        transport.write_status(0)
        assert transport.read_status() == 0
        assert target.violations() == []


def test_interrupts_come_on_the_machines_own_thread() -> None:
    world = World(0)
    seen: set[int] = set()
    machine = world.assembly.machine
    told = machine.on_message
    assert told is not None

    def note(address: int, data: int) -> None:
        seen.add(threading.get_ident())
        told(address, data)

    machine.on_message = note
    world.guest.run(world.probe())
    world.guest.run(world.burst())
    world.guest.run(world.finish())
    assert seen == {threading.get_ident()}
    world.close()


def test_memory_changes_while_the_threads_stand_still() -> None:
    world = World(0)
    threads = list(world.assembly.graph.iothreads.by_id.values())
    held: list[list[bool]] = []
    memory = world.assembly.memory
    memory.followers.append(lambda: held.append([thread.held for thread in threads]))
    region = SharedRegion(
        1 << 32, bytearray(4096), on_release=lambda: held.append([thread.held for thread in threads])
    )
    memory.add(region)
    memory.observe(dirty_log=DirtyLog(4096))
    memory.remove(region)
    assert held == [[True, True]] * 4
    with pytest.raises(ValueError, match="devices with iothreads need shared memory"):
        memory.add(BouncedRegion(1 << 32, 4096, lambda _address, length: bytes(length), lambda *_: None))
    memory.observe()
    world.close()


def test_a_run_until_idle_does_all_that_can_be_done() -> None:
    """An emulator that calls it after each burst of guest code finds requests done and interrupts delivered."""
    world = World(0)
    world.guest.run(world.probe())
    world.guest.run(world.burst())
    world.assembly.machine.run_until_idle()
    assert world.device.backend.in_flight == {}
    assert all(not queue.in_flight for queue in world.device.queues)
    assert world.target.take_messages() != {}
    world.pending.clear()
    world.close()


def test_a_ring_and_its_requests_are_their_threads() -> None:
    """Whoever uses them elsewhere hears of it at once."""
    world = World(0)
    world.guest.run(world.probe())
    device = world.device
    queue = device.queues[0]
    assert isinstance(queue, ThreadedQueue)
    with pytest.raises(WrongContextError):
        queue.finish(())
    with pytest.raises(WrongContextError):
        device._crossings[0].submit([])
    errors: list[BaseException] = []

    def elsewhere() -> None:
        for use in (lambda: device.backend.read_now([]), device.hold.__enter__):
            try:
                use()
            except WrongContextError as error:
                errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(errors) == 2
    with device.hold:
        queue.finish(())
    world.close()


def test_an_error_that_stops_the_machine_holds_the_request_of_a_thread() -> None:
    with InProcessTarget(
        objects=[{"qom-type": "iothread", "id": "t0"}],
        blockdevs=[
            {"driver": "memory", "node-name": "d0", "size": SIZE},
            {
                "driver": "blkdebug",
                "node-name": "b0",
                "image": "d0",
                "inject-error": [{"event": "none", "iotype": "write", "errno": 28, "once": True}],
            },
        ],
        devices=[
            {"driver": "virtio-blk-pci", "drive": "b0", "id": "vd0", "iothread": "t0", "werror": "enospc"}
        ],
        clock="wall",
    ) as target:
        guest = Guest(target)
        disk = boot(guest)
        state = target.assembly.run_state
        write = guest.start(disk.driver.execute(virtio_blk.write(0, b"\1" * BLOCK)))
        guest.run(guest.wait_until(lambda: not state.running, "the stop"))
        target.assembly.machine.run_until_idle()
        assert not write.finished
        assert state.reason == "io-error"
        state.cont()
        guest.run(guest.wait_until(lambda: write.finished, "the write"))
        assert write.result().ok
        assert disk.read(0, BLOCK) == b"\1" * BLOCK

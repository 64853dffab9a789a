"""What a guest and its host do to a SCSI host whose request queues are on threads of their own, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from devmodels.virtio.constants import SUSPEND
from devmodels.virtio.threaded import ThreadedQueue
from devmodels.virtio_scsi.layout import ScsiResponse, TmfType
from devmodels.virtio_scsi.threaded import ThreadedVirtioScsi
from guestsim.drivers import cdb, virtio_scsi
from guestsim.drivers.scsi_layouts import lun_bytes
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_scsi import SCSI_FEATURES, Pending, VirtioScsi
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.virtio.storm import BLOCKS, QUEUES, Deed, StormWorld, meeting_everywhere

__all__ = ["meeting_everywhere"]

SIZE = QUEUES * BLOCKS * 512
OK, ABORTED, RESET, BAD_TARGET = ScsiResponse(0), ScsiResponse(2), ScsiResponse(4), ScsiResponse(3)


def target(*, profile: str = "strict", **options: object) -> InProcessTarget:
    """A host with three queues on two threads, a disk of 512-byte blocks and one more."""
    return InProcessTarget(
        objects=[{"qom-type": "iothread", "id": name} for name in ("t0", "t1")],
        blockdevs=[{"driver": "memory", "node-name": name, "size": SIZE} for name in ("d0", "d1")],
        devices=[
            {
                "driver": "virtio-scsi-pci",
                "id": "scsi0",
                "num_queues": QUEUES,
                "virtqueue_size": 32,
                "iothread-vq-mapping": [{"iothread": "t0"}, {"iothread": "t1"}],
                **options,
            },
            {"driver": "scsi-hd", "drive": "d0", "id": "disk0"},
            {"driver": "scsi-hd", "drive": "d1", "id": "disk1"},
        ],
        clock="wall",
        profile=profile,
    )


class World(StormWorld[VirtioScsi, Pending]):
    """A guest of such a host."""

    driver_type = VirtioScsi
    name = "scsi0"

    profile = "strict"

    def __init__(self, seed: int, *, packed: bool = False, interrupts: Interrupts = Interrupts.MSIX) -> None:
        machine = target(packed=packed, profile=self.profile)
        super().__init__(machine, virtio_scsi.find, seed, interrupts)
        self.ended = 0

    @property
    def device(self) -> ThreadedVirtioScsi:
        found = self.virtio
        assert isinstance(found, ThreadedVirtioScsi)
        return found

    async def probe(self) -> None:
        features = {*SCSI_FEATURES, SUSPEND.bit_length() - 1}
        await self.driver.probe(features=features, interrupts=self.interrupts)
        await self.ready()

    async def ready(self) -> None:
        """Take the units' attention conditions away."""
        for number in (0, 1):
            while (await self.driver.send(number, 0, cdb.test_unit_ready())).status:
                pass

    # --- commands

    async def burst(self) -> None:
        """Writes of different blocks by every queue, which are waited for later."""
        for queue in range(QUEUES):
            taken = {block for other, block, _ in self.pending if other == queue}
            blocks = set(self.random.sample(range(BLOCKS), self.random.randrange(1, 5))) - taken
            fills = [(block, self.random.randrange(256)) for block in blocks]
            commands = [
                self.driver.command(
                    lun_bytes(0, 0),
                    cdb.write_16(lba=queue * BLOCKS + block, blocks=1).data,
                    bytes([fill]) * 512,
                )
                for block, fill in fills
            ]
            sent = await self.driver.submit(commands, queue=queue)
            for (block, fill), one in zip(fills, sent, strict=True):
                self.pending.append((queue, block, one))
                self.content[queue][block] = fill

    async def finish(self) -> None:
        """Wait for everything; what was dropped or ended may have been done or not."""
        for queue, block, one in self.pending:
            if one.dropped:
                self.content[queue][block] = -1
                self.dropped += 1
                continue
            answer = await self.driver.finish(one)
            if answer.response == OK and not answer.status:
                self.done += 1
            else:
                assert answer.response in (ABORTED, RESET) or answer.sense is not None
                self.content[queue][block] = -1
                self.ended += 1
        self.pending.clear()
        await self.ready()

    async def verify(self) -> None:
        for queue in range(QUEUES):
            command = cdb.read_16(lba=queue * BLOCKS, blocks=BLOCKS)
            request = self.driver.command(lun_bytes(0, 0), command.data, room=command.room)
            data = (await self.driver.execute(request, queue=queue)).data
            for block in range(BLOCKS):
                self.check_block(queue, block, data[block * 512 : (block + 1) * 512])

    # --- what is done to the device meanwhile

    async def reset_a_queue(self) -> None:
        await self.driver.reset_queue(2 + self.random.randrange(QUEUES))

    async def while_stopped(self, what: Callable[[], Any]) -> None:
        self.assembly.run_state.stop()
        await self.burst()
        await what()
        self.assembly.run_state.cont()

    async def stop_and_go(self) -> None:
        await self.while_stopped(self.guest.settle)

    async def reset_a_queue_while_stopped(self) -> None:
        await self.while_stopped(self.reset_a_queue)

    async def reset_it_while_stopped(self) -> None:
        self.assembly.run_state.stop()
        await self.burst()
        await self.driver.reset()
        self.assembly.run_state.cont()
        await self.probe()

    async def manage(self, function: TmfType, expected: ScsiResponse = OK) -> None:
        """What a function ends is told before its own answer."""
        before = list(self.pending)
        response = await self.driver.manage(function, lun_bytes(0, 0), 7)
        assert response == expected
        if function in (
            TmfType.VIRTIO_SCSI_T_TMF_ABORT_TASK_SET,
            TmfType.VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET,
        ):
            self.driver.device.service()
            assert all(one.done for _, _, one in before)

    async def abort(self) -> None:
        await self.manage(TmfType.VIRTIO_SCSI_T_TMF_ABORT_TASK_SET)

    async def abort_while_stopped(self) -> None:
        await self.while_stopped(self.abort)

    async def reset_a_unit(self) -> None:
        await self.manage(TmfType.VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET)

    async def reset_a_unit_while_stopped(self) -> None:
        await self.while_stopped(self.reset_a_unit)

    async def unplug_and_plug(self) -> None:
        await self.finish()
        commands = [
            self.driver.command(lun_bytes(1, 0), cdb.test_unit_ready().data, attribute=attribute)
            for attribute in (0, 1, 2)
        ]
        gone: list[object] = []
        sent = await self.driver.submit(commands, queue=0)
        removing = self.assembly.remove_device("disk1")
        self.assembly.context.start(removing, lambda _, error: gone.append(error))
        for queue in range(1, QUEUES):
            sent += await self.driver.submit(commands, queue=queue)
        await self.guest.wait_until(lambda: gone == [None], "the unplugging")
        for one in sent:
            assert (await self.driver.finish(one)).response in (OK, RESET, BAD_TARGET)
        assert (await self.driver.send(1, 0, cdb.test_unit_ready())).response == BAD_TARGET
        self.assembly.add_device({"driver": "scsi-hd", "drive": "d1", "id": "disk1"})
        await self.guest.settle()

    def check_suspended(self) -> None:
        assert all(not queue.in_flight for queue in self.device.queues)

    def deeds(self) -> list[Deed]:
        return [
            self.reset_it,
            self.reset_a_queue,
            self.stop_and_go,
            self.reset_a_queue_while_stopped,
            self.reset_it_while_stopped,
            self.abort,
            self.abort_while_stopped,
            self.reset_a_unit,
            self.reset_a_unit_while_stopped,
            self.unplug_and_plug,
            self.save_and_restore,
            self.suspend,
            self.trace,
        ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("packed", "interrupts"),
    [(False, Interrupts.MSIX), (True, Interrupts.INTX), (False, Interrupts.POLLING)],
)
def test_whatever_is_done_no_command_is_lost(packed: bool, interrupts: Interrupts) -> None:
    world = World(7, packed=packed, interrupts=interrupts)
    world.guest.run(world.storm(13))
    world.close()
    assert world.done > 50
    assert world.dropped > 0
    assert world.ended > 0


class WorldAsQemu(World):
    """The same under the profile `qemu`, where nothing can be suspended, and used lengths count what was given."""

    profile = "qemu"

    async def probe(self) -> None:
        self.driver.device.any_length = True
        await super().probe()

    def deeds(self) -> list[Deed]:
        return [each for each in super().deeds() if each != self.suspend]


@pytest.mark.long
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_whatever_is_done_no_command_is_lost_as_qemu(packed: bool) -> None:
    world = WorldAsQemu(7, packed=packed)
    world.guest.run(world.storm(13))
    world.close()
    assert world.done > 50
    assert world.ended > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_longer_storm(packed: bool, seed: int) -> None:
    interrupts = (Interrupts.MSIX, Interrupts.INTX, Interrupts.POLLING)[seed]
    world = World(seed, packed=packed, interrupts=interrupts)
    world.guest.run(world.storm(200))
    world.close()


def test_request_queues_have_threads_and_the_others_do_not() -> None:
    with target() as machine:
        device = machine.assembly.virtio_device("scsi0")
        names = [queue.thread.name if isinstance(queue, ThreadedQueue) else None for queue in device.queues]
        assert names == [None, None, "t0", "t1", "t0"]


def test_a_host_is_taken_out_with_its_commands() -> None:
    world = World(3)
    world.guest.run(world.probe())
    world.assembly.run_state.stop()
    world.guest.run(world.burst())
    world.assembly.context.run(world.assembly.remove_device("scsi0"))
    assert world.assembly.devices == {}
    assert all(region.pins == 0 for region in world.assembly.memory.regions)
    for name in ("t0", "t1"):
        world.assembly.graph.delete_object(name)
    world.guest.close()
    world.target.close()

"""Putting a machine together, and taking it apart again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from devmodels.assembly import assemble
from devmodels.blockbackend import BlockOptionError
from devmodels.iocontext import WrongContextError
from devmodels.memory import GuestMemory
from devmodels.memoryregions import SharedRegion
from devmodels.options import OptionError
from guestsim.disk import boot
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

NODE = {"driver": "memory", "size": 1 << 20, "node-name": "d0"}
DISK = {"driver": "virtio-blk-pci", "drive": "d0", "addr": "4"}


def test_memory_that_an_embedder_gave_stays_the_embedders() -> None:
    memory = GuestMemory(SharedRegion(0, bytearray(1 << 16)))
    regions = memory.regions
    with pytest.raises(BlockOptionError):
        assemble(blockdevs=[{"driver": "nothing"}], memory=memory)
    for _ in range(2):
        with assemble(blockdevs=[NODE], devices=[DISK], memory=memory) as assembly:
            assembly.machine.write(0x1000, 4, 0x1234_5678)
    assert memory.regions == regions
    assert memory.read(0x1000, 4) == (0x1234_5678).to_bytes(4, "little")


def test_memory_of_the_assemblys_own_goes_with_it() -> None:
    with assemble(ram=1 << 20) as assembly:
        memory = assembly.memory
        assert memory.contains(0, 1 << 20)
    assert not memory.contains(0, 1)


@pytest.mark.parametrize("ram", [0, -8, 12, 4 << 30])
def test_memory_that_would_hide_the_devices_is_refused(ram: int) -> None:
    with pytest.raises(OptionError, match=f"ram: {ram} is given; expected a multiple of 8 up to 0xb0000000"):
        assemble(ram=ram)


def test_a_machine_goes_to_another_thread_that_adopts_it(machine: InProcessTarget) -> None:
    def first_sector() -> bytes:
        return boot(Guest(machine)).read(0, 512)

    def adopted() -> bytes:
        machine.assembly.context.adopt()
        return first_sector()

    with ThreadPoolExecutor(1) as other:
        with pytest.raises(WrongContextError):
            other.submit(first_sector).result()
        assert other.submit(adopted).result() == bytes(512)
    machine.assembly.context.adopt()


def test_two_devices_over_one_image_exclude_each_other() -> None:
    ways: list[dict[str, object]] = [
        {"driver": "raw", "node-name": f"r{number}", "file": "d0"} for number in range(2)
    ]
    devices = [{"driver": "virtio-blk-pci", "drive": f"r{number}"} for number in range(2)]
    with pytest.raises(OptionError) as caught:
        assemble(blockdevs=[NODE, *ways], devices=devices)
    text = "device virtio-blk-pci: node 'r1' needs 'write' on node 'd0', which node 'r0' does not share"
    assert str(caught.value) == text
    readers = [{**way, "read-only": True} for way in ways]
    assemble(blockdevs=[NODE, *readers], devices=devices).close()


def test_a_device_that_finds_no_place_leaves_its_disk_alone() -> None:
    with assemble(blockdevs=[NODE]) as assembly:
        with pytest.raises(OptionError):
            assembly.add_device({"driver": "virtio-blk-pci", "drive": "d0", "addr": "1f.9"})
        assert assembly.graph["d0"].references == 1
        assembly.add_device({"driver": "virtio-blk-pci", "drive": "d0"})

"""A device behind an IOMMU: VIRTIO_F_ACCESS_PLATFORM and the embedder's translation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from devmodels.assembly import Assembly, assemble
from devmodels.dirtylog import DirtyLog
from devmodels.dma import Direction
from devmodels.memoryregions import GuestMemoryError
from devmodels.options import OptionError
from devmodels.trace import Tracer
from devmodels.translation import TranslatedMemory
from guestsim.script.run import Options, read_scripts
from tests.qemu.mmio_by_hand import PAGE, MmioBlk

ACCESS_PLATFORM = 1 << 33
BUS = 0x7000_0000_0000
"""Where the device sees memory: page n of the driver's is the page at BUS + n * PAGE to it."""
MEMORY = 0x10_0000
BASE = 0xFEB0_0000


class Iommu:
    """Pages in any order: bus page n is physical page 1023 - n, unless it was unmapped or may only be read."""

    def __init__(self) -> None:
        self.unmapped: set[int] = set()
        self.read_only: set[int] = set()
        self.asked = 0

    def physical(self, address: int) -> int:
        page, offset = divmod(address - BUS, PAGE)
        return (1023 - page) * PAGE + offset

    def translate(self, address: int, length: int, direction: Direction) -> list[tuple[int, int]]:
        self.asked += 1
        pieces = []
        while length:
            page = (address - BUS) // PAGE
            size = min(length, PAGE - address % PAGE)
            if not 0 <= page < 1024 or page in self.unmapped:
                raise GuestMemoryError(address, length, "not mapped")
            if page in self.read_only and direction is Direction.FROM_DEVICE:
                raise GuestMemoryError(address, length, "not mapped for writing")
            pieces.append((self.physical(address), size))
            address += size
            length -= size
        return pieces


class Rig:
    """The driver works with bus addresses; it reaches memory through the same translation."""

    def __init__(self, *, shared: bool) -> None:
        self.iommu = Iommu()
        self.assembly = assemble(
            blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
            devices=[
                {
                    "driver": "virtio-blk-device",
                    "drive": "d0",
                    "id": "v0",
                    "force-legacy": False,
                    "iommu_platform": True,
                }
            ],
            ram=1024 * PAGE,
            shared=shared,
            translate=self.iommu.translate,
        )
        self.read, self.write = self.assembly.machine.read, self.assembly.machine.write
        self.disk = MmioBlk(self, BASE, BUS + MEMORY, self.assembly.context.turn)

    def ram_read(self, address: int, length: int) -> bytes:
        out = b""
        while length:
            size = min(length, PAGE - address % PAGE)
            out += self.assembly.memory.load(self.iommu.physical(address), size)
            address += size
            length -= size
        return out

    def ram_write(self, address: int, data: bytes) -> None:
        while data:
            size = min(len(data), PAGE - address % PAGE)
            self.assembly.memory.store(self.iommu.physical(address), data[:size])
            address += size
            data = data[size:]

    def page(self, address: int) -> int:
        return (address - BUS) // PAGE

    def clauses(self) -> list[str]:
        return [each.clause for each in self.assembly.violations.recent]


@pytest.fixture(params=[True, False], ids=["shared", "bounced"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(shared=request.param)
    with rig.assembly:
        yield rig


def test_rings_and_data_go_through_the_translation(rig: Rig) -> None:
    """8 KiB from the middle of a page on: pieces of three pages that lie the other way round in memory."""
    rig.disk.start(ACCESS_PLATFORM)
    data = bytes(range(256)) * 32
    assert rig.disk.request(1, 0, data=data)[:2] == (0, 1)
    assert rig.disk.request(0, 0, room=8192) == (0, 8193, data)
    assert rig.clauses() == []


def test_a_driver_that_knows_no_translation_is_refused(rig: Rig) -> None:
    disk = rig.disk
    for status in (0, 1, 3):
        disk.set(0x070, status)
    disk.accept(1 << 32)
    disk.set(0x070, 11)
    assert disk.get(0x070) == 3
    assert rig.clauses() == ["VIRTIO 1.4 §6.1"]


def test_a_fault_in_the_data_is_an_error_of_the_request(rig: Rig) -> None:
    disk = rig.disk
    disk.start(ACCESS_PLATFORM)
    disk.expose(0, 0, room=8192)
    rig.iommu.unmapped.add(rig.page(disk.buffers + PAGE))
    disk.set(0x050, 0)
    status, used, _ = disk.answer(16)
    assert (status, used) == (1, 0), "the first part could not be filled"
    assert rig.clauses() == ["VIRTIO 1.4 §5.2.6.1"]
    rig.iommu.unmapped.clear()
    assert disk.request(0, 0, room=512)[0] == 0


def test_what_may_only_be_read_is_not_written(rig: Rig) -> None:
    disk = rig.disk
    disk.start(ACCESS_PLATFORM)
    rig.iommu.read_only.add(rig.page(disk.buffers + PAGE))
    assert disk.request(1, 0, data=bytes(8192))[0] == 0, "a write reads memory"
    assert disk.request(0, 0, room=8192)[0] == 1


def test_a_fault_in_the_rings_needs_a_reset(rig: Rig) -> None:
    disk = rig.disk
    disk.start(ACCESS_PLATFORM)
    disk.request(0, 0, room=512)
    rig.iommu.unmapped.add(rig.page(disk.used))
    memory = rig.assembly.virtio_device("v0").memory
    assert isinstance(memory, TranslatedMemory)
    memory.invalidate()
    disk.set(0x050, 0)
    assert disk.get(0x070) & 0x40
    rig.iommu.unmapped.clear()
    disk.start(ACCESS_PLATFORM)
    assert disk.request(0, 0, room=512)[0] == 0


def _always(
    pieces: list[tuple[int, int]], _address: int, _length: int, _way: Direction
) -> list[tuple[int, int]]:
    return pieces


def test_a_translation_that_ends_early_or_lies_is_a_fault() -> None:
    with assemble(ram=16 * PAGE) as assembly:
        for pieces in ([], [(0, 4)], [(0, 16)], [(0, 0), (0, 8)], [(1 << 40, 8)]):
            memory = TranslatedMemory(assembly.memory, partial(_always, pieces))
            with pytest.raises(GuestMemoryError):
                memory.read(0, 8)
            assert not memory.contains(0, 8)


def test_memory_that_comes_and_goes_is_followed(rig: Rig) -> None:
    memory = rig.assembly.virtio_device("v0").memory
    before = memory.generation
    [region] = rig.assembly.memory.regions
    rig.assembly.memory.remove(region)
    assert memory.generation != before
    assert not memory.contains(BUS, 8)


def test_the_dirty_log_knows_physical_pages_and_the_trace_bus_addresses(rig: Rig) -> None:
    disk = rig.disk
    disk.start(ACCESS_PLATFORM)
    log = DirtyLog(1024 * PAGE)
    seen: list[object] = []
    tracer = Tracer(rig.assembly.context.now_ns)
    tracer.sinks.append(lambda event: seen.extend(event.detail[:1]))
    rig.assembly.memory.observe(dirty_log=log, trace=tracer)
    assert disk.request(0, 0, room=512)[0] == 0
    pages = {rig.iommu.physical(address) // PAGE * PAGE for address in (disk.used, disk.buffers)}
    assert set(log.take()) == pages
    assert any(each >= BUS for each in seen if isinstance(each, int))


def test_the_dirty_log_knows_where_a_transfer_went_whose_translation_has_ended(rig: Rig) -> None:
    """What was mapped stays mapped, and is logged where it is, whatever the IOMMU says when it ends."""
    memory = rig.assembly.virtio_device("v0").memory
    assert isinstance(memory, TranslatedMemory)
    log = DirtyLog(1024 * PAGE)
    rig.assembly.memory.observe(dirty_log=log)
    address = BUS + 3 * PAGE + 0xF00
    dma = memory.map([(address, 0x300)], Direction.FROM_DEVICE)
    rig.iommu.unmapped |= {3, 4}
    memory.invalidate()
    dma.unmap(0x101)
    assert log.take() == [rig.iommu.physical(BUS + page * PAGE) for page in (4, 3)]


@pytest.mark.parametrize(
    ("driver", "words"), [("virtio-blk-pci", "disable-legacy=on"), ("virtio-blk-device", "force-legacy=off")]
)
def test_the_legacy_interface_knows_no_translation(driver: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        assemble(
            blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
            devices=[{"driver": driver, "drive": "d0", "iommu_platform": True}],
        )


SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("packed", "shared"),
        ("scatter", "bounced"),
        ("direct-chains", "shared"),
        ("hostile/dma-into-rings", "bounced"),
        ("hostile/data-outside-memory", "shared"),
        ("hostile/data-outside-memory", "bounced"),
    ],
)
def test_the_corpus_runs_through_a_translation_by_pages(
    name: str, kind: Literal["shared", "bounced"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page is a piece of its own, though it lies where the driver thinks."""

    def by_pages(address: int, length: int, _way: Direction) -> list[tuple[int, int]]:
        ends = range(address // PAGE * PAGE + PAGE, address + length + PAGE, PAGE)
        starts = [address, *ends[:-1]]
        return [(a, min(b, address + length) - a) for a, b in zip(starts, ends, strict=True)]

    monkeypatch.setattr(
        Assembly, "memory_for", lambda self, *_, **__: TranslatedMemory(self.memory, by_pages)
    )
    for script in read_scripts(SCRIPTS / f"{name}.guest.yaml"):
        assert script.run(Options("devmodels", kind)).failures == []

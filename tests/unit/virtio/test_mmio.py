"""virtio-blk over MMIO in both versions, VIRTIO 1.4 §4.2, as its driver sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from devmodels.assembly import Assembly, assemble
from devmodels.conformance import Profile
from devmodels.memory import GuestMemory
from devmodels.options import OptionError
from devmodels.registers.check import check_registers
from devmodels.snapshot import restore_snapshot, save_snapshot
from devmodels.virtio.mmio import VirtioMmio
from devmodels.virtio.mmio_legacy import LegacyMmio, QueueAlign
from devmodels.virtio.mmio_modern import ModernMmio
from tests.qemu.mmio_by_hand import PAGE, SIZE, MmioBlk

BASE = 0xFEB0_0000
IRQ = 24
MEMORY = 0x10_0000
RING_RESET = 1 << 40
RULES = "VIRTIO 1.4 §4.2.2.2"
REGISTERS = "VIRTIO 1.4 §4.2.2"
LEGACY = "VIRTIO 1.4 §4.2.4"


class Rig:
    """A machine with one disk over MMIO."""

    def __init__(
        self,
        *,
        shared: bool = True,
        profile: Profile = Profile.STRICT,
        latency_ns: int = 0,
        **options: object,
    ) -> None:
        self.lines: dict[int, bool] = {}
        memory_disk = {"driver": "memory", "size": 1 << 20}
        slow_disk = {"driver": "delay", "file": memory_disk, "latency-ns": latency_ns}
        self.assembly: Assembly = assemble(
            blockdevs=[(slow_disk if latency_ns else memory_disk) | {"node-name": "d0"}],
            devices=[{"driver": "virtio-blk-device", "drive": "d0", "id": "v0", **options}],
            ram=2 << 20,
            shared=shared,
            profile=profile,
            on_irq=lambda line, level: self.lines.update({line: level}),
        )
        self.machine = self.assembly.machine
        memory: GuestMemory = self.assembly.memory
        self.read, self.write = self.machine.read, self.machine.write
        self.ram_read, self.ram_write = memory.load, memory.store
        [(base, self.irq, _)] = self.machine.mmio
        self.disk = MmioBlk(self, base, MEMORY, self._work)

    def _work(self) -> bool:
        return self.assembly.context.turn()

    @property
    def device(self) -> VirtioMmio:
        device = self.assembly.devices["v0"]
        assert isinstance(device, VirtioMmio)
        return device

    def clauses(self) -> list[str]:
        return [each.clause for each in self.assembly.violations.recent]


Make = Callable[..., Rig]


@pytest.fixture(params=["shared", "bounced"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    with ExitStack() as machines:

        def make(**options: object) -> Rig:
            rig = Rig(shared=request.param == "shared", **options)  # type: ignore[arg-type]
            machines.enter_context(rig.assembly)
            return rig

        yield make


@pytest.fixture(params=[1, 2])
def rig(make: Make, request: pytest.FixtureRequest) -> Rig:
    return make(**{"force-legacy": request.param == 1})


@pytest.fixture
def modern(make: Make) -> Rig:
    return make(**{"force-legacy": False})


@pytest.fixture
def legacy(make: Make) -> Rig:
    return make(**{"force-legacy": True})


# --- discovery


@pytest.mark.parametrize(("force", "version"), [(True, 1), (False, 2)])
def test_the_device_says_what_it_is(make: Make, force: bool, version: int) -> None:
    rig = make(**{"force-legacy": force})
    disk = rig.disk
    assert [disk.get(at) for at in (0x000, 0x004, 0x008)] == [0x7472_6976, version, 2]
    assert disk.base == BASE
    assert rig.irq == IRQ


def test_slots_are_microvms_and_places_may_be_ones_own(make: Make) -> None:
    assert make(bus="virtio-mmio-bus.3").disk.base == BASE + 0x600
    rig = make(address=0x1000_0000, irq=5)
    assert rig.disk.get(0) == 0x7472_6976
    assert (rig.disk.base, rig.irq) == (0x1000_0000, 5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bus": "virtio-mmio-bus.24"}, "expected virtio-mmio-bus.0 to virtio-mmio-bus.23"),
        ({"address": 0x1000_0000}, "expected with it an irq"),
        ({"address": 0xB000_0000, "irq": 5}, "is taken"),
        ({"address": 0x1000_0002, "irq": 5}, "expected a multiple of 4"),
        ({"addr": "4"}, "no such option"),
    ],
)
def test_a_wrong_place_is_one_line(options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words) as error:
        Rig(**options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


# --- registers


@pytest.mark.long
@pytest.mark.parametrize("kind", [ModernMmio, LegacyMmio])
def test_plain_registers_bit_by_bit(kind: type[ModernMmio | LegacyMmio]) -> None:
    behaving = [r for r in kind.layout().registers if r.read_hook or r.write_hook]
    rig = Rig(**{"force-legacy": kind is LegacyMmio})  # type: ignore[arg-type]
    with rig.assembly:
        device = rig.device
        assert check_registers(lambda: kind(device), behaving=behaving) > 100
    assert check_registers(QueueAlign) > 10


@pytest.mark.parametrize("size", [1, 2, 8])
def test_control_registers_take_accesses_of_32_bits_alone(rig: Rig, size: int) -> None:
    rig.disk.get(0x000, size)
    rig.disk.set(0x070, 1, size)
    assert rig.disk.get(0x070) == 0
    assert rig.clauses() == [RULES, RULES]


def test_what_is_for_one_direction_is_for_that_alone(rig: Rig) -> None:
    assert rig.disk.get(0x030) == 0, "QueueSel"
    rig.disk.set(0x000, 7)
    assert rig.disk.get(0x000) == 0x7472_6976
    assert rig.disk.get(0x0F0) == 0, "no register"
    assert rig.clauses() == [RULES, RULES, RULES]


def test_a_lenient_device_reports_none_of_that(make: Make) -> None:
    rig = make(profile=Profile.LENIENT)
    assert rig.disk.get(0x002, 2) == 0x7472
    rig.disk.set(0x000, 7)
    assert rig.disk.get(0x0F0, 8) == 0
    assert rig.clauses() == []


def test_there_is_no_shared_memory(modern: Rig) -> None:
    modern.disk.set(0x0AC, 3)
    assert {modern.disk.get(at) for at in (0x0B0, 0x0B4, 0x0B8, 0x0BC)} == {0xFFFF_FFFF}


def test_features_come_in_words(modern: Rig, legacy: Rig) -> None:
    assert modern.disk.features() >> 32 & 1, "VERSION_1"
    assert legacy.disk.features() < 1 << 32
    for disk in (modern.disk, legacy.disk):
        disk.set(0x014, 0xFFFF_FFFF)
        assert disk.get(0x010) == 0
    legacy.disk.accept(1 << 32)
    assert legacy.clauses() == ["VIRTIO 1.4 §2.2.3"]


def test_a_queue_that_is_not_there_reads_0_and_takes_nothing(rig: Rig) -> None:
    disk = rig.disk
    for index in (1, 0xFFFF, 0xFFFF_FFFF):
        disk.set(0x030, index)
        assert disk.get(0x034) == 0
        for at in (0x038, 0x03C, 0x040) if disk.version == 1 else (0x038, 0x044, 0x080, 0x0C0):
            disk.set(at, 1)
    if disk.version == 2:
        assert disk.get(0x044) == 0
    disk.start()
    assert disk.request(0, 0, room=512)[0] == 0


def test_sizes_are_powers_of_two_up_to_the_most(rig: Rig) -> None:
    disk = rig.disk
    assert disk.get(0x034) == 256
    for size in (0, 3, 512):
        disk.set(0x038, size)
    assert rig.clauses() == [RULES] * 3


# --- work


def test_what_was_written_is_read_back(rig: Rig) -> None:
    rig.disk.start()
    assert rig.disk.request(1, 7, data=b"\x5a" * 512) == (0, 1, b"\x5a" * 512)
    assert rig.disk.request(0, 7, room=512) == (0, 513, b"\x5a" * 512)
    assert rig.clauses() == []


def test_the_line_is_up_until_every_event_is_acknowledged(rig: Rig) -> None:
    disk = rig.disk
    disk.start()
    disk.request(0, 0, room=512)
    assert (disk.get(0x060), rig.lines) == (1, {rig.irq: True})
    rig.assembly.context.run(rig.assembly.backends["d0"].resize(2 << 20))
    rig.machine.run_until_idle()
    assert disk.get(0x060) == 3
    disk.set(0x064, 1)
    assert (disk.get(0x060), rig.lines) == (2, {rig.irq: True})
    assert disk.get(0x100) == 4096, "the new capacity"
    disk.set(0x064, 2)
    assert (disk.get(0x060), rig.lines) == (0, {rig.irq: False})
    disk.set(0x064, 4)
    assert rig.clauses() == [RULES]


def test_the_generation_moves_with_the_configuration(modern: Rig) -> None:
    disk = modern.disk
    disk.start()
    disk.get(0x100)
    before = disk.get(0x0FC)
    modern.assembly.context.run(modern.assembly.backends["d0"].resize(2 << 20))
    disk.get(0x100)
    assert disk.get(0x0FC) != before


def test_a_write_of_a_width_that_the_configuration_has_not_is_reported_with_its_bytes(modern: Rig) -> None:
    modern.disk.start()
    modern.write(modern.disk.base + 0x121, 2, 0xBEEF)
    first = modern.assembly.violations.recent[0]
    assert (first.clause, first.data) == (RULES, b"\xef\xbe")


def test_a_reset_clears_events_and_queues(rig: Rig) -> None:
    disk = rig.disk
    disk.start()
    disk.request(0, 0, room=512)
    rig.assembly.context.run(rig.assembly.backends["d0"].resize(2 << 20))
    rig.machine.run_until_idle()
    assert disk.get(0x060) == 3, "a used buffer and a change of the configuration"
    disk.set(0x070, 0)
    assert (disk.get(0x070), disk.get(0x060)) == (0, 0)
    assert disk.get(0x044 if disk.version == 2 else 0x040) == 0
    assert rig.lines == {rig.irq: False}


def test_a_machine_reset_is_one(rig: Rig) -> None:
    rig.disk.start()
    rig.disk.request(0, 0, room=512)
    rig.machine.reset()
    assert rig.disk.get(0x070) == 0
    assert rig.lines == {rig.irq: False}


def test_a_queue_in_use_keeps_what_it_was_set_up_with(rig: Rig) -> None:
    disk = rig.disk
    disk.start()
    disk.set(0x038, 4)
    if disk.version == 2:
        disk.set(0x080, 0)
        disk.set(0x0A4, 1)
    else:
        disk.set(0x03C, 64)
        disk.set(0x040, 1)
    assert disk.request(0, 0, room=512)[0] == 0
    assert len(rig.clauses()) == 3


def test_a_queue_is_taken_out_of_use_and_put_back(rig: Rig) -> None:
    disk = rig.disk
    ready = 0x044 if disk.version == 2 else 0x040
    disk.start()
    disk.request(0, 0, room=512)
    disk.set(ready, 0)
    assert disk.get(ready) == 0
    disk.expose(0, 0, room=512)
    disk.set(0x050, 0)
    assert rig.clauses() == ["VIRTIO 1.4 §4.2.3.3"]
    disk.place_queue()
    assert disk.request(0, 0, room=512)[0] == 0


def test_a_queue_is_reset_where_that_was_negotiated(modern: Rig) -> None:
    disk = modern.disk
    disk.start()
    disk.set(0x0C0, 1)
    assert (disk.get(0x044), modern.clauses()) == (1, [REGISTERS])
    disk.start(RING_RESET)
    disk.set(0x0C0, 1)
    assert (disk.get(0x0C0), disk.get(0x044)) == (0, 0)
    disk.place_queue()
    assert (disk.get(0x0C0), disk.get(0x044)) == (0, 1)
    assert disk.request(0, 0, room=512)[0] == 0
    disk.set(0x070, 0)
    assert (disk.get(0x0C0), disk.get(0x044)) == (0, 0)


def test_a_queue_s_reset_shows_as_long_as_it_goes_on(make: Make) -> None:
    rig = make(**{"force-legacy": False, "latency_ns": 1000})
    disk = rig.disk
    disk.start(RING_RESET)
    disk.expose(0, 0, room=512)
    disk.set(0x050, 0)
    disk.set(0x0C0, 1)
    assert (disk.get(0x0C0), disk.get(0x044)) == (1, 1)
    rig.machine.run_until_idle()
    assert (disk.get(0x0C0), disk.get(0x044)) == (0, 0)
    assert disk.used_index() == 0


def test_notification_data_carries_the_queue_in_its_lower_half(modern: Rig) -> None:
    modern.disk.start(1 << 38)
    modern.disk.expose(0, 0, room=512)
    modern.disk.set(0x050, 1 << 16)
    modern.machine.run_until_idle()
    assert modern.disk.answer(512)[0] == 0


def test_a_notification_of_no_queue_is_reported(rig: Rig) -> None:
    rig.disk.start()
    rig.disk.set(0x050, 0x1_0000)
    assert rig.clauses() == ["VIRTIO 1.4 §4.2.3.3"]


# --- the legacy interface


def test_the_page_size_outlives_the_drivers_reset(legacy: Rig) -> None:
    """Drivers write it before they reset the device first."""
    disk = legacy.disk
    disk.set(0x028, PAGE)
    disk.set(0x070, 0)
    disk.place_queue()
    assert disk.get(0x040) == MEMORY // PAGE
    assert disk.request(0, 0, room=512)[0] == 0


def test_a_queue_needs_the_page_size(legacy: Rig) -> None:
    disk = legacy.disk
    disk.set(0x028, 1000)
    disk.place_queue()
    assert disk.get(0x040) == 0
    assert legacy.clauses() == [LEGACY, LEGACY]


def test_the_used_ring_lies_at_the_alignment_asked_for(legacy: Rig) -> None:
    disk = legacy.disk
    disk.start()
    disk.set(0x040, 0)
    disk.used = (disk.avail + 6 + 2 * SIZE + 63) // 64 * 64
    legacy.ram_write(disk.desc, bytes(PAGE))
    disk._submitted = 0
    disk.set(0x038, SIZE)
    disk.set(0x03C, 3)
    disk.set(0x03C, 64)
    disk.set(0x040, MEMORY // PAGE)
    assert disk.request(0, 0, room=512)[0] == 0
    assert legacy.clauses() == [LEGACY]


# --- snapshots


def test_a_snapshot_goes_on_in_another_machine(rig: Rig, make: Make) -> None:
    disk = rig.disk
    disk.start()
    disk.request(0, 0, room=512)
    other = make(**{"force-legacy": disk.version == 1})
    restore_snapshot(other.assembly, save_snapshot(rig.assembly))
    assert (other.disk.get(0x060), other.lines) == (1, {rig.irq: True})
    other.disk._submitted = disk._submitted
    assert other.disk.request(0, 1, room=512)[:2] == (0, 513)
    assert other.clauses() == []


def test_a_request_that_is_held_starts_anew_where_it_is_restored(rig: Rig, make: Make) -> None:
    disk = rig.disk
    disk.start()
    rig.assembly.run_state.stop("test")
    disk.expose(0, 1, room=512)
    disk.set(0x050, 0)
    assert disk.used_index() == 0
    other = make(**{"force-legacy": disk.version == 1})
    restore_snapshot(other.assembly, save_snapshot(rig.assembly))
    other.disk._submitted = disk._submitted
    assert other.disk.used_index() == 0
    other.assembly.run_state.cont()
    other.machine.run_until_idle()
    assert other.disk.answer(512)[:2] == (0, 513)
    assert other.lines == {rig.irq: True}

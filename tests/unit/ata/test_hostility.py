"""Whatever guests do to HBAs and IDE channels: a few examples here, a hundred thousand in the slow tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devmodels.ahci import delivery, prdt
from devmodels.ahci.command import PortCommand
from devmodels.ahci.delivery import Delivery
from devmodels.ahci.engine import Event
from devmodels.ahci.port import Port
from devmodels.ata import AtaCommand, TaskFile
from devmodels.ata.disk import AtaDisk
from devmodels.ata.disk.medium import MediumTransfer
from devmodels.blockbackend import BlockBackend, Flags
from devmodels.ide_cdrom.busmaster import BusMaster
from devmodels.memory import GuestMemory
from fuzz.watch import watched
from tests.unit.ahci import hostility as ahci
from tests.unit.ata.hostility import BACKENDS, Generate, Make, Runner, Step
from tests.unit.ide_cdrom import hostility as ide

CONFIGURATIONS = (*BACKENDS, "copied")
KINDS: dict[str, tuple[Make, Generate]] = {
    "ahci-disk": (ahci.make_disk, ahci.disk_example),
    "ahci-drive": (ahci.make_drive, ahci.drive_example),
    "ide-disk": (ide.make_disk, ide.disk_example),
    "ide-drive": (ide.make_drive, ide.drive_example),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@given(configuration=st.sampled_from(CONFIGURATIONS), seed=st.integers(0, 2**64 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_sequence_of_accesses_does_harm(
    kind: str, configuration: str, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    Runner(*KINDS[kind], caplog).run(configuration, seed, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_that_is_written_elsewhere_is_seen(kind: str) -> None:
    with ExitStack() as stack:
        bench = KINDS[kind][0](stack, "memory", Counter())
        shadow = bench.shadow
        shadow.memory.write(shadow.base + len(shadow.data) - 1, bytes((shadow.data[-1] ^ 1,)))
        with pytest.raises(AssertionError, match="a device has written"):
            bench.at_rest()


def says_at_once_that_it_has_stopped(put: pytest.MonkeyPatch) -> None:
    """Of an HBA and of a bus master: what runs goes on."""
    drop = Port._drop_commands

    def stopped(port: Port) -> None:
        port.event(Event.IDLE)
        drop(port)

    put.setattr(Port, "_drop_commands", stopped)
    stop = BusMaster.stop

    def inactive(master: BusMaster) -> None:
        stop(master)
        master.registers.active = 0

    put.setattr(BusMaster, "stop", inactive)


HBA_READ: tuple[Step, ...] = (
    (
        "command",
        0,
        ahci.H2D.pack(0x27, 0x80, 0x25, 0, 0x40 << 24, 0, 1, 0, 0, 0),
        5,
        1,
        ((ahci.BASE + ahci.BUFFERS, 511),),
        b"",
        True,
    ),
    ("issue", 0, 1),
    ("turn",),
)
CHANNEL_READ: tuple[Step, ...] = (
    ("table", ((ide.BASE + ide.BUFFERS, 512, ide.EOT),), ide.BASE + ide.TABLE),
    ("task", 0xC8, 0, 1, 0, 0x40),
    ("start", ide.START | ide.TO_MEMORY),
    ("turn",),
    ("turn",),
)


@pytest.mark.parametrize(
    ("kind", "steps", "how"),
    [
        ("ahci-disk", HBA_READ, "comreset"),
        ("ahci-disk", HBA_READ, "srst"),
        ("ide-disk", CHANNEL_READ, "pulse"),
        ("ide-disk", CHANNEL_READ, "device"),
    ],
)
def test_a_byte_that_is_written_after_the_stop_is_seen(
    kind: str, steps: tuple[Step, ...], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        bench = KINDS[kind][0](stack, "slow", Counter())
        bench.play((steps, how))
        says_at_once_that_it_has_stopped(monkeypatch)
        with pytest.raises(AssertionError, match="a device has written"):
            bench.play((steps, how))


async def _does_not_flush(_disk: AtaDisk, _command: AtaCommand) -> None:
    """FLUSH CACHE, and SET FEATURES that switches the write cache off, end at once."""


def flushes_nothing(put: pytest.MonkeyPatch) -> None:
    put.setattr(AtaDisk, "flush", _does_not_flush)


def _transfers(put: pytest.MonkeyPatch, change: Callable[[MediumTransfer], None]) -> None:
    init = MediumTransfer.__init__

    def changed(transfer: MediumTransfer, *arguments: Any, **named: Any) -> None:
        init(transfer, *arguments, **named)
        change(transfer)

    put.setattr(MediumTransfer, "__init__", changed)


def ignores_fua(put: pytest.MonkeyPatch) -> None:
    _transfers(put, lambda transfer: setattr(transfer, "flags", Flags.NONE))


def has_the_cache_on_for_ever(put: pytest.MonkeyPatch) -> None:
    put.setattr(BlockBackend, "write_cache", property(lambda _backend: True, lambda _backend, _on: None))


def is_a_sector_beside(put: pytest.MonkeyPatch) -> None:
    """Of each pair of sectors one is the other, for reads as well as for writes."""
    _transfers(put, lambda transfer: setattr(transfer, "offset", transfer.offset ^ 512))


def reads_at_once_a_sector_beside(put: pytest.MonkeyPatch) -> None:
    place = AtaDisk.at_once

    def beside(disk: AtaDisk, taskfile: TaskFile) -> tuple[int, int] | None:
        found = place(disk, taskfile)
        return None if found is None else (found[0] ^ 512, found[1])

    put.setattr(AtaDisk, "at_once", beside)


def counts_a_sector_more(put: pytest.MonkeyPatch) -> None:
    """In PRDBC."""
    count = Delivery._count

    def more(port: Delivery, command: PortCommand) -> None:
        command.moved += 512
        count(port, command)
        command.moved -= 512

    put.setattr(Delivery, "_count", more)


def reads_regions_again_and_again(put: pytest.MonkeyPatch) -> None:
    """Of a command's table, the first one."""

    def again(memory: GuestMemory, table: int, entries: int, wanted: int) -> prdt.Regions:
        for _ in range(2000):
            memory.read(table, 8)
        return prdt.walk(memory, table, entries, wanted)

    put.setattr(delivery, "walk", again)
    read = BusMaster._read_entry

    def entry(master: BusMaster) -> bytes:
        return [read(master) for _ in range(2000)][-1]

    put.setattr(BusMaster, "_read_entry", entry)


def allocates_as_much_as_regions_may_have(put: pytest.MonkeyPatch) -> None:
    def whole(memory: GuestMemory, *more: int) -> prdt.Regions:
        bytes(8 << 20)
        return prdt.walk(memory, *more)

    put.setattr(delivery, "walk", whole)
    read = BusMaster._read_entry

    def entry(master: BusMaster) -> bytes:
        bytes(8 << 20)
        return read(master)

    put.setattr(BusMaster, "_read_entry", entry)


@pytest.mark.parametrize("kind", ["ahci-disk", "ide-disk"])
@pytest.mark.parametrize(
    ("defect", "complaint"),
    [
        (reads_regions_again_and_again, "accessed more often than the doorbell is worth"),
        (allocates_as_much_as_regions_may_have, "bytes were allocated for one doorbell"),
    ],
)
def test_what_a_command_costs_too_much_is_seen(
    kind: str,
    defect: Callable[[pytest.MonkeyPatch], None],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = HBA_READ if kind == "ahci-disk" else CHANNEL_READ
    with ExitStack() as stack:
        bench = KINDS[kind][0](stack, "memory", Counter())
        bench.play((steps, "srst"))
        defect(monkeypatch)
        with pytest.raises(AssertionError) as found:
            watched(lambda _: bench.play((steps, "srst")))(b"")
        assert complaint in f"{found.value} {found.value.__cause__}"


def begins_anew_often(kind: str) -> None:
    """So that the driver has written in each of its ways."""
    with ExitStack() as stack:
        bench = KINDS[kind][0](stack, "memory", Counter())
        for _ in bench.stable_ways:
            bench.play(((), "srst"))


BOTH = ("ahci-disk", "ide-disk")


@pytest.mark.parametrize(
    ("kinds", "defect", "complaint"),
    [
        (BOTH, flushes_nothing, "acknowledged as stable"),
        (BOTH, ignores_fua, "acknowledged as stable"),
        (BOTH, has_the_cache_on_for_ever, "acknowledged as stable"),
        (BOTH, is_a_sector_beside, "acknowledged as stable"),
        (BOTH[:1], reads_at_once_a_sector_beside, "is not what was written"),
        (BOTH[:1], counts_a_sector_more, "PRDBC of slot 0"),
    ],
)
def test_a_disk_that_does_not_keep_its_promises_is_seen(
    kinds: tuple[str, ...],
    defect: Callable[[pytest.MonkeyPatch], None],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defect(monkeypatch)
    for kind in kinds:
        with pytest.raises(AssertionError, match=complaint):
            begins_anew_often(kind)


@pytest.mark.parametrize("kind", BOTH)
def test_what_reads_as_something_else_is_seen(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sectors that were never written, which no sector that is read back shows."""
    steps: tuple[Step, ...] = (*(HBA_READ if kind == "ahci-disk" else CHANNEL_READ), ("settle",))
    with ExitStack() as stack:
        bench = KINDS[kind][0](stack, "slow", Counter())
        bench.play((steps, "srst"))
        _transfers(monkeypatch, lambda transfer: setattr(transfer, "offset", transfer.offset ^ 1024))
        for step in steps:
            bench.do(step)
        with pytest.raises(AssertionError, match="is not what was written"):
            bench.begin_anew("srst")


def test_regions_that_are_elsewhere_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """By two bytes."""

    def further(*arguments: Any) -> prdt.Regions:
        regions = prdt.walk(*arguments)
        return regions._replace(pieces=[(at + 2, length) for at, length in regions.pieces])

    with ExitStack() as stack:
        bench = KINDS["ahci-disk"][0](stack, "memory", Counter())
        monkeypatch.setattr(delivery, "walk", further)
        for step in HBA_READ:
            bench.do(step)
        assert bench.wrong == ["slot 0 has not moved what is in its regions"]

"""Snapshots of ATA hosts in which anything is another thing: refused in one line, or something that a reset ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devmodels.snapshot import SnapshotError, restore_snapshot, save_snapshot
from guestsim.drivers import ata
from guestsim.drivers.ide import IdeController, probe
from guestsim.drivers.ide_layouts import AtaCommand
from guestsim.drivers.ide_task import Task, Way
from guestsim.drivers.pci import scan
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.ahci.stories import boot
from tests.unit.moving import changed
from tests.unit.test_snapshot import RAM

HOSTS: dict[str, list[dict[str, object]]] = {
    "sata0": [
        {"driver": "ich9-ahci", "id": "sata0", "addr": "4", "ports": 2},
        {"driver": "ide-hd", "id": "hd0", "bus": "sata0.0", "drive": "d0"},
        {"driver": "ide-cd", "id": "cd0", "bus": "sata0.1", "drive": "c0"},
    ],
    "ide0": [
        {"driver": "piix3-ide", "id": "ide0", "addr": "4", "native": True},
        {"driver": "ide-hd", "id": "hd0", "bus": "ide0.0", "unit": 0, "drive": "d0"},
        {"driver": "ide-cd", "id": "cd0", "bus": "ide0.1", "unit": 0, "drive": "c0"},
    ],
}
READ = bytes((0x28, *bytes(7), 2, 0, 0, 0))


def machine(host: str) -> InProcessTarget:
    memory = {"driver": "memory", "size": 1 << 20}
    return InProcessTarget(
        blockdevs=[{**memory, "node-name": "d0"}, {**memory, "node-name": "c0", "read-only": True}],
        devices=HOSTS[host],
        ram=RAM,
    )


def works(target: InProcessTarget, host: str) -> None:
    """Another guest begins."""
    if host == "sata0":
        guest, _, port = boot(target, Interrupts.POLLING)
        assert guest.run(port.do(ata.read_dma_ext(0, 1))).ok
        return
    guest = Guest(target)
    (function,) = [each for each in scan(guest) if each.slot == 4]
    ide = IdeController(guest, function).channels[0]
    guest.run(probe(ide))
    assert guest.run(ide.do(0, Task(AtaCommand.READ_SECTORS, count=1, way=Way.PIO_IN, length=512))).ok


def in_the_middle(target: InProcessTarget, host: str) -> None:
    """Commands are held, of the disk and of the drive."""
    if host == "sata0":
        guest, hba, port = boot(target, Interrupts.POLLING)
        target.stop()
        port.submit(ata.write_queued(0, b"w" * 512), ata.read_queued(8, 8))
        hba.ports[1].submit(ata.AtaCommand(0xA0, lba=0x0800 << 8, room=4096, packet=READ))
    else:
        guest = Guest(target)
        (function,) = [each for each in scan(guest) if each.slot == 4]
        channels = IdeController(guest, function).channels
        for ide in channels:
            guest.run(probe(ide))
        guest.run(channels[1].packet(0, bytes(12)))
        target.stop()
        task = Task(AtaCommand.WRITE_DMA, count=3, way=Way.DMA_OUT, data=b"w" * 1536)
        table, _ = channels[0].table(task)
        channels[0].prepare(table, to_memory=False)
        channels[0].write_task(0, task)
        channels[0].start(to_memory=False)
        guest.start(channels[1].packet(0, READ, room=4096, limit=2048))
    guest.run(guest.settle())


@cache
def saved(host: str) -> bytes:
    with machine(host) as target:
        in_the_middle(target, host)
        return save_snapshot(target.assembly)


def opened(value: Any) -> Any:
    """With what devices have saved opened, too."""
    if isinstance(value, bytes) and value[:1] >= b"\x80":
        try:
            return {"opened": msgspec.msgpack.decode(value)}
        except msgspec.DecodeError:
            return value
    if isinstance(value, dict):
        return {name: opened(each) for name, each in value.items()}
    return [opened(each) for each in value] if isinstance(value, list) else value


def closed(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"opened"}:
            return msgspec.msgpack.encode(closed(value["opened"]))
        return {name: closed(each) for name, each in value.items()}
    return [closed(each) for each in value] if isinstance(value, list) else value


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield value, key
        yield from places(each)


def dict_of(value: Any, name: str) -> Any:
    """What is there under a name, wherever that is first."""
    return next(container[key] for container, key in places(value) if key == name)


VALUES = st.one_of(
    st.integers(0, 40),
    st.integers(-1, (1 << 64) - 1),
    st.booleans(),
    st.none(),
    st.binary(max_size=40),
    st.sampled_from(
        ["", "IDLE", "BUSY", "PACKET", "DATA_IN", "DATA_OUT", "DMA", "RUNNING", "STOPPING", "OFF"]
    ),
    st.just([]),
    st.just({}),
)


def mutated(where: list[int], values: list[object]) -> Callable[[Any], Any]:
    def change(state: Any) -> Any:
        whole = opened(state)
        found = list(places(whole))
        for at, value in zip(where, values, strict=True):
            container, key = found[at % len(found)]
            container[key] = value
        return closed(whole)

    return change


def check(host: str, where: list[int], values: list[object]) -> None:
    with machine(host) as target:
        data = changed(saved(host), host, mutated(where, values))
        try:
            restore_snapshot(target.assembly, data)
        except SnapshotError:
            return
        target.cont()
        target.assembly.machine.run_until_idle()
        target.assembly.machine.reset()
        target.assembly.machine.run_until_idle()
        assert target.assembly.run_state.running
        disk: Any = target.assembly.ata_units["hd0"].device
        disk.security.user, disk.security.locked, disk.accessible_max = None, False, None
        disk.bad.forget()
        works(target, host)


@pytest.mark.parametrize(
    ("field", "value"), [("status", 9), ("status", 0x80), ("interrupt", True), ("phase", "BUSY")]
)
def test_who_is_not_there_neither_works_nor_asks(field: str, value: object) -> None:
    """Nobody would end it: no reset is of a device that is not there."""

    def change(state: Any) -> Any:
        whole = opened(state)
        units = [unit for unit in dict_of(whole, "units") if unit["device"] is None]
        units[0][field] = value
        return closed(whole)

    with machine("ide0") as target, pytest.raises(SnapshotError, match="unit 1: nobody is there"):
        restore_snapshot(target.assembly, changed(saved("ide0"), "ide0", change))


MUTATIONS = st.integers(1, 3).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 5000), min_size=n, max_size=n), st.lists(VALUES, min_size=n, max_size=n)
    )
)


@pytest.mark.parametrize("host", HOSTS)
@given(MUTATIONS)
def test_anything_may_be_another_thing(host: str, mutations: tuple[list[int], list[object]]) -> None:
    check(host, *mutations)


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS)
@given(MUTATIONS)
@settings(max_examples=300)
def test_anything_may_be_another_thing_many_times(
    host: str, mutations: tuple[list[int], list[object]]
) -> None:
    check(host, *mutations)

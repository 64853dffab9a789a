"""Devices that leave while the machine is there: who may, when, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from devmodels.qtest.hotplug import EJECT, HOTPLUG_PORT, REMOVABLE
from tests.unit.qtest.bench import machine
from tests.unit.qtest.test_control import NULL, Monitor, monitor

EMPTY = 0xFFFF_FFFF
AHCI, VIRTIO_BLK, E1000, BRIDGE = 0x2922_8086, 0x1001_1AF4, 0x100E_8086, 0x0001_1B36
HBA = f"""
    {NULL}n0 -drive if=none,id=d0,file=null-co://,format=raw -device ich9-ahci,id=a0,addr=8
    -device ide-hd,drive=n0,bus=a0.0,id=hd -device ide-hd,drive=d0,bus=a0.1 -device ide-cd,bus=a0.2
"""
MIXED = f"""
    -vga std -device e1000,addr=7 {NULL}n1 -device virtio-blk-pci,drive=n1,id=vb,addr=9
    -device piix4-ide,addr=a,id=px -device pci-bridge,chassis_nr=1,id=br,addr=b
"""


def identity(ask: Monitor, slot: int) -> int:
    """The first dword of a slot on bus 0, as the guest reads it."""
    ask.board.space.io_write(0xCF8, 4, 0x8000_0000 | slot << 11)
    return ask.board.space.io_read(0xCFC, 4)


def eject(ask: Monitor, slot: int) -> None:
    """What the guest does to let a slot go."""
    ask.board.space.io_write(HOTPLUG_PORT + EJECT, 4, 1 << slot)
    ask.board.context.run_until_idle()


@contextmanager
def heard(ask: Monitor) -> Iterator[list[str]]:
    """The events, each with the path that it is of."""
    events: list[str] = []

    def hear(event: str, data: Mapping[str, object]) -> None:
        events.append(str(data.get("path", event)))

    ask.world.events.add_listener(hear)
    yield events
    ask.world.events.remove_listener(hear)


def test_an_hba_goes_with_its_disks_whose_drives_stay() -> None:
    with monitor("pc", HBA) as ask, heard(ask) as events:
        assert ask.refused("device_del", id="hd") == "Bus 'a0.0' does not support hotplugging"
        ask("device_del", id="a0")
        assert identity(ask, 8) == AHCI
        eject(ask, 8)
        assert identity(ask, 8) == EMPTY
        names = (
            "/peripheral/hd",
            "/peripheral-anon/device[0]",
            "/peripheral-anon/device[1]",
            "/peripheral/a0",
        )
        assert events == [f"/machine{name}" for name in names]
        assert [(each["device"], "qdev" in each) for each in ask("query-block")] == [("d0", False)]
        assert ask.refused("device_add", driver="ide-hd", bus="a0.1") == "Bus 'a0.1' not found"


def test_a_guest_lets_a_slot_go_that_nobody_asked_for() -> None:
    with monitor("pc", MIXED) as ask, heard(ask) as events:
        for slot, who in ((7, E1000), (9, VIRTIO_BLK)):
            assert identity(ask, slot) == who
            eject(ask, slot)
            assert identity(ask, slot) == EMPTY
        assert events == ["/machine/peripheral/vb/virtio-backend", "/machine/peripheral/vb"]


def test_what_cannot_leave_is_not_removable_and_stays() -> None:
    with monitor("pc", MIXED) as ask, heard(ask) as events:
        removable = ask.board.space.io_read(HOTPLUG_PORT + REMOVABLE, 4)
        assert removable == EMPTY & ~(1 << 0 | 1 << 1 | 1 << 2 | 1 << 0xA | 1 << 0xB)
        before = [identity(ask, slot) for slot in (0, 1, 2, 0xA, 0xB)]
        assert ask.refused("device_del", id="px") == "Device 'piix4-ide' does not support hotplugging"
        own = "/machine/unattached/device[17]"
        assert ask.refused("device_del", id=own) == "Device 'piix3-ide' does not support hotplugging"
        ask("device_del", id="br")
        eject(ask, 0x1F)
        for slot in (0, 1, 2, 0xA, 0xB):
            eject(ask, slot)
        assert [identity(ask, slot) for slot in (0, 1, 2, 0xA, 0xB)] == before
        ask("device_del", id="br")
        ask("system_reset")
        assert [identity(ask, slot) for slot in (0, 1, 2, 0xA, 0xB)] == before
        assert events == ["RESET"]


def test_what_is_on_a_bus_of_scsi_goes_before_its_host_the_newest_first() -> None:
    line = f"""
        {NULL}n0 -drive if=none,id=d0,file=null-co://,format=raw -device virtio-scsi-pci,id=s0,addr=8
        -device scsi-hd,drive=n0,id=sh -device scsi-hd,drive=d0
    """
    with monitor("pc", line) as ask, heard(ask) as events:
        ask("device_del", id="s0")
        eject(ask, 8)
        names = ("-anon/device[0]", "/sh", "/s0/virtio-backend", "/s0")
        assert events == [f"/machine/peripheral{name}" for name in names]
        assert ask("query-block") == []


def test_the_reset_is_told_of_before_what_goes_with_it() -> None:
    with monitor("pc", f"{NULL}n0 -device virtio-blk-pci,drive=n0,id=vb,addr=8") as ask, heard(ask) as events:
        ask("device_del", id="vb")
        ask("system_reset")
        assert events == ["RESET", "/machine/peripheral/vb/virtio-backend", "/machine/peripheral/vb"]
        assert identity(ask, 8) == EMPTY


@pytest.mark.parametrize("driver", ["piix3-ide", "piix4-ide"])
def test_an_ide_controller_is_not_plugged_later(driver: str) -> None:
    with monitor("pc", "") as ask:
        assert (
            ask.refused("device_add", driver=driver) == "Parameter 'driver' expects a pluggable device type"
        )


def test_a_slot_is_let_go_where_nobody_can_give_a_command() -> None:
    line = f"{NULL}n0 -device virtio-blk-pci,drive=n0,addr=8 -device ich9-ahci,addr=9"
    with machine("-M", "pc", "-nodefaults", *line.split()) as client:
        assert client.config(8, 0, 0) == VIRTIO_BLK
        assert client.ask("outl 0xae08 0x300") == "OK"
        assert (client.config(8, 0, 0), client.config(9, 0, 0)) == (EMPTY, EMPTY)

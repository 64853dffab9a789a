"""Devices that leave while the machine is there: who may, when, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from devmodels.qtest.hotplug import BUS, DOWN, EJECT, HOTPLUG_PORT, REMOVABLE, UP
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
        assert client.ask("outl 0xae08 0x100") == "OK"
        assert client.ask("outl 0xae08 0x200") == "OK"
        assert (client.config(8, 0, 0), client.config(9, 0, 0)) == (EMPTY, EMPTY)


BEHIND = f"""
    {NULL}n1 {NULL}n2 {NULL}n3
    -device pci-bridge,chassis_nr=1,id=br1,addr=5 -device pci-bridge,chassis_nr=2,id=br2,addr=6
    -device pci-bridge,chassis_nr=3,id=br3,bus=br2,addr=2
    -device virtio-blk-pci,id=v1,drive=n1,bus=br1,addr=3 -device virtio-blk-pci,id=v2,drive=n2,bus=br2,addr=4
    -device virtio-blk-pci,id=v3,drive=n3,bus=br3,addr=5
"""


def shown(ask: Monitor, bus: int) -> list[int]:
    """What the registers show of a bus: up, down, eject, removable, the bus."""
    ask.board.space.io_write(HOTPLUG_PORT + BUS, 4, bus)
    return [ask.board.space.io_read(HOTPLUG_PORT + offset, 4) for offset in (UP, DOWN, EJECT, REMOVABLE, BUS)]


def test_registers_show_the_slots_of_the_bus_that_is_selected() -> None:
    """The newest bridge comes first, with what is behind it (as QEMU 7.2 has it)."""
    with monitor("pc", BEHIND) as ask:
        assert shown(ask, 0) == [0, 0, 0, EMPTY & ~0x63, 0]
        assert shown(ask, 1) == [0, 0, 0, EMPTY & ~0x04, 1]
        for bus in (2, 3, 255):
            assert shown(ask, bus) == [0, 0, 0, EMPTY, bus]
        for bus in (256, EMPTY):
            assert shown(ask, bus) == [0, 0, 0, 0, 0]
        for place, bridge in (("9", "br1"), ("a", "br2"), ("b", "br3")):
            ask("device_add", driver="virtio-scsi-pci", bus=bridge, addr=place)
        for name in ("v1", "v2", "v3"):
            ask("device_del", id=name)
        assert [shown(ask, bus)[:2] for bus in range(4)] == [
            [0, 0],
            [0x400, 0x10],
            [0x800, 0x20],
            [0x200, 0x08],
        ]
        assert [shown(ask, bus)[:2] for bus in range(4)] == [[0, 0], [0, 0x10], [0, 0x20], [0, 0x08]]


def test_a_guest_lets_devices_behind_bridges_go() -> None:
    with monitor("pc", BEHIND) as ask, heard(ask) as events:
        for bus, slot in ((1, 5), (2, 4), (3, 2), (7, 1)):
            shown(ask, bus)
            eject(ask, slot)
        assert events == []
        for bus, slot, name in ((3, 3, "v1"), (1, 4, "v2"), (2, 5, "v3")):
            shown(ask, bus)
            eject(ask, slot)
            assert events == [f"/machine/peripheral/{name}/virtio-backend", f"/machine/peripheral/{name}"]
            events.clear()
        shown(ask, 1)
        eject(ask, 2)
        assert shown(ask, 2)[3] == EMPTY, "a bridge stays, with its bus"


def test_of_several_slots_the_first_one_goes() -> None:
    line = f"{NULL}n1 {NULL}n2 -device virtio-blk-pci,drive=n1,addr=8 -device virtio-blk-pci,drive=n2,addr=9"
    with monitor("pc", line) as ask:
        for gone in (0, 1, 2):
            assert [identity(ask, slot) == EMPTY for slot in (8, 9)] == [gone > 0, gone > 1]
            ask.board.space.io_write(HOTPLUG_PORT + EJECT, 4, 0x300 if not gone else 0x200)
            ask.board.context.run_until_idle()


def test_a_device_is_asked_for_again_after_a_millisecond() -> None:
    with monitor("pc", f"{NULL}n1 -device virtio-blk-pci,drive=n1,addr=8,id=v1") as ask:
        ask("device_del", id="v1")
        assert ask.refused("device_del", id="v1") == "Device v1 is already in the process of unplug"
        ask.board.context.step(999_999)
        assert ask.refused("device_del", id="v1") == "Device v1 is already in the process of unplug"
        ask.board.context.step(1)
        ask("device_del", id="v1")
        eject(ask, 8)
        assert identity(ask, 8) == EMPTY


def test_no_function_is_plugged_beside_a_function_0() -> None:
    told = (
        "PCI: slot {} function 0 already occupied by {}, new func virtio-scsi-pci cannot be exposed to guest."
    )
    with monitor("pc", BEHIND) as ask:
        ask("device_add", driver="virtio-scsi-pci", addr="a", id="x0")
        for addr, bus, slot, model in (
            ("a.1", "pci.0", 10, "virtio-scsi-pci"),
            ("3.1", "br1", 3, "virtio-blk-pci"),
            ("5.1", "pci.0", 5, "pci-bridge"),
            ("1.4", "pci.0", 1, "PIIX3"),
            ("0.1", "pci.0", 0, "i440FX"),
        ):
            refused = ask.refused("device_add", driver="virtio-scsi-pci", addr=addr, bus=bus, id="x1")
            assert refused == told.format(slot, model)
        ask("device_add", driver="virtio-scsi-pci", addr="c.1", id="z1")
        ask("device_add", driver="virtio-scsi-pci", addr="c.2", id="z2")
        alone = {"driver": "virtio-scsi-pci", "addr": "c", "id": "z0"}
        refused = ask.refused("device_add", **alone)
        assert refused == "PCI: c.0 indicates single function, but c.1 is already populated."
        ask("device_add", **alone, multifunction=True)

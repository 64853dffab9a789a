"""SCSI host devices and what is on their buses, by options: places, names, coming and going."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from devmodels.assembly import Assembly, assemble
from devmodels.options import OptionError
from devmodels.virtio_scsi import VirtioScsi

HOST = {"driver": "virtio-scsi-pci", "id": "scsi0"}
NODES = [{"driver": "memory", "size": 1 << 20, "node-name": f"d{n}"} for n in range(4)]


def disk(number: int, **options: object) -> dict[str, object]:
    return {"driver": "scsi-hd", "drive": f"d{number}", "id": f"disk{number}", **options}


def machine(*devices: Mapping[str, object]) -> Assembly:
    return assemble(blockdevs=NODES, devices=devices)


def places(assembly: Assembly) -> list[tuple[int, int]]:
    return [(place.target, place.lun) for place in assembly.units.values()]


@pytest.mark.parametrize("driver", ["virtio-scsi-pci", "virtio-scsi-device"])
def test_disks_get_the_first_free_places(driver: str) -> None:
    with machine(
        {"driver": driver, "id": "scsi0"}, disk(0), disk(1), disk(2, lun=5), disk(3, **{"scsi-id": 0})
    ) as a:
        assert places(a) == [(0, 0), (1, 0), (0, 5), (0, 1)]
        device = a.virtio_device("scsi0")
        assert isinstance(device, VirtioScsi)
        assert [unit[:2] for unit in device.bus.units()] == [(0, 0), (0, 1), (0, 5), (1, 0)]


def test_buses_have_the_names_that_qemu_gives_them() -> None:
    with machine(
        HOST, {"driver": "virtio-scsi-pci"}, disk(0, bus="scsi.0"), disk(1, bus="scsi0.0"), disk(2)
    ) as a:
        assert list(a.buses) == ["scsi0.0", "scsi.0"]
        hosts = list(a.buses.values())
        assert [place.host for place in a.units.values()] == [hosts[1], hosts[0], hosts[0]]


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        ([disk(0)], "device scsi-hd: no 'SCSI' bus found"),
        ([HOST, disk(0, bus="scsi1.0")], "device scsi-hd: no bus 'scsi1.0'; the SCSI buses are: scsi0.0"),
        (
            [HOST, disk(0, lun=3, **{"scsi-id": 2}), disk(1, lun=3, **{"scsi-id": 2})],
            "device scsi-hd: lun 3 of scsi-id 2 is in use",
        ),
        ([HOST, disk(0, lun=16384)], "device scsi-hd: lun is 16384, expected 0 to 16383"),
        ([HOST, disk(0, **{"scsi-id": 256})], "device scsi-hd: scsi-id is 256, expected 0 to 255"),
        ([HOST, disk(0, channel=1)], "device scsi-hd: channel is 1, expected 0"),
        ([HOST, disk(9)], "device scsi-hd: no drive 'd9'; the nodes are: d0, d1, d2, d3"),
        ([HOST, disk(0), {**disk(1), "drive": "d0"}], "device scsi-hd: drive 'd0' is in use"),
        ([HOST, disk(0, id="scsi0")], "device id 'scsi0' is taken"),
        ([HOST, disk(0), disk(1, id="disk0")], "device id 'disk0' is taken"),
        ([{**HOST, "num_queues": 0}], "device virtio-scsi-pci: num_queues is 0, expected 1 to 1022"),
        ([{**HOST, "virtqueue_size": 100}], "virtqueue_size is 100, expected a power of two from 4 to 32768"),
        ([{**HOST, "cmd_per_lun": 0}], "cmd_per_lun is 0, expected 1 to 4294967295"),
        ([HOST, HOST], "device id 'scsi0' is taken"),
        ([{"driver": "scsi-generic", "drive": "d0"}], "device driver 'scsi-generic': expected"),
    ],
)
def test_options_that_do_not_fit(devices: list[Mapping[str, object]], text: str) -> None:
    with pytest.raises(OptionError) as raised:
        machine(*devices)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_disk_goes_and_its_place_is_free() -> None:
    with machine(HOST, disk(0), disk(1)) as a:
        a.context.run(a.remove_device("disk0"))
        assert places(a) == [(1, 0)]
        a.add_device(disk(0, lun=0, **{"scsi-id": 0}))
        assert places(a) == [(1, 0), (0, 0)]


def test_a_host_takes_its_disks_along() -> None:
    with machine(HOST, disk(0), disk(1)) as a:
        a.context.run(a.remove_device("scsi0"))
        assert (a.devices, a.units, a.buses, a.backends) == ({}, {}, {}, {})
        a.add_device(HOST)
        a.add_device(disk(0))
        assert places(a) == [(0, 0)]


def test_a_disk_that_nobody_called_anything() -> None:
    with machine(HOST, {"driver": "scsi-hd", "drive": "d0"}) as a:
        assert list(a.units) == ["scsi-hd@0.0"]

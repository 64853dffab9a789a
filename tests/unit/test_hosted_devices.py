"""Devices of a daemon: each PCI function has a machine of its own, with what is on its bus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devmodels.assembly import HostedDevices
from devmodels.blockbackend import Graph
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.iocontext import IoContext
from devmodels.options import OptionError
from devmodels.runstate import RunState


@pytest.fixture
def hosted() -> Iterator[HostedDevices]:
    """Over nodes d0 to d3."""
    graph = Graph(IoContext.virtual())
    for number in range(4):
        graph.add({"driver": "memory", "node-name": f"d{number}", "size": 1 << 20})
    found = HostedDevices(graph, run_state=RunState(Events()), profile=Profile.STRICT)
    yield found
    found.close()
    graph.close()


def test_each_function_is_alone_in_its_machine(hosted: HostedDevices) -> None:
    for number in range(2):
        hosted.add({"driver": "virtio-blk-pci", "id": f"v{number}", "drive": f"d{number}"})
    one, other = hosted.machines["v0"], hosted.machines["v1"]
    assert one.machine is not other.machine
    assert one.memory is not other.memory
    assert one.memory.regions == ()
    for name, machine in hosted.machines.items():
        assert [function.name for _, _, function in machine.machine.bus.functions()] == [name]
        assert machine.memory.name == f"{name}.memory"
    assert one.run_state is other.run_state
    assert one.graph is other.graph
    assert [backend.name for backend in hosted.backends()] == ["v0", "v1"]
    found = hosted.function("v1")
    assert found is not None
    assert found[1].name == "v1"
    assert hosted.function("v2") is None


def test_units_go_to_the_machine_with_their_bus(hosted: HostedDevices) -> None:
    for number in range(2):
        hosted.add({"driver": "virtio-scsi-pci", "id": f"s{number}"})
    hosted.add({"driver": "scsi-hd", "id": "a", "bus": "s1.0", "drive": "d0"})
    hosted.add({"driver": "scsi-hd", "id": "b", "drive": "d1"})
    assert list(hosted.machines["s0"].units) == ["b"]
    assert list(hosted.machines["s1"].units) == ["a"]


def test_a_disk_goes_to_the_first_machine_with_a_place() -> None:
    graph = Graph(IoContext.virtual())
    for number in range(3):
        graph.add({"driver": "memory", "node-name": f"d{number}", "size": 1 << 20})
    hosted = HostedDevices(graph, run_state=RunState(Events()), profile=Profile.STRICT)
    try:
        for number in range(2):
            hosted.add({"driver": "ahci", "id": f"a{number}", "ports": 1})
        for number in range(2):
            hosted.add({"driver": "ide-hd", "id": f"hd{number}", "drive": f"d{number}"})
        assert [list(hosted.machines[f"a{number}"].ata_units) for number in range(2)] == [["hd0"], ["hd1"]]
        with pytest.raises(OptionError, match="no IDE bus has a place left"):
            hosted.add({"driver": "ide-hd", "drive": "d2"})
    finally:
        hosted.close()
        graph.close()


def test_who_watches_hears_of_a_function_before_its_units(hosted: HostedDevices) -> None:
    heard: list[tuple[str, int]] = []
    hosted.on_added = lambda machine: heard.append((machine.machine.name, len(machine.units)))
    hosted.add({"driver": "virtio-scsi-pci", "id": "s0"})
    hosted.add({"driver": "scsi-hd", "drive": "d1"})
    assert heard == [("s0", 0)]


def test_units_without_an_id_have_names_and_paths_of_their_own(hosted: HostedDevices) -> None:
    for number in range(2):
        hosted.add({"driver": "virtio-scsi-pci", "id": f"s{number}"})
        hosted.add({"driver": "scsi-hd", "bus": f"s{number}.0", "drive": f"d{number}"})
    assert [(backend.name, backend.qom_path) for backend in hosted.backends()] == [
        ("s0.scsi-hd@0.0", "/machine/peripheral-anon/device[0]"),
        ("s1.scsi-hd@0.0", "/machine/peripheral-anon/device[1]"),
    ]


WRONG = {
    "no driver": ({}, "driver: null is given"),
    "unknown driver": ({"driver": "e1000"}, 'driver: "e1000" is given; expected "virtio-blk-pci"'),
    "not on PCI": ({"driver": "virtio-blk-device", "drive": "d1"}, 'driver: "virtio-blk-device" is given'),
    "no id": ({"driver": "virtio-blk-pci", "drive": "d1"}, "id: missing"),
    "empty id": ({"driver": "virtio-blk-pci", "id": "", "drive": "d1"}, "id: missing"),
    "id taken": ({"driver": "virtio-blk-pci", "id": "v0", "drive": "d1"}, 'id: "v0" is taken'),
    "id taken by a unit": ({"driver": "virtio-blk-pci", "id": "u0", "drive": "d1"}, 'id: "u0" is taken'),
    "no such bus": (
        {"driver": "scsi-hd", "bus": "v0.0", "drive": "d1"},
        'bus: "v0.0" is given; the buses.*"s0.0"',
    ),
    "no such node": ({"driver": "virtio-blk-pci", "id": "v1", "drive": "d9"}, "no drive 'd9'"),
    "drive in use": ({"driver": "virtio-blk-pci", "id": "v1", "drive": "d0"}, "d0"),
    "unknown option": (
        {"driver": "virtio-blk-pci", "id": "v1", "drive": "d1", "nope": 1},
        "nope: no such option",
    ),
}


@pytest.mark.parametrize(("options", "problem"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_device_leaves_nothing(
    hosted: HostedDevices, options: dict[str, object], problem: str
) -> None:
    hosted.add({"driver": "virtio-blk-pci", "id": "v0", "drive": "d0"})
    hosted.add({"driver": "virtio-scsi-pci", "id": "s0"})
    hosted.add({"driver": "scsi-hd", "id": "u0", "drive": "d3"})
    with pytest.raises(OptionError, match=problem):
        hosted.add(options)
    assert list(hosted.machines) == ["v0", "s0"]
    hosted.add({"driver": "virtio-blk-pci", "id": "v1", "drive": "d1"})


def test_a_unit_without_a_bus_anywhere(hosted: HostedDevices) -> None:
    hosted.add({"driver": "virtio-blk-pci", "id": "v0", "drive": "d0"})
    with pytest.raises(OptionError, match="bus: missing; the buses of SCSI devices are: none"):
        hosted.add({"driver": "scsi-hd", "drive": "d1"})

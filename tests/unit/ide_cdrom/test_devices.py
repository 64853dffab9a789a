"""`piix3-ide`, `ide-hd` and `ide-cd` as options name them, and what is wrong with such options."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from devmodels.assembly import assemble
from devmodels.assembly.hosted import HostedDevices
from devmodels.blockbackend import Graph
from devmodels.conformance import Profile
from devmodels.iocontext import IoContext
from devmodels.options import OptionError
from devmodels.runstate import RunState

MEMORY = {"driver": "memory", "size": 1 << 20, "node-name": "d0"}
HOST = {"driver": "piix3-ide", "id": "ide0"}
DISK = {"driver": "ide-hd", "id": "hd0", "drive": "d0", "bus": "ide0.0", "unit": 0}


def machine(*devices: Mapping[str, object]) -> None:
    with assemble(ram=1 << 20, blockdevs=[MEMORY], devices=devices):
        pass


@pytest.mark.parametrize(
    ("devices", "problem"),
    [
        ([DISK], "no bus 'ide0.0'"),
        ([HOST, {**DISK, "bus": "ide0.2"}], "no bus 'ide0.2'"),
        ([HOST, {**DISK, "unit": 2}], "unit is 2, expected 0 to 1"),
        ([HOST, DISK, {"driver": "ide-cd", "bus": "ide0.0", "unit": 0}], "no place left"),
        ([HOST, {**DISK, "model": "x" * 41}], "model is"),
        ([HOST, {"driver": "ide-cd", "serial": "x" * 21}], "serial is"),
        ([HOST, {"driver": "ide-cd", "wwn": -1}], "wwn is"),
        ([HOST, {"driver": "piix4-ide"}], "the ports of compatibility mode are taken"),
        ([{**HOST, "native": "perhaps"}], "native"),
    ],
)
def test_what_cannot_be_says_why(devices: list[Mapping[str, object]], problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        machine(*devices)


def test_devices_take_the_places_that_are_free() -> None:
    devices = [HOST, {"driver": "ide-hd", "drive": "d0"}, {"driver": "ide-cd"}, {"driver": "ide-cd"}]
    with assemble(ram=1 << 20, blockdevs=[MEMORY], devices=devices) as assembly:
        places = {name: (place.bus_name, place.unit) for name, place in assembly.ata_units.items()}
    assert places == {
        "ide-hd@ide0.0.0": ("ide0.0", 0),
        "ide-cd@ide0.0.1": ("ide0.0", 1),
        "ide-cd@ide0.1.0": ("ide0.1", 0),
    }


def test_a_function_that_is_alone_has_no_fixed_ports() -> None:
    context = IoContext.virtual()
    hosted = HostedDevices(Graph(context), run_state=RunState(), profile=Profile.STRICT)
    with pytest.raises(OptionError, match="native is off; expected native=on"):
        hosted.add(HOST)
    assert hosted.add({**HOST, "native": True}) == "ide0"
    hosted.close()
    context.close()

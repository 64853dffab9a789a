"""Every register of a channel's bus master and of the function: every bit, at every width, from the declarations."""

from __future__ import annotations

import pytest

from devmodels.ide_cdrom.function import Timing, UltraTiming
from devmodels.ide_cdrom.registers import BusMasterRegisters, CommandBlock, ControlBlock
from devmodels.registers.check import check_registers
from guestsim.drivers.pci import scan
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.ide_cdrom.machine import IdeMachine


class Nobody:
    """Hears of everything, and does nothing."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def test_bus_master_registers_are_as_declared() -> None:
    assert check_registers(lambda: BusMasterRegisters(Nobody())) > 100


def test_timing_registers_are_as_declared() -> None:
    assert check_registers(lambda: Timing(lambda: None)) > 100
    assert check_registers(UltraTiming) > 20


@pytest.mark.parametrize(
    ("model", "number", "ultra"), [("piix3-ide", 0x7010, 0), ("piix4-ide", 0x7111, 0x3333_000F)]
)
def test_ultra_dma_is_a_piix4s(model: str, number: int, ultra: int) -> None:
    with InProcessTarget(devices=[{"driver": model}]) as target:
        (function,) = scan(Guest(target))
        assert (function.vendor, function.device, function.read(6, 2)) == (0x8086, number, 0x0280)
        function.write(0x48, 4, 0xFFFF_FFFF)
        assert function.read(0x48, 4) == ultra


def test_every_register_has_its_clause() -> None:
    for block in (CommandBlock, ControlBlock, BusMasterRegisters, Timing, UltraTiming):
        for register in block.layout().registers:
            assert "§" in register.clause, register


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(("name", "value"), [("table", 1 << 32), ("command", -1), ("nothing", 1)])
def test_registers_of_a_bus_master_that_cannot_be_are_refused_before_anything_is_taken(
    number: int, name: str, value: int
) -> None:
    with IdeMachine(probed=False) as machine:
        function = machine.function
        state = function.save()
        function.judge(state)
        with pytest.raises(ValueError, match=name):
            function.judge({**state, f"bus-master{number}.{name}": value})
        assert function.save() == state

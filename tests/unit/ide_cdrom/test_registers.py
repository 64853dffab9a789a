"""Every register of a channel's bus master and of the function: every bit, at every width, from the declarations."""

from __future__ import annotations

from devmodels.ide_cdrom.function import Timing
from devmodels.ide_cdrom.registers import BusMasterRegisters, CommandBlock, ControlBlock
from devmodels.registers.check import check_registers


class Nobody:
    """Hears of everything, and does nothing."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def test_bus_master_registers_are_as_declared() -> None:
    assert check_registers(lambda: BusMasterRegisters(Nobody())) > 100


def test_timing_registers_are_as_declared() -> None:
    assert check_registers(lambda: Timing(lambda: None)) > 100


def test_every_register_has_its_clause() -> None:
    for block in (CommandBlock, ControlBlock, BusMasterRegisters, Timing):
        for register in block.layout().registers:
            assert "§" in register.clause, register

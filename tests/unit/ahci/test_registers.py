"""Every bit of every register of the HBA, a port and configuration space: read, written and reset as declared."""

from __future__ import annotations

import pytest

from devmodels.ahci.registers import HBA_RESET, GenericHostControl, PortRegisters
from devmodels.ahci.sata import AddressMap, IndexData, SataCapability
from devmodels.registers.check import check_registers


class Deaf:
    """Owns registers whose behaviour is tested elsewhere."""

    def __getattr__(self, _name: str) -> object:
        return lambda *_: None


class Space:
    """Registers that the index/data pair leads to."""

    def read(self, offset: int, _size: int) -> int:
        return offset

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing is kept."""


@pytest.mark.slow
def test_generic_host_control() -> None:
    assert check_registers(lambda: GenericHostControl(Deaf())) > 1000  # type: ignore[arg-type]


@pytest.mark.slow
def test_port_registers() -> None:
    assert check_registers(lambda: PortRegisters(Deaf())) > 2000  # type: ignore[arg-type]


def test_configuration_space() -> None:
    assert check_registers(lambda: IndexData(Space())) > 50
    assert check_registers(AddressMap) > 50
    assert check_registers(SataCapability) > 50


def test_an_hba_reset_keeps_the_addresses() -> None:
    registers = PortRegisters(Deaf())  # type: ignore[arg-type]
    for offset in (0x00, 0x04, 0x08, 0x0C, 0x14):
        registers.write(offset, 4, 0x1234_5C00)
    registers.reset(HBA_RESET)
    assert [registers.read(offset, 4) for offset in (0x00, 0x04, 0x08, 0x0C, 0x14)] == [0x1234_5C00] * 4 + [0]

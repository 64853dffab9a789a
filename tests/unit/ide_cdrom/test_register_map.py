"""A bus master's registers as SFF-8038i §2 draws them, and the control block, written down once more by hand."""

from __future__ import annotations

from devmodels.ide_cdrom.registers import BusMasterRegisters, ControlBlock
from tests.unit.registermap import Row, check_map


class Nobody:
    """Hears of everything, and does nothing."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def test_a_bus_master() -> None:
    rows = (
        Row(0, 1, 0x09, plain=0x09),
        Row(2, 1, 0xE7, plain=0x60, clears=0x06),
        Row(4, 4, 0xFFFF_FFFC, plain=0xFFFF_FFFC),
    )
    check_map(lambda: BusMasterRegisters(Nobody()), rows)
    assert BusMasterRegisters.size == 8


def test_only_a_change_of_the_start_bit_starts_and_stops() -> None:
    told: list[str] = []

    class Owner:
        def start(self) -> None:
            told.append("start")

        def stop(self) -> None:
            told.append("stop")

    registers = BusMasterRegisters(Owner())
    for value in (0x08, 0x09, 0x01, 0x08, 0x00):
        registers.write(0, 1, value)
    assert told == ["start", "stop"]


def test_the_control_block_is_its_third_byte() -> None:
    written: list[int] = []

    class Owner:
        def alternate_status(self) -> int:
            return 0x58

        def write_control(self, value: int) -> None:
            written.append(value)

    block = ControlBlock(Owner())  # type: ignore[arg-type]
    for offset in range(4):
        block.write(offset, 1, 0xFF)
    assert written == [0x86], "HOB, SRST and nIEN"
    assert [block.read(offset, 1) for offset in range(4)] == [0, 0, 0x58, 0]

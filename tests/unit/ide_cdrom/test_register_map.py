"""A bus master's registers as SFF-8038i §2 draws them, and what a channel has, written down once more by hand."""

from __future__ import annotations

from devmodels.ide_cdrom.function import Timing, UltraTiming
from devmodels.ide_cdrom.registers import BusMasterRegisters, CommandBlock, ControlBlock
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


def test_timing() -> None:
    """Intel 290550 §2.3.9, §2.3.10: IDETIM, decoded from the beginning, and SIDETIM; 290562 §5.1.12, §5.1.13."""
    rows = (
        Row(0, 2, 0xFFFF, reset=0x8000, plain=0xFFFF),
        Row(2, 2, 0xFFFF, reset=0x8000, plain=0xFFFF),
        Row(4, 1, 0xFF, plain=0xFF),
    )
    check_map(lambda: Timing(lambda: None), rows)
    assert Timing.size == 8
    ultra = (Row(0, 1, 0x0F, plain=0x0F), Row(2, 1, 0x33, plain=0x33), Row(3, 1, 0x33, plain=0x33))
    check_map(UltraTiming, ultra)
    assert UltraTiming.size == 4


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


def test_the_command_block_is_eight_places() -> None:
    """ATA/ATAPI-7 vol. 2 §5: data at 0, of 16 or 32 bits; status and command at 7, error and features at 1."""
    written: list[tuple[object, int]] = []

    class Owner:
        def read_register(self, place: int) -> int:
            return 0x10 + place

        def write_register(self, place: int, value: int) -> None:
            written.append((int(place), value))

        def read_data(self, size: int) -> int:
            return 0x8765_4321

        def write_data(self, size: int, value: int) -> None:
            written.append((f"data {size}", value))

    block = CommandBlock(Owner())  # type: ignore[arg-type]
    assert block.size == 8
    assert [block.read(at, 1) for at in range(1, 8)] == [0x10 + at for at in range(1, 8)]
    assert (block.read(0, 2), block.read(0, 4)) == (0x4321, 0x8765_4321)
    for at in range(1, 8):
        block.write(at, 1, 0xA0 + at)
    block.write(0, 2, 0xFFFF_1234)
    block.write(0, 4, 0x8765_4321)
    assert written == [*[(at, 0xA0 + at) for at in range(1, 8)], ("data 2", 0x1234), ("data 4", 0x8765_4321)]

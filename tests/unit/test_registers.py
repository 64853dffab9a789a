"""What a guest sees of a register file, access kind by access kind."""

from __future__ import annotations

import pytest

from devmodels.registers import (
    HWINIT,
    POWER_ON,
    RC,
    RO,
    RW,
    RW1C,
    RW1S,
    SC,
    WO,
    Bank,
    Blocks,
    IllegalAccess,
    Port,
    Register,
    RegisterFile,
)
from devmodels.registers.table import table


class Channel(RegisterFile, size=0x8, widths=(1, 2, 4), resets=("warm",)):
    address = Register(0x0, 4, RW, reset={POWER_ON: 0x10, "warm": 0x20}, clause="T 3.1")
    state = Register(0x4, 1, RO, reset=1)

    def __init__(self, index: int = 0) -> None:
        super().__init__()
        self.index = index


class Slot(RegisterFile, size=4, widths=(2, 4)):
    value = Register(0, 4, RW)


class Device(RegisterFile, size=0x80, widths=(1, 2, 4), resets=("warm",)):
    """A file with one of everything."""

    control = Register(0x00, 4, clause="T 2.1")
    enable = control.bit(0, RW)
    speed = control.bits(7, 4, RW, reset={POWER_ON: 3})
    restart = control.bit(8, SC)
    version = control.bits(31, 24, HWINIT, reset=0x21)

    status = Register(0x04, 4, clause="T 2.2")
    error = status.bit(0, RW1C, reset=1)
    issue = status.bits(15, 8, RW1S)
    latched = status.bits(23, 16, RC)

    task_status = Register(0x08, 1, RO, reset=0x50)
    task_command = Register(0x08, 1, WO)
    wide = Register(0x10, 8, RW, widths=(4, 8))
    strict = Register(0x18, 4, RW, widths=(4,))
    select = Register(0x1C, 1, RW)
    slot = Bank(Slot, 0x20, select=select, count=8)
    error_code = Register(0x25, 1, RO, reset=0x77)
    data = Port(0x24, widths=(2, 4))
    channel = Blocks(Channel, 0x40, count=4, stride=0x10)

    def __init__(self) -> None:
        super().__init__()
        self.story: list[str] = []
        self.fifo = [0x1111, 0x2222]
        self.illegal: list[IllegalAccess] = []
        self.on_illegal = self.illegal.append

    @enable.on_change
    def _enabled(self, value: int) -> None:
        self.story.append(f"enable {value}")

    @restart.on_change
    def _restarted(self, value: int) -> None:
        self.story.append(f"restart {value} seen {self.restart}")

    @control.on_write
    def _control_written(self, old: int, new: int) -> None:
        self.story.append(f"control {old:#x} to {new:#x}")

    @task_status.on_read
    def _status_read(self, value: int) -> int:
        self.story.append("status read")
        return value | 1

    @task_command.on_write
    def _command_written(self, old: int, new: int) -> None:
        self.story.append(f"command {new:#x}")

    @data.on_read
    def _data_read(self, size: int) -> int:
        return self.fifo.pop(0) if size == 2 else 0xFFFF_FFFF_FFFF

    @data.on_write
    def _data_written(self, size: int, value: int) -> None:
        self.story.append(f"data {value:#x} in {size} bytes")

    @slot.factory
    def _make_slot(self, index: int) -> Slot | None:
        return Slot() if index < 3 else None

    @channel.factory
    def _make_channel(self, index: int) -> Channel | None:
        return Channel(index) if index != 2 else None


@pytest.fixture
def device() -> Device:
    return Device()


# --- access kinds


def test_first_values(device: Device) -> None:
    assert device.read(0x00, 4) == 0x2100_0030
    assert device.read(0x04, 4) == 1


def test_plain_bits_take_what_is_written_and_others_do_not(device: Device) -> None:
    device.write(0x00, 4, 0xFFFF_FFFF)
    assert device.read(0x00, 4) == 0x2100_00F1


def test_a_one_clears(device: Device) -> None:
    device.write(0x04, 4, 0)
    assert device.error == 1
    device.write(0x04, 4, 1)
    assert device.read(0x04, 4) == 0


def test_a_one_sets_and_the_device_clears(device: Device) -> None:
    device.write(0x05, 1, 0x81)
    device.write(0x05, 1, 0x02)
    assert device.read(0x05, 1) == 0x83
    device.issue = 0x80
    assert device.read(0x05, 1) == 0x80


def test_reading_clears_only_the_bytes_read(device: Device) -> None:
    device.latched = 0xA5
    assert device.read(0x04, 2) == 1
    assert device.read(0x06, 1) == 0xA5
    assert device.read(0x06, 1) == 0


def test_a_self_clearing_bit_is_seen_by_its_hook_alone(device: Device) -> None:
    device.write(0x00, 4, 0x130)
    assert "restart 1 seen 1" in device.story
    assert device.read(0x00, 4) & 0x100 == 0


def test_reading_and_writing_one_offset_reach_two_registers(device: Device) -> None:
    device.write(0x08, 1, 0xEC)
    assert device.read(0x08, 1) == 0x51
    assert device.task_command == 0xEC
    assert device.story == ["command 0xec", "status read"]


# --- hooks


def test_a_field_hook_is_called_when_the_field_changes_and_only_then(device: Device) -> None:
    device.write(0x00, 4, 0x31)
    device.write(0x00, 4, 0x31)
    device.write(0x00, 1, 0x71)
    device.write(0x00, 1, 0x30)
    assert [line for line in device.story if "enable" in line] == ["enable 1", "enable 0"]


def test_a_register_hook_is_called_at_every_write(device: Device) -> None:
    device.write(0x00, 4, 0x30)
    device.write(0x03, 1, 0xFF)
    assert device.story == ["control 0x21000030 to 0x21000030"] * 2


def test_a_subclass_can_override_a_hook() -> None:
    class Quiet(Device, size=0x80):
        def _command_written(self, old: int, new: int) -> None:
            self.story.append("overridden")

    quiet = Quiet()
    quiet.write(0x08, 1, 1)
    assert quiet.story == ["overridden"]


def test_what_the_device_stores_calls_no_hook_and_knows_no_access_kinds(device: Device) -> None:
    device.enable = 1
    device.version = 0x99
    assert device.story == []
    assert device.read(0x00, 4) == 0x9900_0031


# --- widths


def test_parts_of_a_register_are_merged(device: Device) -> None:
    device.write(0x40, 1, 0x11)
    device.write(0x42, 2, 0x4433)
    assert device.read(0x40, 4) == 0x4433_0011


def test_halves_of_a_wide_register(device: Device) -> None:
    device.write(0x14, 4, 0xDEAD_BEEF)
    assert device.read(0x10, 8) == 0xDEAD_BEEF_0000_0000
    assert device.illegal == []


@pytest.mark.parametrize(
    ("offset", "size", "reason"),
    [
        (0x18, 2, "strict does not take accesses of this size"),
        (0x12, 4, "not aligned"),
        (0x7C, 8, "outside the registers"),
        (0x80, 4, "outside the registers"),
        (-4, 4, "outside the registers"),
        (0x00, 3, "no such access size"),
    ],
)
def test_an_illegal_access_reads_zero_writes_nothing_and_is_reported(
    device: Device, offset: int, size: int, reason: str
) -> None:
    before = device.save()
    assert device.read(offset, size) == 0
    device.write(offset, size, (1 << 8 * size) - 1)
    assert device.save() == before
    assert [access.reason for access in device.illegal] == [reason, reason]
    assert [access.value for access in device.illegal] == [None, (1 << 8 * size) - 1]


def test_an_illegal_access_can_read_ones() -> None:
    class Ones(RegisterFile, size=8, fill=0xFF):
        only = Register(0, 4, RW)

    assert Ones().read(1, 1) == 0xFF
    assert Ones().read(0, 8) == 0xFFFF_FFFF_FFFF_FFFF


def test_between_registers_there_is_nothing_and_behind_them_is_the_fill() -> None:
    class Sparse(RegisterFile, size=8, widths=(1, 2, 4), lenient=True, fill=0xFF):
        only = Register(0, 4, RW)

    assert [Sparse().read(at, 1) for at in range(10)] == [0] * 8 + [0xFF] * 2
    assert Sparse().read(6, 4) == 0xFFFF_0000


def test_one_access_over_several_registers() -> None:
    class Pair(RegisterFile, size=4, widths=(1, 2, 4)):
        low = Register(0, 2, RW)
        high = Register(2, 1, RW)

    pair = Pair()
    pair.write(0, 4, 0xFF22_1234)
    assert (pair.low, pair.high, pair.read(0, 4)) == (0x1234, 0x22, 0x0022_1234)


def test_a_lenient_file_takes_any_access(device: Device) -> None:
    device.lenient = True
    device.write(0x17, 3, 0xCCBBAA)
    assert device.read(0x10, 8) == 0xAA00_0000_0000_0000
    assert device.read(0x18, 2) == 0xCCBB
    assert device.read(0x7F, 4) == 0
    assert device.illegal == []


# --- ports


class OneWay(RegisterFile, size=0x10, widths=(1, 2, 4), closed=True):
    shown = Register(0x0, 4, RO, reset=7)
    taken = Register(0x4, 4, WO)
    flags = Register(0x8, 4)
    ready = flags.bit(0, RO)
    go = flags.bit(1, RW)


@pytest.mark.parametrize(
    ("offset", "size", "value", "reason"),
    [
        (0x0, 4, 1, "shown is read only"),
        (0x2, 2, 1, "shown is read only"),
        (0x4, 4, None, "taken is write only"),
        (0x5, 1, None, "taken is write only"),
        (0xC, 4, None, "there is no register at 0xc"),
        (0xE, 2, 1, "there is no register at 0xe"),
    ],
)
def test_a_closed_file_reports_what_finds_nothing(
    offset: int, size: int, value: int | None, reason: str
) -> None:
    file = OneWay()
    seen: list[IllegalAccess] = []
    file.on_illegal = seen.append
    if value is None:
        assert file.read(offset, size) == 0
    else:
        file.write(offset, size, value)
    assert [(each.reason, each.wrong_way) for each in seen] == [(reason, True)]
    assert file.shown == 7


def test_a_closed_file_takes_what_finds_something() -> None:
    file = OneWay()
    seen: list[IllegalAccess] = []
    file.on_illegal = seen.append
    file.write(0x4, 4, 5)
    file.write(0x8, 4, 3)
    assert (file.read(0x0, 4), file.read(0x8, 4), file.taken) == (7, 2, 5)
    assert seen == []
    file.lenient = True
    file.write(0x0, 4, 1)
    assert (file.read(0x4, 4), file.read(0xC, 4), file.shown) == (0, 0, 7)
    assert seen == []


def test_a_port_answers_its_own_widths_and_registers_the_others(device: Device) -> None:
    assert [device.read(0x24, 2), device.read(0x24, 2)] == [0x1111, 0x2222]
    assert device.read(0x24, 4) == 0xFFFF_FFFF
    assert device.read(0x25, 1) == 0x77
    device.write(0x24, 2, 0x5_1234)
    assert device.story == ["data 0x1234 in 2 bytes"]


# --- arrays and banks


def test_elements_of_an_array_are_apart(device: Device) -> None:
    device.write(0x50, 4, 0xAAAA)
    assert device.read(0x40, 4) == 0x10
    assert device.read(0x50, 4) == 0xAAAA
    assert device.channel[1].address == 0xAAAA
    assert device.channel[1].index == 1


def test_an_absent_element_reads_zero_and_ignores_writes(device: Device) -> None:
    device.write(0x60, 4, 5)
    assert device.read(0x60, 4) == 0
    assert device.channel.get(2) is None
    with pytest.raises(IndexError):
        device.channel[2]


def test_an_illegal_access_in_an_element_is_reported_with_its_place(device: Device) -> None:
    assert device.read(0x51, 2) == 0
    assert device.illegal == [IllegalAccess("Device.channel[1]", 0x51, 2, None, "not aligned")]


def test_an_access_over_an_elements_end_is_illegal(device: Device) -> None:
    device.write(0x44, 8, 1)
    assert [access.reason for access in device.illegal] == ["not aligned"]
    device.write(0x40, 8, 1)
    assert "does not take" in device.illegal[1].reason


def test_the_selector_chooses_the_element_of_a_bank(device: Device) -> None:
    for index in (0, 2):
        device.write(0x1C, 1, index)
        device.write(0x20, 4, 100 + index)
    device.write(0x1C, 1, 0)
    assert device.read(0x20, 4) == 100
    assert device.slot[2].value == 102


def test_a_bank_without_the_selected_element_reads_zero(device: Device) -> None:
    device.write(0x1C, 1, 200)
    device.write(0x20, 4, 7)
    assert device.read(0x20, 4) == 0


# --- reset, straps, snapshot


def test_each_domain_resets_its_own(device: Device) -> None:
    device.write(0x00, 1, 0xF1)
    device.write(0x40, 4, 0x99)
    device.reset("warm")
    assert (device.enable, device.speed, device.channel[0].address) == (0, 0xF, 0x20)
    device.reset()
    assert (device.speed, device.channel[0].address) == (3, 0x10)


def test_no_reset_changes_what_the_make_has_set(device: Device) -> None:
    device.version = 0x42
    device.reset()
    assert device.version == 0x42


def test_an_unknown_domain_is_an_error(device: Device) -> None:
    with pytest.raises(ValueError, match="no reset domain 'cold'"):
        device.reset("cold")


def test_hardwired_bits_stay_through_writes_resets_and_restores(device: Device) -> None:
    device.hardwire(Device.strict, 0x8, writable=0xFFFF_FF00)
    device.write(0x18, 4, 0xFFFF_FFFF)
    assert device.read(0x18, 4) == 0xFFFF_FF08
    device.reset()
    assert device.read(0x18, 4) == 8
    device.restore({"strict": 0xFFFF_FFFF})
    assert device.read(0x18, 4) == 0xFFFF_FF08


def test_a_snapshot_names_what_has_changed_and_brings_it_back(device: Device) -> None:
    device.write(0x00, 1, 0x51)
    device.write(0x70, 4, 0xABCD)
    device.write(0x1C, 1, 1)
    device.write(0x20, 4, 0x77)
    state = device.save()
    assert state == {"control": 0x2100_0051, "select": 1, "slot[1].value": 0x77, "channel[3].address": 0xABCD}
    other = Device()
    other.write(0x50, 4, 1)
    other.restore(state)
    assert other.save() == state
    assert other.read(0x20, 4) == 0x77
    assert other.story == []


@pytest.mark.parametrize(
    "state",
    [
        {"nothing": 1},
        {"strict": 1 << 32},
        {"strict": -1},
        {"channel[2].address": 1},
        {"channel[9].address": 1},
        {"channel[x].address": 1},
        {"channel[1]": 1},
        {"channel[1].nothing": 1},
        {"other[1].address": 1},
    ],
)
def test_an_impossible_snapshot_is_refused(device: Device, state: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"Device|Channel"):
        device.restore(state)


# --- declarations


def test_declarations_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(TypeError, match="both answer at 0x2"):

        class Overlap(RegisterFile, size=8):
            one = Register(0, 4, RW)
            two = Register(2, 2, RW)

    with pytest.raises(TypeError, match="beyond the size"):

        class Beyond(RegisterFile, size=4):
            one = Register(4, 4, RW)

    register = Register(0, 4)
    register.bits(7, 4, RW)
    with pytest.raises(TypeError, match="overlap the field"):
        register.bits(4, 0, RW)

    with pytest.raises(TypeError, match="no bits 8:8"):
        Register(0, 1).bit(8, RW)

    with pytest.raises(TypeError, match="cannot lie at"):
        Register(2, 4, RW)

    with pytest.raises(TypeError, match="inside an array"):

        class Inside(RegisterFile, size=0x80):
            one = Register(0x40, 4, RW)
            channel = Blocks(Channel, 0x40, count=2)

    with pytest.raises(TypeError, match="isn't declared"):

        class Domains(RegisterFile, size=4):
            one = Register(0, 4, RW, reset={"lukewarm": 1})

    with pytest.raises(TypeError, match="another class's register"):

        class Foreign(Slot, size=4):
            part = Slot.value.bit(0, RW)

    with pytest.raises(TypeError, match="inherited from one class"):

        class Two(Slot, Channel, size=8):
            pass


def test_a_field_is_of_its_registers_clause_unless_it_has_one() -> None:
    class Two(RegisterFile, size=4):
        word = Register(0, 4, clause="T 5")
        plain = word.bit(0, RW)
        other = word.bits(2, 1, RW, clause="T 5.1")

    assert (Two.plain.clause, Two.other.clause) == ("T 5", "T 5.1")


def test_the_table_gives_one_row_a_register_in_order() -> None:
    rows = {row.name: row for row in table(Device)}
    assert list(rows)[:2] == ["control", "status"]
    assert rows["control"].reset == 0x2100_0030
    assert [field.name for field in rows["control"].fields] == ["version", "restart", "speed", "enable"]
    channel = rows["channel[].address"]
    assert (channel.offset, channel.count, channel.stride, channel.clause) == (0x40, 4, 0x10, "T 3.1")
    assert rows["slot[].value"].stride == 0

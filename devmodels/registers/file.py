"""A register file: the class whose body declares registers, and whose instances answer guest accesses.

An access that is exactly one register finds its plan in a dictionary; every other one (a part, several registers, an
array, a port, an illegal one) takes the slow path, which finds the pieces and treats each by the same plan with a mask
of the byte lanes touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, cast

import msgspec

from devmodels.registers.arrays import BlockArray, IllegalAccess
from devmodels.registers.declare import POWER_ON, WIDTHS, Bank, Blocks, Element, Register
from devmodels.registers.plan import Layout, ReadPlan, WritePlan


class _Hit(msgspec.Struct, frozen=True):
    """An offset inside an array: the element (None: absent), the offset in it, the bytes left in it."""

    element: RegisterFile | None
    at: int
    room: int


class RegisterFile:
    """Base of register files.  Class arguments:

    `size` in bytes; `widths`, the default access sizes of its registers; `lenient`: every access of 1 to 8 bytes is
    taken, byte lane by byte lane, and none is illegal; `closed`: writing a register that has nothing to write, reading
    one that has nothing to read, and touching what lies between registers are illegal; `fill`, the byte that an illegal
    access reads (0x00 or 0xFF); `resets`, its reset domains besides `POWER_ON`.

    An access that is not legal reads `fill`, writes nothing, and is given to `on_illegal`.  What lies between the
    registers reads 0.  An access is legal where it is naturally aligned, lies inside and has a size that every
    register it touches takes.
    """

    size: ClassVar[int] = 0
    """Bytes the file covers."""
    domains: ClassVar[tuple[str, ...]] = (POWER_ON,)
    """The reset domains."""

    _widths: ClassVar[tuple[int, ...] | None] = None
    _lenient: ClassVar[bool] = False
    _closed: ClassVar[bool] = False
    _fill: ClassVar[int] = 0
    _layout: ClassVar[Layout]
    _reads: ClassVar[dict[int, ReadPlan]]
    _writes: ClassVar[dict[int, WritePlan]]

    def __init_subclass__(
        cls,
        *,
        size: int | None = None,
        widths: tuple[int, ...] | None = None,
        lenient: bool | None = None,
        closed: bool | None = None,
        fill: int | None = None,
        resets: tuple[str, ...] | None = None,
    ) -> None:
        super().__init_subclass__()
        if size is not None:
            cls.size = size
        if widths is not None:
            cls._widths = widths
        if lenient is not None:
            cls._lenient = lenient
        if closed is not None:
            cls._closed = closed
        if fill is not None:
            cls._fill = fill
        if resets is not None:
            cls.domains = (POWER_ON, *resets)
        cls._layout = layout = Layout(cls, cls.size, cls._widths, cls.domains, closed=cls._closed)
        cls._reads = layout.reads
        cls._writes = layout.writes

    def __init__(self) -> None:
        self._values = self._layout.initial.copy()
        self._straps: dict[int, tuple[int, int]] = {}
        self._arrays: dict[str, BlockArray[RegisterFile]] = {}
        self.lenient = self._lenient
        """Whether every access is taken; set before the first one."""
        self.on_illegal: Callable[[IllegalAccess], None] | None = None

    @classmethod
    def layout(cls) -> Layout:
        """What the class body declares."""
        return cls._layout

    # --- the guest's side

    def read(self, offset: int, size: int) -> int:
        """A guest's read of `size` bytes at `offset`, little-endian."""
        plan = self._reads.get(offset << 4 | size)
        if plan is None:
            return self._read_slowly(offset, size)
        slot, readable, clears, hook = plan
        value = self._values[slot]
        if clears:
            self._values[slot] = value & ~clears
        if hook is not None:
            value = hook(self, value)
        return value & readable

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write of `size` bytes at `offset`, little-endian; excess bits of `value` are ignored."""
        plan = self._writes.get(offset << 4 | size)
        if plan is None:
            self._write_slowly(offset, size, value)
        else:
            self._store(plan, value, -1)

    def _load(self, plan: ReadPlan, lanes: int) -> int:
        slot, readable, clears, hook = plan
        value = self._values[slot]
        if clears:
            self._values[slot] = value & ~(clears & lanes)
        if hook is not None:
            value = hook(self, value)
        return value & readable & lanes

    def _store(self, plan: WritePlan, value: int, lanes: int) -> None:
        """Write `value`, which is 0 outside `lanes`, to a register."""
        slot, plain, clears, sets, self_clearing, changes, hook = plan
        values = self._values
        old = values[slot]
        plain &= lanes
        new = old & ~plain | value & plain
        if clears or sets:
            new = new & ~(value & clears) | value & sets
        if slot in self._straps:
            mask, strapped = self._straps[slot]
            new = new & ~mask | strapped
        values[slot] = new
        if old != new:
            for shift, mask, change in changes:
                field = new >> shift & mask
                if field != old >> shift & mask:
                    change(self, field)
        if hook is not None:
            hook(self, old, new)
        if self_clearing:
            self._values[slot] &= ~self_clearing

    def _read_slowly(self, offset: int, size: int) -> int:
        port = self._layout.port_reads.get(offset << 4 | size)
        if port is not None:
            return cast("int", port(self, size)) & (1 << 8 * size) - 1
        hit = self._element_at(offset)
        if hit is not None and size <= hit.room:
            return 0 if hit.element is None else hit.element.read(hit.at, size)
        if not self._allowed(offset, size, None, self._layout.read_lanes):
            return self._fill_of(size)
        value = done = 0
        while done < size:
            part, length = self._read_piece(offset + done, size - done)
            value |= part << 8 * done
            done += length
        return value

    def _read_piece(self, offset: int, room: int) -> tuple[int, int]:
        """Read at most `room` bytes that belong together: (value, how many)."""
        register = self._layout.read_lanes.get(offset)
        if register is not None:
            length = min(room, register.end - offset)
            shift = 8 * (offset - register.offset)
            lanes = (1 << 8 * length) - 1 << shift
            return self._load(self._layout.read_plans[register.slot], lanes) >> shift, length
        hit = self._element_at(offset)
        if hit is not None:
            length = min(room, hit.room)
            return 0 if hit.element is None else hit.element.read(hit.at, length), length
        return 0 if offset < self.size else self._fill, 1

    def _write_slowly(self, offset: int, size: int, value: int) -> None:
        value &= (1 << 8 * size) - 1
        port = self._layout.port_writes.get(offset << 4 | size)
        if port is not None:
            port(self, size, value)
            return
        hit = self._element_at(offset)
        if hit is not None and size <= hit.room:
            if hit.element is not None:
                hit.element.write(hit.at, size, value)
        elif self._allowed(offset, size, value, self._layout.write_lanes):
            done = 0
            while done < size:
                done += self._write_piece(offset + done, size - done, value >> 8 * done)

    def _write_piece(self, offset: int, room: int, value: int) -> int:
        """Write at most `room` bytes that belong together; returns how many."""
        register = self._layout.write_lanes.get(offset)
        if register is not None:
            length = min(room, register.end - offset)
            shift = 8 * (offset - register.offset)
            lanes = (1 << 8 * length) - 1 << shift
            self._store(self._layout.write_plans[register.slot], value << shift & lanes, lanes)
            return length
        hit = self._element_at(offset)
        if hit is not None:
            length = min(room, hit.room)
            if hit.element is not None:
                hit.element.write(hit.at, length, value & (1 << 8 * length) - 1)
            return length
        return 1

    def _element_at(self, offset: int) -> _Hit | None:
        """The array element at `offset`; None outside arrays and in the gaps between elements."""
        for block in self._layout.blocks:
            if block.offset <= offset < block.end:
                index, at = divmod(offset - block.offset, block.stride)
                room = block.element.size - at
                if room <= 0:
                    return None
                if isinstance(block, Bank):
                    index = self._values[block.select.slot]
                return _Hit(self._array(block).get(index), at, room)
        return None

    def _allowed(self, offset: int, size: int, value: int | None, lanes: dict[int, Register]) -> bool:
        """Whether the access is legal as declared; otherwise it is reported."""
        if self.lenient and offset >= 0 and 0 < size <= 8:
            return True
        reason = self._refusal(offset, size, lanes)
        wrong_way = None if reason else self._wrong_way(offset, size, lanes, writing=value is not None)
        reason = reason or wrong_way
        if reason is not None and self.on_illegal is not None:
            access = IllegalAccess(
                type(self).__name__, offset, size, value, reason, wrong_way=wrong_way is not None
            )
            self.on_illegal(access)
        return reason is None

    def _wrong_way(self, offset: int, size: int, lanes: dict[int, Register], *, writing: bool) -> str | None:
        """Why, in a closed file, a register touched takes no access of this direction, or there is none."""
        closed = self._layout.unwritable if writing else self._layout.unreadable
        for at in range(offset, offset + size) if self._closed else ():
            register = lanes.get(at)
            if register is None and self._element_at(at) is None:
                return f"there is no register at {at:#x}"
            if register is not None and register in closed:
                return f"{register.name} is {'read' if writing else 'write'} only"
        return None

    def _refusal(self, offset: int, size: int, lanes: dict[int, Register]) -> str | None:
        if size not in WIDTHS:
            return "no such access size"
        if offset < 0 or offset + size > self.size:
            return "outside the registers"
        if offset % size:
            return "not aligned"
        for at in range(offset, offset + size):
            register = lanes.get(at)
            if register is not None and size not in self._layout.legal_widths(register):
                return f"{register.name} does not take accesses of this size"
            if register is None and self._element_at(at) is not None:
                return "reaches over an array's element"
        return None

    def _fill_of(self, size: int) -> int:
        return (1 << 8 * size) - 1 if self._fill and size > 0 else 0

    # --- the device's side

    def value_of(self, register: Register) -> int:
        """What `register` holds, for code that walks registers; by name it is the attribute."""
        return self._values[register.slot]

    def hardwire(self, register: Register, value: int, *, writable: int = 0) -> None:
        """Fix a register of this instance: its bits outside `writable` hold `value` for good.

        Guest writes and resets leave them alone: this is how sizes, identities and options are strapped.
        """
        mask = (1 << 8 * register.width) - 1 & ~writable
        self._straps[register.slot] = (mask, value & mask)
        self._values[register.slot] = self._values[register.slot] & ~mask | value & mask

    def hardwired(self, register: Register) -> int:
        """The mask of the bits that `hardwire` has fixed."""
        return self._straps.get(register.slot, (0, 0))[0]

    def reset(self, domain: str = POWER_ON) -> None:
        """Give every bit that belongs to `domain` its reset value, arrays included; no hook is called.

        ValueError where the file has no such domain; elements without it are left alone.
        """
        if domain not in self.domains:
            raise ValueError(f"{type(self).__name__} has no reset domain {domain!r}")
        values = self._values
        for slot, mask, value in self._layout.resets[domain]:
            values[slot] = values[slot] & ~mask | value
        self._apply_straps()
        for array in self._arrays.values():
            for _, element in array.made():
                if domain in element.domains:
                    element.reset(domain)

    def _apply_straps(self) -> None:
        for slot, (mask, value) in self._straps.items():
            self._values[slot] = self._values[slot] & ~mask | value

    def save(self) -> dict[str, int]:
        """Every value that differs from its first one, by name (`control`, `port[3].command`)."""
        layout = self._layout
        state = {
            register.name: value
            for register, value, initial in zip(layout.registers, self._values, layout.initial, strict=True)
            if value != initial
        }
        for name, array in self._arrays.items():
            for index, element in array.made():
                state.update({f"{name}[{index}].{inner}": value for inner, value in element.save().items()})
        return state

    def judge(self, state: Mapping[str, int]) -> None:
        """ValueError where `restore` cannot take `state`, or it is of a file with other bits that nothing changes."""
        layout = self._layout
        values, elements = self._parts(state)
        for register, own, initial, fixed in zip(
            layout.registers, self._values, layout.initial, layout.fixed, strict=True
        ):
            value = values.get(register.name, initial)
            if (value ^ own) & fixed:
                name = f"{type(self).__name__}.{register.name}"
                raise ValueError(f"{name} is {value:#x} in the state, {own:#x} here")
        for element, inner_state in elements:
            element.judge(inner_state)

    def restore(self, state: Mapping[str, int]) -> None:
        """Take the values that `save` gave; no hook is called.  ValueError where a name or value is impossible."""
        given, elements = self._parts(state)
        values = self._layout.initial.copy()
        for register in self._layout.registers:
            if register.name in given:
                values[register.slot] = given[register.name]
        self._values = values
        self._apply_straps()
        for _, old in [pair for array in self._arrays.values() for pair in array.made()]:
            old.restore({})
        for element, inner_state in elements:
            element.restore(inner_state)

    def _parts(
        self, state: Mapping[str, int]
    ) -> tuple[dict[str, int], list[tuple[RegisterFile, dict[str, int]]]]:
        """Values by register, and what belongs to elements; ValueError where a name or a value is impossible."""
        widths = {register.name: register.width for register in self._layout.registers}
        values: dict[str, int] = {}
        inside: dict[tuple[str, int], dict[str, int]] = {}
        for name, value in state.items():
            width = widths.get(name)
            if width is None:
                place, inner = self._split_name(name)
                inside.setdefault(place, {})[inner] = value
            elif 0 <= value < 1 << 8 * width:
                values[name] = value
            else:
                raise ValueError(f"{type(self).__name__}.{name}: {value:#x} is not {width} bytes")
        blocks = {block.name: block for block in self._layout.blocks}
        elements: list[tuple[RegisterFile, dict[str, int]]] = []
        for (name, index), inner_state in inside.items():
            element = self._array(blocks[name]).get(index)
            if element is None:
                raise ValueError(f"{type(self).__name__}.{name} has no element {index}")
            elements.append((element, inner_state))
        return values, elements

    def _split_name(self, name: str) -> tuple[tuple[str, int], str]:
        """Take `port[3].command` apart; ValueError where there is no such array."""
        head, dot, inner = name.partition("].")
        array, bracket, index = head.partition("[")
        known = any(block.name == array for block in self._layout.blocks)
        if not (dot and bracket and known and index.isdecimal()):
            raise ValueError(f"{type(self).__name__} has no register {name!r}")
        return (array, int(index)), inner

    def _array(self, block: Blocks[Element]) -> BlockArray[Element]:
        array = self._arrays.get(block.name)
        if array is None:
            array = cast("BlockArray[RegisterFile]", BlockArray(self, block))
            self._arrays[block.name] = array
        return cast("BlockArray[Element]", array)

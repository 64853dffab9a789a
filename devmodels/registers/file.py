"""A register file: the class whose body declares registers, and whose instances answer guest accesses.

What an access does is worked out once per class.  An access that is exactly one register finds its plan in a
dictionary; every other one (a part, several registers, an array, an illegal one) takes the slow path, which finds the
pieces and treats each by the same plan with a mask of the byte lanes touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Generic, NamedTuple, TypeAlias, TypeVar, cast

from devmodels.registers.declare import (
    HWINIT,
    POWER_ON,
    RC,
    READABLE,
    RW,
    RW1C,
    RW1S,
    SC,
    WIDTHS,
    WO,
    WRITABLE,
    Access,
    Bank,
    Blocks,
    Field,
    Register,
    Reset,
)

Element = TypeVar("Element", bound="RegisterFile")


class IllegalAccess(NamedTuple):
    """An access that the declarations do not allow; `value` is None for a read; `reason` says why."""

    registers: str
    offset: int
    size: int
    value: int | None
    reason: str

    def __str__(self) -> str:
        kind = "read" if self.value is None else f"write of {self.value:#x}"
        return f"{self.registers}: {self.size}-byte {kind} at {self.offset:#x}: {self.reason}"


class _ReadPlan(NamedTuple):
    slot: int
    readable: int
    clears: int
    hook: Callable[[RegisterFile, int], int] | None


class _WritePlan(NamedTuple):
    slot: int
    plain: int
    """Bits that take what is written."""
    clears: int
    """Bits that a written 1 clears."""
    sets: int
    """Bits that a written 1 sets."""
    self_clearing: int
    changes: tuple[tuple[int, int, Callable[[RegisterFile, int], None]], ...]
    """(shift, mask, hook) of fields."""
    hook: Callable[[RegisterFile, int, int], None] | None


_Lanes: TypeAlias = dict[int, Register]


class RegisterFile:
    """Base of register files.  Class arguments:

    `size` in bytes; `widths`, the default access sizes of its registers; `lenient`: every access of 1 to 8 bytes is
    taken, byte lane by byte lane, and none is illegal; `fill`, the byte that an illegal access reads (0x00 or 0xFF);
    `resets`, its reset domains besides `POWER_ON`.

    An access that is not legal reads `fill`, writes nothing, and is given to `on_illegal`.
    """

    size: ClassVar[int] = 0
    """Bytes the file covers."""
    domains: ClassVar[tuple[str, ...]] = (POWER_ON,)
    """The reset domains."""
    registers: ClassVar[tuple[Register, ...]] = ()
    """Its registers in the order of declaration."""
    blocks: ClassVar[tuple[Blocks[RegisterFile], ...]] = ()
    """Its arrays and banks."""

    _widths: ClassVar[tuple[int, ...] | None] = None
    _lenient: ClassVar[bool] = False
    _fill: ClassVar[int] = 0
    _initial: ClassVar[list[int]] = []
    _resets: ClassVar[dict[str, tuple[tuple[int, int, int], ...]]] = {POWER_ON: ()}
    _read_plans: ClassVar[dict[int, _ReadPlan]] = {}
    _write_plans: ClassVar[dict[int, _WritePlan]] = {}
    _read_lanes: ClassVar[_Lanes] = {}
    _write_lanes: ClassVar[_Lanes] = {}
    _by_register_read: ClassVar[dict[int, _ReadPlan]] = {}
    _by_register_write: ClassVar[dict[int, _WritePlan]] = {}

    def __init_subclass__(
        cls,
        *,
        size: int | None = None,
        widths: tuple[int, ...] | None = None,
        lenient: bool | None = None,
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
        if fill is not None:
            cls._fill = fill
        if resets is not None:
            cls.domains = (POWER_ON, *resets)
        _collect(cls)
        _plan(cls)

    def __init__(self) -> None:
        self._values = self._initial.copy()
        self._straps: dict[int, tuple[int, int]] = {}
        self._arrays: dict[str, BlockArray[RegisterFile]] = {}
        self.lenient = self._lenient
        self.on_illegal: Callable[[IllegalAccess], None] | None = None

    # --- the guest's side

    def read(self, offset: int, size: int) -> int:
        """A guest's read of `size` bytes at `offset`, little-endian."""
        plan = self._read_plans.get(offset << 4 | size)
        if plan is None:
            return self._read_pieces(offset, size)
        slot, readable, clears, hook = plan
        value = self._values[slot]
        if clears:
            self._values[slot] = value & ~clears
        if hook is not None:
            value = hook(self, value)
        return value & readable

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write of `size` bytes at `offset`, little-endian; excess bits of `value` are ignored."""
        plan = self._write_plans.get(offset << 4 | size)
        if plan is None:
            self._write_pieces(offset, size, value)
        else:
            self._store(plan, value, -1)

    def _store(self, plan: _WritePlan, value: int, lanes: int) -> None:
        slot, plain, clears, sets, self_clearing, changes, hook = plan
        values = self._values
        old = values[slot]
        plain &= lanes
        new = old & ~plain | value & plain
        if clears or sets:
            ones = value & lanes
            new = new & ~(ones & clears) | ones & sets
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
            values[slot] &= ~self_clearing

    def _load(self, plan: _ReadPlan, lanes: int) -> int:
        slot, readable, clears, hook = plan
        value = self._values[slot]
        if clears:
            self._values[slot] = value & ~(clears & lanes)
        if hook is not None:
            value = hook(self, value)
        return value & readable & lanes

    def _read_pieces(self, offset: int, size: int) -> int:
        element = self._element_at(offset, size)
        if element is not None:
            block, at = element
            return 0 if block is None else block.read(at, size)
        if not self._allowed(offset, size, None, self._read_lanes):
            return int.from_bytes(bytes([self._fill]) * size, "little")
        value = 0
        for start, length in self._pieces(offset, size, self._read_lanes):
            value |= self._read_piece(start, length) << 8 * (start - offset)
        return value

    def _read_piece(self, offset: int, length: int) -> int:
        element = self._element_at(offset, length)
        if element is not None:
            block, at = element
            return 0 if block is None else block.read(at, length)
        if offset >= self.size:
            return int.from_bytes(bytes([self._fill]) * length, "little")
        register = self._read_lanes.get(offset)
        if register is None:
            return 0
        shift = 8 * (offset - register.offset)
        lanes = ((1 << 8 * length) - 1) << shift
        return self._load(self._by_register_read[register.slot], lanes) >> shift

    def _write_pieces(self, offset: int, size: int, value: int) -> None:
        element = self._element_at(offset, size)
        if element is not None:
            block, at = element
            if block is not None:
                block.write(at, size, value)
            return
        if self._allowed(offset, size, value, self._write_lanes):
            for start, length in self._pieces(offset, size, self._write_lanes):
                self._write_piece(start, length, value >> 8 * (start - offset))

    def _write_piece(self, offset: int, length: int, value: int) -> None:
        value &= (1 << 8 * length) - 1
        element = self._element_at(offset, length)
        if element is not None:
            block, at = element
            if block is not None:
                block.write(at, length, value)
            return
        register = self._write_lanes.get(offset)
        if register is not None:
            shift = 8 * (offset - register.offset)
            lanes = ((1 << 8 * length) - 1) << shift
            self._store(self._by_register_write[register.slot], value << shift, lanes)

    def _element_at(self, offset: int, length: int) -> tuple[RegisterFile | None, int] | None:
        """The array element that holds the whole range (None: absent) and the offset in it; None where none does."""
        for block in self.blocks:
            if block.offset <= offset and offset + length <= block.end:
                index, at = divmod(offset - block.offset, block.stride)
                if at + length > block.element.size:
                    return None
                if isinstance(block, Bank):
                    index = self._values[block.select.slot]
                return self._array(block).get(index), at
        return None

    def _pieces(self, offset: int, size: int, lanes: _Lanes) -> Iterator[tuple[int, int]]:
        """Cut a range where a register, a hole or an array element begins or ends."""
        end = offset + size
        while offset < end:
            register = lanes.get(offset)
            if register is not None:
                stop = register.offset + register.width
            else:
                stop = offset + 1
                element = self._element_at(offset, 1)
                while (
                    element is not None
                    and stop < end
                    and self._element_at(offset, stop + 1 - offset) is not None
                ):
                    stop += 1
            stop = min(stop, end)
            yield offset, stop - offset
            offset = stop

    def _allowed(self, offset: int, size: int, value: int | None, lanes: _Lanes) -> bool:
        """Whether the access is legal as declared; otherwise it is reported."""
        if self.lenient and offset >= 0 and 0 < size <= 8:
            return True
        reason = self._refusal(offset, size, lanes)
        if reason is None:
            return True
        if self.on_illegal is not None:
            self.on_illegal(IllegalAccess(type(self).__name__, offset, size, value, reason))
        return False

    def _refusal(self, offset: int, size: int, lanes: _Lanes) -> str | None:
        if size not in WIDTHS:
            return "no such access size"
        if offset < 0 or offset + size > self.size:
            return "outside the registers"
        if offset % size:
            return "not aligned"
        for at in range(offset, offset + size):
            register = lanes.get(at)
            if register is not None and size not in _legal_widths(self, register):
                return f"{register.name} does not take accesses of this size"
            if register is None and self._element_at(at, 1) is not None:
                return "reaches over an array's element"
        return None

    # --- the device's side

    def hardwire(self, register: Register, value: int, *, writable: int = 0) -> None:
        """Fix a register of this instance: its bits outside `writable` hold `value` for good.

        Guest writes and resets leave them alone: this is how sizes, identities and options are strapped.
        """
        mask = (1 << 8 * register.width) - 1 & ~writable
        self._straps[register.slot] = (mask, value & mask)
        self._values[register.slot] = self._values[register.slot] & ~mask | value & mask

    def value_of(self, register: Register) -> int:
        """What `register` holds, for code that walks registers; by name it is the attribute."""
        return self._values[register.slot]

    def reset(self, domain: str = POWER_ON) -> None:
        """Give every bit that belongs to `domain` its reset value, arrays included; no hook is called."""
        values = self._values
        for slot, mask, value in self._resets[domain]:
            values[slot] = values[slot] & ~mask | value
        self._apply_straps()
        for array in self._arrays.values():
            for element in array.made():
                if domain in element.domains:
                    element.reset(domain)

    def _apply_straps(self) -> None:
        for slot, (mask, value) in self._straps.items():
            self._values[slot] = self._values[slot] & ~mask | value

    def save(self) -> dict[str, int]:
        """Every value that differs from its first one, by name (`control`, `port[3].command`)."""
        state = {
            register.name: value
            for register, value, initial in zip(self.registers, self._values, self._initial, strict=True)
            if value != initial
        }
        for block in self.blocks:
            array = self._arrays.get(block.name)
            if array is not None:
                for index in array.indices():
                    for name, value in array[index].save().items():
                        state[f"{block.name}[{index}].{name}"] = value
        return state

    def restore(self, state: Mapping[str, int]) -> None:
        """Take the values that `save` gave; no hook is called.  ValueError where a name or value is impossible."""
        self._values = self._initial.copy()
        self._arrays.clear()
        for block in self.blocks:
            self.__dict__.pop(block.name, None)
        inner: dict[tuple[str, int], dict[str, int]] = {}
        by_name = {register.name: register for register in self.registers}
        for name, value in state.items():
            register = by_name.get(name)
            if register is not None:
                if not 0 <= value < 1 << 8 * register.width:
                    raise ValueError(
                        f"{type(self).__name__}.{name}: {value:#x} is more than {register.width} bytes"
                    )
                self._values[register.slot] = value
            else:
                key, rest = _split_name(type(self), name)
                inner.setdefault(key, {})[rest] = value
        self._apply_straps()
        for (name, index), values in inner.items():
            block = next(block for block in self.blocks if block.name == name)
            element = self._array(block).get(index)
            if element is None:
                raise ValueError(f"{type(self).__name__}.{name}: there is no element {index}")
            element.restore(values)

    def _array(self, block: Blocks[Element]) -> BlockArray[Element]:
        array = self._arrays.get(block.name)
        if array is None:
            array = cast("BlockArray[RegisterFile]", BlockArray(self, block))
            self._arrays[block.name] = array
        return cast("BlockArray[Element]", array)


class BlockArray(Generic[Element]):
    """The elements of an array or bank of one register file, made when first touched."""

    __slots__ = ("_block", "_made", "_owner")

    def __init__(self, owner: RegisterFile, block: Blocks[Element]) -> None:
        self._owner = owner
        self._block = block
        self._made: dict[int, Element] = {}

    def get(self, index: int) -> Element | None:
        """Element `index`, or None where there is none."""
        element = self._made.get(index)
        if element is None and 0 <= index < self._block.count:
            element = self._make(index)
        return element

    def __getitem__(self, index: int) -> Element:
        element = self.get(index)
        if element is None:
            raise IndexError(f"{self._block.name} has no element {index}")
        return element

    def made(self) -> tuple[Element, ...]:
        """The elements that have been touched."""
        return tuple(self._made.values())

    def indices(self) -> tuple[int, ...]:
        """The indices of the elements that have been touched, in order."""
        return tuple(sorted(self._made))

    def _make(self, index: int) -> Element | None:
        block = self._block
        element: Element | None
        if block.factory_name is None:
            element = block.element()
        else:
            element = getattr(self._owner, block.factory_name)(index)
            if element is None:
                return None
        owner = self._owner
        element.lenient = element.lenient or owner.lenient
        if element.on_illegal is None:
            element.on_illegal = lambda access: self._report(index, access)
        self._made[index] = element
        return element

    def _report(self, index: int, access: IllegalAccess) -> None:
        if self._owner.on_illegal is not None:
            block = self._block
            at = block.offset + (0 if isinstance(block, Bank) else index * block.stride)
            name = f"{type(self._owner).__name__}.{block.name}[{index}]"
            self._owner.on_illegal(access._replace(registers=name, offset=at + access.offset))


def _split_name(owner: type[RegisterFile], name: str) -> tuple[tuple[str, int], str]:
    """Take `port[3].command` apart; ValueError where `owner` has no such array."""
    head, dot, rest = name.partition("].")
    array, bracket, index = head.partition("[")
    if not dot or not bracket or not index.isdecimal() or all(block.name != array for block in owner.blocks):
        raise ValueError(f"{owner.__name__} has no register {name!r}")
    return (array, int(index)), rest


# --- what an access does, worked out once per class


def _legal_widths(owner: RegisterFile | type[RegisterFile], register: Register) -> tuple[int, ...]:
    if register.widths is not None:
        return register.widths
    return owner._widths if owner._widths is not None else (register.width,)


def _collect(cls: type[RegisterFile]) -> None:
    """Take the declarations from the class body, give registers their slots, and check that nothing overlaps."""
    body = cls.__dict__.values()
    own = [item for item in body if isinstance(item, Register)]
    for slot, register in enumerate(own, len(cls.registers)):
        register.slot = slot
        if register.offset + register.width > cls.size:
            raise TypeError(f"{cls.__name__}.{register.name} lies beyond the size of {cls.size:#x}")
    cls.registers = (*cls.registers, *own)
    cls.blocks = (*cls.blocks, *(item for item in body if isinstance(item, Blocks)))
    for item in body:
        if isinstance(item, Field) and item.register not in cls.registers:
            raise TypeError(f"{cls.__name__}.{item.name} belongs to a register of another class")
    for block in cls.blocks:
        if block.end > cls.size:
            raise TypeError(f"{cls.__name__}.{block.name} lies beyond the size of {cls.size:#x}")
    cls._read_lanes = _lanes(cls, READABLE)
    cls._write_lanes = _lanes(cls, WRITABLE)


def _lanes(cls: type[RegisterFile], wanted: frozenset[Access]) -> _Lanes:
    """Byte offset to the register that answers there; one with nothing to give yields to one that has."""
    lanes: _Lanes = {}
    for register in cls.registers:
        useful = not wanted.isdisjoint(_kinds(register))
        for at in range(register.offset, register.offset + register.width):
            other = lanes.get(at)
            if other is not None and useful and not wanted.isdisjoint(_kinds(other)):
                raise TypeError(f"{cls.__name__}: {register.name} and {other.name} both answer at {at:#x}")
            if other is None or useful:
                lanes[at] = register
            if any(block.offset <= at < block.end for block in cls.blocks):
                raise TypeError(f"{cls.__name__}.{register.name} lies inside an array")
    return lanes


def _kinds(register: Register) -> set[Access]:
    return {register.access, *(field.access for field in register.fields)}


def bits_by_access(register: Register) -> dict[Access, int]:
    """The mask of the bits of each access kind."""
    left = (1 << 8 * register.width) - 1
    masks: dict[Access, int] = {}
    for field in register.fields:
        mask = field.mask << field.low
        masks[field.access] = masks.get(field.access, 0) | mask
        left &= ~mask
    masks[register.access] = masks.get(register.access, 0) | left
    return masks


def _plan(cls: type[RegisterFile]) -> None:
    cls._read_plans, cls._write_plans = {}, {}
    cls._by_register_read, cls._by_register_write = {}, {}
    for register in cls.registers:
        reads, writes = _read_plan(cls, register), _write_plan(cls, register)
        cls._by_register_read[register.slot] = reads
        cls._by_register_write[register.slot] = writes
        if register.width in _legal_widths(cls, register):
            key = register.offset << 4 | register.width
            if register.offset % register.width == 0 and cls._read_lanes[register.offset] is register:
                cls._read_plans[key] = reads
            if register.offset % register.width == 0 and cls._write_lanes[register.offset] is register:
                cls._write_plans[key] = writes
    cls._resets = {domain: _reset_plan(cls, domain) for domain in cls.domains}
    cls._initial = [_initial(register) for register in cls.registers]


def _read_plan(cls: type[RegisterFile], register: Register) -> _ReadPlan:
    masks = bits_by_access(register)
    readable = sum(mask for access, mask in masks.items() if access in READABLE)
    hook = None if register.read_hook is None else getattr(cls, register.read_hook)
    return _ReadPlan(register.slot, readable, masks.get(RC, 0), hook)


def _write_plan(cls: type[RegisterFile], register: Register) -> _WritePlan:
    masks = bits_by_access(register)
    changes = tuple(
        (field.low, field.mask, getattr(cls, field.change_hook))
        for field in register.fields
        if field.change_hook is not None
    )
    return _WritePlan(
        slot=register.slot,
        plain=masks.get(RW, 0) | masks.get(WO, 0),
        clears=masks.get(RW1C, 0),
        sets=masks.get(RW1S, 0) | masks.get(SC, 0),
        self_clearing=masks.get(SC, 0),
        changes=changes,
        hook=None if register.write_hook is None else getattr(cls, register.write_hook),
    )


def _value_in(reset: Reset, domain: str) -> int | None:
    return reset if isinstance(reset, int) else reset.get(domain)


def _initial(register: Register) -> int:
    value = _value_in(register.reset, POWER_ON) or 0
    for field in register.fields:
        value &= ~(field.mask << field.low)
        value |= (_value_in(field.reset, POWER_ON) or 0) << field.low
    return value


def _reset_plan(cls: type[RegisterFile], domain: str) -> tuple[tuple[int, int, int], ...]:
    """(slot, mask of bits that the domain resets, their value)."""
    plan = []
    for register in cls.registers:
        rest = (1 << 8 * register.width) - 1
        mask = value = 0
        for field in register.fields:
            bits = field.mask << field.low
            rest &= ~bits
            fresh = _value_in(field.reset, domain)
            if fresh is not None and field.access is not HWINIT:
                mask |= bits
                value |= fresh << field.low
        fresh = _value_in(register.reset, domain)
        if fresh is not None and register.access is not HWINIT:
            mask |= rest
            value |= fresh & rest
        if mask:
            plan.append((register.slot, mask, value))
    return tuple(plan)

"""A test for any register file: every bit, read, written and reset, at every legal width and lane.

The expectation is worked out bit by bit from the declarations, not from the plans by which accesses are answered.
Registers whose hooks change what is read or held are named in `behaving` and left to tests of their own.

    check_registers(lambda: Type0Header(owner), behaving=[Type0Header.command])
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from devmodels.registers.declare import (
    HWINIT,
    RC,
    RESERVED,
    SC,
    WO,
    Access,
    Register,
)
from devmodels.registers.file import RegisterFile

_HIDDEN = frozenset({WO, SC, RESERVED})


def check_registers(make: Callable[[], RegisterFile], *, behaving: Collection[Register] = ()) -> int:
    """Check every register of what `make` makes; AssertionError says which access went wrong. Returns how many passed.

    `make` is called for each start: every pattern is written to a fresh instance and to one whose bits have all been
    written with ones.  Elements of arrays are to be checked as register files of their own.
    """
    checked = 0
    for register in make().layout().registers:
        if register not in behaving:
            checked += sum(_check(make, register, bits) for bits in ([], [_ones(register)]))
    return checked


def _check(make: Callable[[], RegisterFile], register: Register, before: list[int]) -> int:
    """Every access to one register, after `before` was written to it."""
    accesses = 0
    for offset, size in _lanes(make(), register):
        for pattern in _patterns(size):
            registers = make()
            model = _Model(registers, register)
            for value in before:
                _whole_write(registers, register, value)
                model.write(value, _ones(register))
            _check_access(registers, model, offset, size, pattern)
            _check_resets(registers, model)
            accesses += 1
    return accesses


def _check_access(registers: RegisterFile, model: _Model, offset: int, size: int, pattern: int) -> None:
    register = model.register
    shift = 8 * (offset - register.offset)
    lanes = (1 << 8 * size) - 1 << shift
    story = f"{type(registers).__name__}.{register.name}: {pattern:#x} written to {size} bytes at {offset:#x}"
    others = _others(registers, register)
    if model.answers_writes:
        registers.write(offset, size, pattern)
        model.write(pattern << shift, lanes)
    if model.answers_reads:
        for turn in ("first", "second"):
            seen = registers.read(offset, size)
            expected = model.read(lanes) >> shift
            assert seen == expected, f"{story}: the {turn} read gave {seen:#x}, not {expected:#x}"
    held = registers.value_of(register)
    assert held == model.held, f"{story}: the device holds {held:#x}, not {model.held:#x}"
    assert _others(registers, register) == others, f"{story}: another register has changed"


def _check_resets(registers: RegisterFile, model: _Model) -> None:
    """Reset each domain, from ones after the first: what one has reset, the next one could not show."""
    register = model.register
    for domain in registers.domains:
        registers.reset(domain)
        model.reset(domain)
        held = registers.value_of(register)
        assert held == model.held, (
            f"{type(registers).__name__}.{register.name}: after reset {domain} the device holds {held:#x}, "
            f"not {model.held:#x}"
        )
        _whole_write(registers, register, _ones(register))
        model.write(_ones(register), _ones(register))


class _Model:
    """One register, bit by bit."""

    def __init__(self, registers: RegisterFile, register: Register) -> None:
        self.register = register
        self.held = registers.value_of(register)
        self.access: list[Access] = [register.access] * (8 * register.width)
        self.resets: list[dict[str, int]] = [
            self._domains(registers, register.reset, bit) for bit in range(8 * register.width)
        ]
        for field in register.fields:
            for bit in range(field.low, field.high + 1):
                self.access[bit] = field.access
                self.resets[bit] = self._domains(registers, field.reset, bit - field.low)
        fixed = registers.hardwired(register)
        for bit in range(8 * register.width):
            if fixed >> bit & 1:
                shown = self.access[bit] not in _HIDDEN
                self.access[bit] = HWINIT if shown else RESERVED
        layout = registers.layout()
        self.answers_reads = layout.read_lanes[register.offset] is register
        self.answers_writes = layout.write_lanes[register.offset] is register

    @staticmethod
    def _domains(registers: RegisterFile, reset: object, bit: int) -> dict[str, int]:
        if isinstance(reset, int):
            return dict.fromkeys(registers.domains, reset >> bit & 1)
        assert isinstance(reset, Mapping)
        return {domain: value >> bit & 1 for domain, value in reset.items()}

    def _bits(self, lanes: int) -> Iterator[int]:
        return (bit for bit in range(8 * self.register.width) if lanes >> bit & 1)

    def write(self, value: int, lanes: int) -> None:
        for bit in self._bits(lanes):
            written = value >> bit & 1
            match self.access[bit]:
                case Access.RW | Access.WO:
                    self._set(bit, written)
                case Access.RW1C if written:
                    self._set(bit, 0)
                case Access.RW1S if written:
                    self._set(bit, 1)

    def read(self, lanes: int) -> int:
        seen = 0
        for bit in self._bits(lanes):
            if self.access[bit] not in _HIDDEN:
                seen |= self.held & 1 << bit
            if self.access[bit] is RC:
                self._set(bit, 0)
        return seen

    def reset(self, domain: str) -> None:
        for bit, values in enumerate(self.resets):
            if domain in values and self.access[bit] is not HWINIT:
                self._set(bit, values[domain])

    def _set(self, bit: int, value: int) -> None:
        self.held = self.held & ~(1 << bit) | value << bit


def _lanes(registers: RegisterFile, register: Register) -> Iterator[tuple[int, int]]:
    """(offset, size) of every legal access inside `register`."""
    for size in registers.layout().legal_widths(register):
        if size <= register.width:
            for offset in range(register.offset, register.end, size):
                if offset % size == 0:
                    yield offset, size


def _patterns(size: int) -> Iterator[int]:
    ones = (1 << 8 * size) - 1
    yield from (0, ones, ones // 3, ones // 3 * 2)
    yield from (1 << bit for bit in range(8 * size))


def _whole_write(registers: RegisterFile, register: Register, value: int) -> None:
    """Write a whole register in the largest accesses that it takes."""
    size = max(size for size in registers.layout().legal_widths(register) if size <= register.width)
    if registers.layout().write_lanes[register.offset] is register:
        for at in range(0, register.width, size):
            registers.write(register.offset + at, size, value >> 8 * at & (1 << 8 * size) - 1)


def _ones(register: Register) -> int:
    return (1 << 8 * register.width) - 1


def _others(registers: RegisterFile, register: Register) -> list[int]:
    return [registers.value_of(other) for other in registers.layout().registers if other is not register]

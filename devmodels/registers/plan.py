"""What the declarations of a class body come to: checks, and the plans by which accesses are answered.

A `Layout` is made once per class.  Its parts are looked up by an access's key (`offset << 4 | size`), by the byte lane
touched, or by a register's slot (its place in an instance's list of values).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from devmodels.registers.declare import (
    HWINIT,
    POWER_ON,
    RC,
    READABLE,
    RW,
    RW1C,
    RW1S,
    SC,
    WO,
    WRITABLE,
    Access,
    Blocks,
    Field,
    Port,
    Register,
    Reset,
)

if TYPE_CHECKING:
    from devmodels.registers.file import RegisterFile


T = TypeVar("T")


class ReadPlan(NamedTuple):
    """How a register is read: the bits that show, those that a read clears, and the hook."""

    slot: int
    readable: int
    clears: int
    hook: Callable[[RegisterFile, int], int] | None


class WritePlan(NamedTuple):
    """How a register is written.

    `plain` bits take what is written; a written 1 clears `clears` and sets `sets`; `self_clearing` ones are 0 again
    after the hooks.  `changes` lists (shift, mask, hook) of fields.
    """

    slot: int
    plain: int
    clears: int
    sets: int
    self_clearing: int
    changes: tuple[tuple[int, int, Callable[[RegisterFile, int], None]], ...]
    hook: Callable[[RegisterFile, int, int], None] | None


class Layout:
    """The plans of one register file class; TypeError where its declarations contradict each other."""

    __slots__ = (
        "blocks",
        "fixed",
        "initial",
        "port_reads",
        "port_writes",
        "ports",
        "read_lanes",
        "read_plans",
        "reads",
        "registers",
        "resets",
        "size",
        "title",
        "unreadable",
        "unwritable",
        "widths",
        "write_lanes",
        "write_plans",
        "writes",
    )

    def __init__(
        self,
        owner: type[RegisterFile],
        size: int,
        widths: tuple[int, ...] | None,
        domains: tuple[str, ...],
        *,
        closed: bool = False,
    ) -> None:
        inherited = _inherited(owner)
        own = list(owner.__dict__.values())
        self.title = owner.__name__
        self.size = size
        self.widths = widths
        # A register of the same name takes the place of the one that is inherited.
        anew = {register.name: register for register in _of(own, Register)}
        kept = tuple(anew.pop(register.name, register) for register in inherited.registers)
        self.registers: tuple[Register, ...] = (*kept, *anew.values())
        self.blocks: tuple[Blocks[RegisterFile], ...] = (*inherited.blocks, *_of(own, Blocks))
        self.ports: tuple[Port, ...] = (*inherited.ports, *_of(own, Port))
        self._check_places(own)
        self._check_domains(domains)
        for slot, register in enumerate(self.registers):
            register.slot = slot
        self.unreadable = self._without(READABLE) if closed else frozenset()
        self.unwritable = self._without(WRITABLE) if closed else frozenset()
        self.read_lanes = self._lanes(READABLE)
        self.write_lanes = self._lanes(WRITABLE)
        self.read_plans = [_read_plan(owner, register) for register in self.registers]
        self.write_plans = [_write_plan(owner, register) for register in self.registers]
        self.reads: dict[int, ReadPlan] = {}
        self.writes: dict[int, WritePlan] = {}
        self._key_whole_registers()
        self.port_reads = _port_hooks(owner, [(port, port.read_hook) for port in self.ports])
        self.port_writes = _port_hooks(owner, [(port, port.write_hook) for port in self.ports])
        self.initial = [_initial(register) for register in self.registers]
        self.fixed = [bits_by_access(register).get(HWINIT, 0) for register in self.registers]
        self.resets = {domain: _reset_plan(self.registers, domain) for domain in domains}

    def legal_widths(self, register: Register) -> tuple[int, ...]:
        """The access sizes that `register` takes."""
        if register.widths is not None:
            return register.widths
        return self.widths if self.widths is not None else (register.width,)

    def _without(self, wanted: frozenset[Access]) -> frozenset[Register]:
        """The registers that have no bit of the kinds wanted."""
        return frozenset(
            register for register in self.registers if wanted.isdisjoint(bits_by_access(register))
        )

    def _check_places(self, own: list[object]) -> None:
        ends = [(item.name, item.end) for item in self.registers]
        ends += [(block.name, block.end) for block in self.blocks]
        ends += [(port.name, port.end) for port in self.ports]
        for name, end in ends:
            if end > self.size:
                raise TypeError(f"{self.title}.{name} lies beyond the size of {self.size:#x}")
        for item in own:
            if isinstance(item, Field) and item.register not in own:
                raise TypeError(f"{self.title}.{item.name} is a field of another class's register")

    def _check_domains(self, domains: tuple[str, ...]) -> None:
        for register in self.registers:
            items: list[Register | Field] = [register, *register.fields]
            for item in items:
                if not isinstance(item.reset, int) and not set(item.reset) <= set(domains):
                    raise TypeError(
                        f"{self.title}.{item.name} has a reset value for a domain that isn't declared"
                    )

    def _lanes(self, wanted: frozenset[Access]) -> dict[int, Register]:
        """Byte offset to the register that answers there; one with nothing to give yields to one that has."""
        lanes: dict[int, Register] = {}
        for register in self.registers:
            useful = not wanted.isdisjoint(bits_by_access(register))
            for at in range(register.offset, register.end):
                other = lanes.get(at)
                if other is not None and useful and not wanted.isdisjoint(bits_by_access(other)):
                    raise TypeError(f"{self.title}: {register.name} and {other.name} both answer at {at:#x}")
                if other is None or useful:
                    lanes[at] = register
                if any(block.offset <= at < block.end for block in self.blocks):
                    raise TypeError(f"{self.title}.{register.name} lies inside an array")
        return lanes

    def _key_whole_registers(self) -> None:
        """Give every access that is exactly one register its plan."""
        for register in self.registers:
            if register.width in self.legal_widths(register) and register.offset % register.width == 0:
                key = register.offset << 4 | register.width
                if self.read_lanes[register.offset] is register and register not in self.unreadable:
                    self.reads[key] = self.read_plans[register.slot]
                if self.write_lanes[register.offset] is register and register not in self.unwritable:
                    self.writes[key] = self.write_plans[register.slot]


@cache
def bits_by_access(register: Register) -> Mapping[Access, int]:
    """The mask of the bits of each access kind that `register` has, with all of its fields."""
    left = (1 << 8 * register.width) - 1
    masks: dict[Access, int] = {}
    for field in register.fields:
        mask = field.mask << field.low
        masks[field.access] = masks.get(field.access, 0) | mask
        left &= ~mask
    if left:
        masks[register.access] = masks.get(register.access, 0) | left
    return masks


class _Inherited(msgspec.Struct, frozen=True):
    registers: tuple[Register, ...] = ()
    blocks: tuple[Blocks[RegisterFile], ...] = ()
    ports: tuple[Port, ...] = ()


def _inherited(owner: type[RegisterFile]) -> _Inherited:
    layouts = [
        layout for base in owner.__bases__ if isinstance(layout := getattr(base, "_layout", None), Layout)
    ]
    if len(layouts) > 1:
        raise TypeError(f"{owner.__name__}: registers can be inherited from one class only")
    return _Inherited(layouts[0].registers, layouts[0].blocks, layouts[0].ports) if layouts else _Inherited()


def _of(items: list[object], kind: type[T]) -> tuple[T, ...]:
    return tuple(item for item in items if isinstance(item, kind))


def _read_plan(owner: type[RegisterFile], register: Register) -> ReadPlan:
    masks = bits_by_access(register)
    readable = sum(mask for access, mask in masks.items() if access in READABLE)
    hook = None if register.read_hook is None else getattr(owner, register.read_hook)
    return ReadPlan(register.slot, readable, masks.get(RC, 0), hook)


def _write_plan(owner: type[RegisterFile], register: Register) -> WritePlan:
    masks = bits_by_access(register)
    changes = tuple(
        (field.low, field.mask, getattr(owner, field.change_hook))
        for field in register.fields
        if field.change_hook is not None
    )
    return WritePlan(
        slot=register.slot,
        plain=masks.get(RW, 0) | masks.get(WO, 0),
        clears=masks.get(RW1C, 0),
        sets=masks.get(RW1S, 0) | masks.get(SC, 0),
        self_clearing=masks.get(SC, 0),
        changes=changes,
        hook=None if register.write_hook is None else getattr(owner, register.write_hook),
    )


def _port_hooks(
    owner: type[RegisterFile], ports: list[tuple[Port, str | None]]
) -> dict[int, Callable[..., int | None]]:
    return {
        port.offset << 4 | width: getattr(owner, hook)
        for port, hook in ports
        if hook is not None
        for width in port.widths
    }


def _value_in(reset: Reset, domain: str) -> int | None:
    return reset if isinstance(reset, int) else reset.get(domain)


def _initial(register: Register) -> int:
    value = _value_in(register.reset, POWER_ON) or 0
    for field in register.fields:
        value &= ~(field.mask << field.low)
        value |= (_value_in(field.reset, POWER_ON) or 0) << field.low
    return value


def _reset_plan(registers: tuple[Register, ...], domain: str) -> tuple[tuple[int, int, int], ...]:
    """(slot, mask of the bits that the domain resets, their value)."""
    plan = []
    for register in registers:
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

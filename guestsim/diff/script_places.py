"""What a script's guest has done, as accesses to windows of a device that lies where the table of devices has it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from guestsim.diff.access import Access, Loose, Read, Rest, Step, Store, Wait, Write
from guestsim.diff.arena import ARENA, ARENA_SIZE
from guestsim.diff.device import FUNCTION
from guestsim.diff.script_record import PORT, Bars, Recorded

if TYPE_CHECKING:
    from guestsim.diff.device import Device
    from guestsim.diff.script_record import Record
    from guestsim.diff.sides import Windows

_BAR0, _BARS_END, _ROM, _ROM_END = 0x10, 0x28, 0x30, 0x34
_ALIASES = frozenset(
    {
        "common-none",
        "common-beyond",
        "isr-msix",
        "legacy-isr-msix",
        "legacy-none",
        "device-msix",
        "data",
        "identity",
    }
)
"""Windows that are others' under another name, for masks."""
_AT_ONCE = frozenset({"pci", "msix", "msixcap", "common", "device"})
"""Windows in which what is written starts nothing that a guest could be too early to look for."""


class Translation:
    """The accesses of `record` as those of a device; what no access of its can say is added to `record.beyond`."""

    def __init__(self, device: Device, record: Record) -> None:
        self._record = record
        with tempfile.TemporaryDirectory(prefix="guestsim-") as name:
            side = device.our_side(Path(name))
            bars = side.do([Read("pci", _BAR0 + 4 * bar, 4) for bar in range(6)])
            self._windows: Windows = side.windows
            side.close()
        self._there = tuple(bars)
        self._early = False
        """Whether the other side may not have come to what was written."""

    def steps(self, *, last_is_read: bool) -> list[Step]:
        """All of them; the last read is that of the difference, where this was one."""
        steps = []
        for number, one in enumerate(self._record.steps, 1):
            is_last = last_is_read and number == len(self._record.steps)
            found: list[Access] = []
            for at, recorded in enumerate(one.accesses, 1):
                for access in self._of(recorded, wanted=is_last and at == len(one.accesses)):
                    if isinstance(access, Wait) and found and isinstance(found[-1], Rest):
                        found.pop()
                    found.append(access)
            if found:
                steps.append(Step(one.name.replace("_", " "), tuple(found), one.tags))
        return steps

    def _of(self, recorded: Recorded, *, wanted: bool) -> Iterator[Access]:
        """One access; none where it is left out."""
        access = recorded.access
        match access:
            case Read() | Write():
                yield from self._register(access, recorded.bars, wanted=wanted)
            case Store(address, data):
                if self._inside(address, len(data)):
                    yield access
            case Loose(_, address, length):
                if self._inside(address, length):
                    yield access
            case Rest() | Wait():
                self._early = False
                yield access

    def _inside(self, address: int, length: int) -> bool:
        inside = ARENA <= address <= address + length <= ARENA + ARENA_SIZE
        if not inside:
            self._record.beyond["memory outside that of sequences"] = None
        return inside

    def _register(self, access: Read | Write, bars: Bars, *, wanted: bool) -> Iterator[Access]:
        place = self._place(access.offset, access.size, bars, port=access.window == PORT)
        if place is None:
            self._record.beyond["registers that the device's windows do not have"] = None
            return
        window, offset, in_configuration = place
        if (
            in_configuration
            and not wanted
            and (isinstance(access, Read) or _is_placing(in_configuration - 1))
        ):
            # Addresses are the table's, and so is where capabilities lie; a read changes nothing.
            return
        if isinstance(access, Write):
            self._early = self._early or window not in _AT_ONCE
        elif self._early and (access.but is None or access.but[1] is not None):
            self._early = False
            yield Rest()
        yield replace(access, window=window, offset=offset)

    def _place(self, address: int, size: int, bars: Bars, *, port: bool) -> tuple[str, int, int] | None:
        """Window, offset, and 1 + the offset in configuration space (0: elsewhere); None for no window."""
        function = self._record.function
        in_configuration = 0
        if not port and function <= address < function + FUNCTION.size:
            in_configuration = address - function + 1
            address += FUNCTION.base - function
        else:
            address = self._moved(address, bars, port=port)
        found = [
            (window.size, name, address - window.base)
            for name, window in self._windows.items()
            if name not in _ALIASES
            and window.port is port
            and window.base <= address <= address + size <= window.base + window.size
        ]
        if not found:
            return None
        _, name, offset = min(found)
        return name, offset, in_configuration

    def _moved(self, address: int, bars: Bars, *, port: bool) -> int:
        """Where the device of the table has what the script's has there."""
        bases = [(base, bar) for bar, base in _bases(bars, port=port) if 0 < base <= address]
        there = dict(_bases(self._there, port=port))
        if not bases or (bar := max(bases)[1]) not in there:
            return address
        return address - max(bases)[0] + there[bar]


def _bases(bars: Bars, *, port: bool) -> Iterator[tuple[int, int]]:
    """Number and address of each BAR in one of the two spaces (PCI 3.0 §6.2.5.1)."""
    bar = 0
    while bar < len(bars):
        low = bars[bar]
        if low & 1:
            if port:
                yield bar, low & ~3
            bar += 1
            continue
        wide = low & 6 == 4 and bar + 1 < len(bars)
        if not port:
            yield bar, (bars[bar + 1] << 32 if wide else 0) | low & ~0xF
        bar += 2 if wide else 1


def _is_placing(offset: int) -> bool:
    """Whether a write there gives the function its addresses."""
    return _BAR0 <= offset < _BARS_END or _ROM <= offset < _ROM_END

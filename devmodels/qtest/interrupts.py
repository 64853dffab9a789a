"""A PC's interrupt lines on their way to the I/O APIC's inputs, where clients listen.

ISA lines go to the input of their number.  PIRQA to PIRQD (of q35: A to H) go to the ISA line that the ISA bridge's
routing registers name, and on q35 always to inputs 16 to 23 as well (Intel 290550 §2.2.8; Intel 316972 §13.1.20,
§5.9).  There is no interrupt controller behind: nobody masks, and nobody acknowledges.
"""

from __future__ import annotations

from collections.abc import Callable

from devmodels.pci.bus import Wiring, intx_line

INPUTS = 24
PIRQ_INPUT = 16
ROUTED_NOWHERE = 0x80
ISA_LINES = 16

INPUT_DEVICES = ("ioapic", "/machine/q35/ioapic", "/machine/i440fx/ioapic", "/machine/unattached/ioapic")

PC_WIRING = Wiring(4, lambda slot, pin: (slot + pin - 2) % 4)
"""Slot 0's INTA# would be PIRQD's: the ISA bridge itself is slot 1."""


def _q35_line(slot: int, pin: int) -> int:
    """The reset values of D25IR to D31IR send INTA# to INTD# to PIRQA to PIRQD; slot 30 has no such choice."""
    if slot in (25, 26, 27, 28, 29, 31):
        return pin - 1
    if slot == 30:
        return 4 + pin - 1
    return 4 + intx_line(slot, pin)


Q35_WIRING = Wiring(8, _q35_line)


class InterruptLines:
    """`tell` gets a line of the protocol for each change, once somebody listens.

    `find` has the path of another device, where there is one that clients call so.
    """

    def __init__(
        self,
        pirqs: int,
        *,
        to_apic: bool,
        tell: Callable[[str], None],
        find: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._tell = tell
        self._find = find
        self._to_apic = to_apic
        self._pirqs = [False] * pirqs
        self._routes = [ROUTED_NOWHERE] * pirqs
        self._isa = [False] * ISA_LINES
        self._forced: dict[int, bool] = {}
        """Inputs whose level a client has set."""
        self._levels = [False] * INPUTS
        self._told = [False] * INPUTS
        self._intercepted: str | None = None
        """The device whose inputs or outputs are intercepted; it stays that one, as in QEMU."""
        self._listening = False

    # --- the board's side

    def isa(self, line: int, level: bool) -> None:
        """A device on an ISA line of its own."""
        if line < ISA_LINES:
            self._isa[line] = level
            self._settle()

    def pirq(self, line: int, level: bool) -> None:
        """A PCI interrupt line, 0 for PIRQA."""
        self._pirqs[line] = level
        self._settle()

    def route(self, line: int, register: int) -> None:
        """The ISA bridge's routing register of a PIRQ was written."""
        self._routes[line] = register
        self._settle()

    def _settle(self) -> None:
        levels = [*self._isa, *([False] * (INPUTS - ISA_LINES))]
        for line, high in enumerate(self._pirqs):
            if high and self._to_apic:
                levels[PIRQ_INPUT + line] = True
            if high and not self._routes[line] & ROUTED_NOWHERE:
                levels[self._routes[line] & 0xF] = True
        for line, forced in self._forced.items():
            levels[line] = forced
        before, self._levels = self._levels, levels
        if self._listening and levels != before:
            for line, level in enumerate(levels):
                # As on QEMU, a line that was high before anybody listened is told of when it rises again.
                if level is not before[line] and level is not self._told[line]:
                    self._told[line] = level
                    self._tell(f"IRQ {'raise' if level else 'lower'} {line}\n")

    def level(self, line: int) -> bool:
        """Whether an input is high."""
        return self._levels[line]

    @property
    def forced(self) -> list[tuple[int, bool]]:
        """Inputs whose level a client has set, with that."""
        return sorted(self._forced.items())

    @forced.setter
    def forced(self, forced: list[tuple[int, bool]]) -> None:
        self._forced = dict(forced)
        self._settle()

    # --- the client's side

    def intercept(self, path: str, *, outputs: bool) -> str | None:
        """Tell of the I/O APIC's inputs from the next change on; returns why not.

        As in QEMU 7.2, the first device that is asked for is the one, whether or not it has such lines (no other one
        here has), its inputs or its outputs are what was asked for first, and names make no difference.
        """
        device = INPUT_DEVICES[0] if path in INPUT_DEVICES else self._find(path)
        if device is None:
            return "Unknown device"
        if self._intercepted is None:
            self._intercepted = device
            self._listening = device == INPUT_DEVICES[0] and not outputs
        return None if device == self._intercepted else "IRQ intercept already enabled"

    def tell_anew(self) -> None:
        """Another client has come, who was told nothing yet: for it, as on QEMU, all lines are low."""
        self._told = [False] * INPUTS

    def set(self, path: str, name: str, number: int, level: int) -> str | None:
        """Force an input of the I/O APIC; returns why not."""
        if path not in INPUT_DEVICES:
            return "Unknown device"
        if name != "unnamed-gpio-in" or number >= INPUTS:
            return f"There is no input {name} {number}"
        self._forced[number] = bool(level)
        self._settle()
        return None

"""An AHCI driver as an operating system has it (AHCI 1.3.1 §10): the HBA, its ports brought up, its interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers.ahci_layouts import (
    ABAR,
    CLASS_AHCI,
    ENABLED,
    SIGNATURE_ATAPI,
    SIGNATURE_DISK,
    Cmd,
    Ghc,
    Hba,
    PortReg,
)
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.pci import COMMAND_INTX_DISABLE, PciFunction, scan
from guestsim.drivers.transport import Interrupts
from guestsim.errors import GuestCheckError

if TYPE_CHECKING:
    from guestsim.guest import Guest

CLASS = 0x08


class Ahci:
    """Driver of one HBA: `ports` with a device, by number; `known` are all that there are."""

    __slots__ = ("_bar", "_vector", "function", "guest", "interrupts", "known", "ports", "slots")

    def __init__(self, guest: Guest, function: PciFunction) -> None:
        self.guest = guest
        self.function = function
        function.place_bars()
        self._bar = function.bars[ABAR]
        self.ports: dict[int, AhciPort] = {}
        self.known: dict[int, AhciPort] = {}
        self.interrupts = Interrupts.POLLING
        self.slots = (self.read(Hba.CAP) >> 8 & 0x1F) + 1
        self._vector: int | None = None

    def read(self, offset: int) -> int:
        """Read a register of ABAR."""
        return self._bar.read(offset, 4)

    def write(self, offset: int, value: int) -> None:
        """Write a register of ABAR."""
        self._bar.write(offset, 4, value)

    async def reset(self) -> None:
        """Reset the HBA (§10.4.3)."""
        self.write(Hba.GHC, Ghc.AE)
        self.write(Hba.GHC, Ghc.AE | Ghc.HR)
        await self.guest.wait_until(lambda: not self.read(Hba.GHC) & Ghc.HR, "GHC.HR to be 0")
        self.write(Hba.GHC, Ghc.AE)

    async def probe(self, *, interrupts: Interrupts = Interrupts.MSIX, identify_all: bool = True) -> None:
        """Reset the HBA, bring up each port that has a device, and ask them what they are.

        `MSIX` stands for messages: those of an HBA are MSI's.
        """
        await self.reset()
        for port in self.known.values():
            port.forget()
        self.ports.clear()
        self.known.clear()
        implemented = self.read(Hba.PI)
        self.connect(interrupts)
        for number in range(32):
            if implemented >> number & 1:
                await self._bring_up(AhciPort(self, number))
        self.write(Hba.GHC, Ghc.AE | (Ghc.IE if interrupts is not Interrupts.POLLING else 0))
        for port in self.ports.values():
            if identify_all and port.read(PortReg.SIG) in (SIGNATURE_DISK, SIGNATURE_ATAPI):
                await port.identify()

    async def _bring_up(self, port: AhciPort) -> None:
        self.known[port.number] = port
        await port.stop()
        port.place()
        port.write(PortReg.SERR, 0xFFFF_FFFF)
        port.write(PortReg.IS, 0xFFFF_FFFF)
        if port.present:
            await port.start()
            if port.atapi:
                port.write(PortReg.CMD, port.read(PortReg.CMD) | Cmd.ATAPI)
            self.ports[port.number] = port
        port.write(PortReg.IE, ENABLED if self.interrupts is not Interrupts.POLLING else 0)

    def connect(self, interrupts: Interrupts) -> None:
        """Choose how the HBA interrupts."""
        controller = self.guest.interrupts
        self._disconnect()
        self.interrupts = interrupts
        if interrupts is Interrupts.MSIX:
            msi = self.function.msi()
            if msi is None:
                raise GuestCheckError("PCI 3.0 §6.8.1", f"{self.function} has no MSI")
            self._vector = controller.allocate(self._message, str(self.function))
            msi.enable(*controller.message(self._vector))
            self.function.set_command(on=COMMAND_INTX_DISABLE)
        elif interrupts is Interrupts.INTX:
            controller.connect(self.function.slot, self.function.interrupt_pin, self.serve)

    def _disconnect(self) -> None:
        """As after a reset of the function."""
        controller, msi = self.guest.interrupts, self.function.msi()
        if self._vector is not None:
            controller.free(self._vector)
            self._vector = None
        if self.interrupts is Interrupts.INTX:
            controller.disconnect(self.function.slot, self.function.interrupt_pin, self.serve)
        if msi is not None:
            msi.disable()
        self.function.set_command(off=COMMAND_INTX_DISABLE)

    def _message(self) -> None:
        self.serve()

    def serve(self) -> bool:
        """Serve the ports that ask for it (§5.6.3): PxIS first, then IS."""
        status = self.read(Hba.IS)
        for number, port in self.known.items():
            if status >> number & 1:
                port.serve()
        if status:
            self.write(Hba.IS, status)
        return bool(status)


def find(guest: Guest) -> list[PciFunction]:
    """The AHCI HBAs there are."""
    return [function for function in scan(guest) if function.read(CLASS, 4) >> 8 == CLASS_AHCI]

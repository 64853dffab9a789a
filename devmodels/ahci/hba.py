"""The host bus adapter: its generic registers, its ports, its interrupt (AHCI 1.3.1 §3.1, §5.2, §10.6)."""

from __future__ import annotations

from collections.abc import Callable

from devmodels.ahci.habits import habits_of
from devmodels.ahci.port import Port
from devmodels.ahci.registers import (
    GENERIC_SIZE,
    HBA_RESET,
    MAX_PORTS,
    PORT_SIZE,
    GenericHostControl,
    WholeHostControl,
)
from devmodels.ata import AtaDevice
from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext, Turns
from devmodels.memory import GuestMemory
from devmodels.pci.bars import Windows
from devmodels.trace import Tracer

SPEED_GEN1, SPEED_GEN3 = 1, 3
VERSION_1_0 = 0x0001_0000


class Hba:
    """An HBA with `ports` ports of `slots` command slots each.

    `on_interrupt(port, level)`: a port has asked for an interrupt (None: none in particular), and whether any asks for
    one now.  `may_master` is whether it may reach memory.
    """

    def __init__(
        self,
        *,
        name: str,
        context: IoContext,
        memory: GuestMemory,
        violations: ViolationLog,
        ports: int = 6,
        slots: int = 32,
        on_interrupt: Callable[[int | None, bool], None],
    ) -> None:
        self.name = name
        self.context = context
        self.turns = Turns(context)
        self.memory = memory
        self.violations = violations
        self.habits = habits = habits_of(violations)
        self.slots = slots
        self.may_master = False
        self.separate = False
        """Whether each port has a message of its own: then IS holds none back."""
        self._on_interrupt = on_interrupt
        self._reset_turn = 0
        self.resetting = ""
        """The domain of a reset that waits for what runs."""
        self.registers = registers = (WholeHostControl if habits.loose_registers else GenericHostControl)(
            self
        )
        registers.cap_np = ports - 1
        registers.cap_ncs = slots - 1
        registers.cap_sam = registers.cap_sncq = registers.cap_s64a = 1
        if habits.early:
            registers.cap_iss, registers.vs = SPEED_GEN1, VERSION_1_0
        else:
            registers.cap_psc = registers.cap_ssc = registers.cap_pmd = registers.cap_sclo = 1
            registers.cap_iss = SPEED_GEN3
        registers.pi = (1 << ports) - 1
        self.ports = tuple(Port(self, number) for number in range(ports))
        self.size = 0x1000 if ports < MAX_PORTS - 1 else 0x2000
        """Bytes of ABAR."""

    def windows(self) -> Windows:
        """The registers as ABAR has them."""
        windows = Windows(self.size)
        windows.place(0, GENERIC_SIZE, self.registers)
        for port in self.ports:
            windows.place(GENERIC_SIZE + PORT_SIZE * port.number, PORT_SIZE, port.registers)
        return windows

    # --- interrupts

    def port_changed(self, port: Port) -> None:
        """PxIS or PxIE of a port has changed: IS follows what is enabled, and stays until it is cleared (§5.6).

        A message tells of IS; of a port's own, that the port has begun to ask, or has when PxIS was cleared.
        """
        asked, port.asks = port.asks, bool(port.registers.status & port.registers.enable)
        if port.asks:
            registers, bit = self.registers, 1 << port.number
            status = registers.status
            new = not status & bit
            if new:
                registers.status = status | bit
            tells = self.habits.tells_again or (not asked if self.separate else new)
            if tells and registers.ghc_ie:
                self._on_interrupt(port.number, True)

    def status_written(self, cleared: int) -> None:
        """A bit that was cleared is set again where its port still asks."""
        cleared &= self.registers.pi
        while cleared:
            number = cleared.bit_length() - 1
            cleared ^= 1 << number
            port = self.ports[number].registers
            if port.status & port.enable:
                self.registers.status |= 1 << number
        self._tell()

    def interrupt_enable_changed(self) -> None:
        """GHC.IE gates all."""
        self._tell()

    @property
    def asks(self) -> bool:
        """Whether any port asks for an interrupt, and may."""
        return bool(self.registers.ghc_ie and self.registers.status)

    def _tell(self) -> None:
        if not self.asks:
            self._on_interrupt(None, False)
            return
        pending = self.registers.status
        for port in self.ports:
            if pending >> port.number & 1:
                self._on_interrupt(port.number, True)

    # --- resets

    def reset_asked(self) -> None:
        """GHC.HR: all ports; over when what runs has come back (§10.4.3)."""
        self.reset(HBA_RESET)

    def reset(self, domain: str) -> None:
        """Reset what belongs to `domain`; GHC.HR stays 1 as long as something runs."""
        self._reset_turn += 1
        turn, self.resetting = self._reset_turn, domain
        devices = self._devices
        left = len(devices) + 1

        def one() -> None:
            nonlocal left
            left -= 1
            if not left and turn == self._reset_turn:
                self.restored(domain)

        for port in self.ports:
            port.hba_reset(domain)
        self.registers.status = 0
        self.registers.ghc_ie = 0
        self._on_interrupt(None, False)
        for device in devices:
            device.when_idle(one)
        if self.habits.at_once:
            one()
        else:
            self.turns.call_soon(one)

    def restored(self, resetting: str) -> None:
        """A reset of this domain, if any, is over; ends of earlier ones mean nothing."""
        self._reset_turn += 1
        self.resetting = ""
        if resetting:
            self.registers.reset(resetting)

    def drop(self) -> None:
        """Nobody waits for any command any more: a snapshot is about to be restored."""
        for device in self._devices:
            device.drop()

    @property
    def busy(self) -> bool:
        """Whether commands run on devices."""
        return any(device.in_flight for device in self._devices)

    def when_settled(self, then: Callable[[], None]) -> None:
        """Call `then` when no command runs any more."""
        for device in self._devices:
            if device.in_flight:
                device.when_idle(lambda: self.when_settled(then))
                return
        then()

    @property
    def _devices(self) -> list[AtaDevice]:
        return [device for port in self.ports for device in port.devices]

    def observe(self, trace: Tracer | None) -> None:
        """Give `trace` everything that goes on in the HBA and its devices; None: no more."""
        self.turns.trace = trace
        for port in self.ports:
            port.turns.trace = trace
            if port.device is not None:
                port.device.observe(trace)

    def bus_master_changed(self, enabled: bool) -> None:
        """Without bus mastering nothing is fetched; what waits goes on when it is switched on."""
        self.may_master = enabled
        if enabled:
            for port in self.ports:
                port.bus_master_changed()

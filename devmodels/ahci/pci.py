"""`ich9-ahci`: the HBA as a PCI function, as on an ICH9; `ahci` is the same under its short name, as QEMU has it.

BAR 0   MSI-X table, with `msix`
BAR 4   index/data pair (I/O ports)
BAR 5   ABAR, the registers

With identifiers of its own it is nobody's in particular: drivers find it by its class code, and what is an ICH9's own
(BAR 4 with the capability that tells of it, the registers at 90h) is not there.  QEMU's has no power management.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from devmodels.ahci.hba import Hba
from devmodels.ahci.registers import MAX_PORTS
from devmodels.ahci.sata import IDP_BAR, IDP_BAR_SIZE, AddressMap, IndexData, SataCapability
from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.pci.bars import BarKind
from devmodels.pci.function import PciFunction, PciIdentity
from devmodels.pci.msi import msi
from devmodels.pci.power import PowerCapability
from devmodels.registers import POWER_ON
from devmodels.registers.state import nest, unnest
from devmodels.trace import Tracer

if TYPE_CHECKING:
    from devmodels.ata.units import AtaBus

MSIX_BAR, ABAR = 0, 5
CLASS_CODE = 0x010601
"""Mass storage, serial ATA, AHCI 1.0."""
POWER_OFFSET, MSI_OFFSET, SATA_OFFSET, MAP_OFFSET = 0x70, 0x80, 0xA8, 0x90

QEMU_MAP = b"\x40"
"""What QEMU has at 90h, which a guest can change."""

ICH9 = PciIdentity(
    0x8086, 0x2922, CLASS_CODE, revision=2, subsystem_vendor_id=0x1AF4, subsystem_id=0x1100, status=0x02A0
)
"""82801IR/IO/IH (ICH9R/DO/DH), six ports (Intel 316972 §15.1)."""


class AhciOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of `-device ich9-ahci`.

    `x-pci-vendor-id` and `x-pci-device-id`, both or none, as of QEMU's vfio-pci: a generic HBA with these.  Ours:
    `ports`, `slots` (commands at a time a port), `vectors` of MSI, `msix` (each port has a vector of its own).
    """

    driver: Literal["ich9-ahci", "ahci"] = "ich9-ahci"
    id: str | None = None
    addr: str | None = None
    ports: int = 6
    slots: int = 32
    vectors: int = 1
    msix: bool = False
    x_pci_vendor_id: int | None = None
    x_pci_device_id: int | None = None

    def __post_init__(self) -> None:
        for name, value, most in (("ports", self.ports, MAX_PORTS), ("slots", self.slots, 32)):
            if not 1 <= value <= most:
                raise ValueError(f"{name} is {value}, expected 1 to {most}")
        if self.vectors & (self.vectors - 1) or not 0 <= self.vectors <= 32:
            raise ValueError(f"vectors is {self.vectors}, expected 0 or a power of two up to 32")
        ids = {"x-pci-vendor-id": self.x_pci_vendor_id, "x-pci-device-id": self.x_pci_device_id}
        for name, each in ids.items():
            if each is None and self.generic:
                raise ValueError(f"{name}: missing; expected with {' and '.join(set(ids) - {name})}")
            if each is not None and not 0 <= each < 0xFFFF:
                raise ValueError(f"{name} is {each}, expected 0 to 65534")

    @property
    def generic(self) -> bool:
        """Whether it is no ICH9's."""
        return self.x_pci_vendor_id is not None or self.x_pci_device_id is not None

    def identity(self, *, as_qemu: bool) -> PciIdentity:
        """Who the function says it is; QEMU's says nothing of a conventional bus."""
        if self.x_pci_vendor_id is None or self.x_pci_device_id is None:
            return msgspec.structs.replace(ICH9, status=0) if as_qemu else ICH9
        return PciIdentity(self.x_pci_vendor_id, self.x_pci_device_id, CLASS_CODE)


class AhciPci(PciFunction):
    """An HBA as a PCI function."""

    def __init__(
        self,
        options: AhciOptions,
        *,
        name: str,
        context: IoContext,
        memory: GuestMemory,
        violations: ViolationLog,
    ) -> None:
        as_qemu = violations.as_qemu
        super().__init__(options.identity(as_qemu=as_qemu), name=name, as_qemu=as_qemu)
        self.hba = Hba(
            name=name,
            context=context,
            memory=memory,
            violations=violations,
            ports=options.ports,
            slots=options.slots,
            on_interrupt=self._interrupt,
        )
        windows = self.hba.windows()
        self.index_data = IndexData(windows)
        self.add_bar(ABAR, self.hba.size, windows)
        if not as_qemu:
            self.add_capability(PowerCapability(), offset=POWER_OFFSET)
        if options.vectors:
            self.add_capability(msi(options.vectors, masking=False), offset=MSI_OFFSET)
        if not options.generic:
            self.add_bar(IDP_BAR, IDP_BAR_SIZE, self.index_data, kind=BarKind.IO)
            self.add_capability(SataCapability(), offset=SATA_OFFSET)
            if as_qemu:
                self.config.hold(MAP_OFFSET, QEMU_MAP, b"\xff")
            else:
                self.add_registers(MAP_OFFSET, AddressMap())
        if options.msix:
            self.add_msix(options.ports, bar=MSIX_BAR)

    @property
    def buses(self) -> tuple[AtaBus, ...]:
        """The ports."""
        return self.hba.ports

    @property
    def memory(self) -> GuestMemory:
        """The memory that the HBA masters."""
        return self.hba.memory

    def _interrupt(self, port: int | None, level: bool) -> None:
        """A port's message (the last ones share one where there are too few), or one for all; or the line (§10.6.2)."""
        messages, msix = self.msi, self.msix
        if msix is not None and msix.enabled:
            if port is not None:
                msix.notify(port)
        elif messages is not None and messages.enabled:
            if port is not None:
                messages.notify(min(port, messages.vectors - 1) if self.hba.separate else 0)
        elif level is not bool(self.header.interrupt_status):
            self.set_intx(level)

    def intx_changed(self) -> None:
        """GHC.MRSM: fewer messages were granted than asked for, and than there are ports: all share one (§3.1.2)."""
        messages = self.msi
        if hasattr(self, "hba"):
            by_msix = self.msix is not None and self.msix.enabled
            by_msi, asked, granted = False, 1, 1
            if messages is not None and not by_msix:
                by_msi, granted = messages.enabled, messages.vectors
                asked = 1 << messages.multiple_message_capable
            too_few = by_msi and 1 < granted < min(asked, len(self.hba.ports))
            self.hba.registers.ghc_mrsm = int(too_few)
            self.hba.separate = by_msix or (by_msi and granted > 1 and not too_few)
            # What is pending when messages are switched off asks by the line.
            self.header.interrupt_status = int(self.hba.asks and not (by_msix or by_msi))
        super().intx_changed()

    def on_bus_master(self, enabled: bool) -> None:
        """Memory can be reached, or not any more."""
        self.hba.bus_master_changed(enabled)

    def on_reset(self) -> None:
        """The function was reset."""
        self.hba.reset(POWER_ON)

    def when_settled(self, then: Callable[[], None]) -> None:
        """Call `then` when nothing runs any more that a reset has to await."""
        self.hba.when_settled(then)

    def save(self) -> dict[str, int]:
        """Configuration space, the registers of HBA and ports."""
        state = {
            **super().save(),
            **nest("hba", self.hba.registers.save()),
            **nest("pair", self.index_data.save()),
        }
        for port in self.hba.ports:
            state.update(nest(f"port{port.number}", port.registers.save()))
        return state

    def judge(self, state: Mapping[str, int]) -> None:
        """ValueError where `state` is of a function that was made otherwise."""
        super().judge(state)
        self.hba.registers.judge(unnest("hba", state))
        self.index_data.judge(unnest("pair", state))
        for port in self.hba.ports:
            port.registers.judge(unnest(f"port{port.number}", state))

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave; ValueError where it is another function's."""
        super().restore(state)
        self.hba.registers.restore(unnest("hba", state))
        self.index_data.restore(unnest("pair", state))
        for port in self.hba.ports:
            port.registers.restore(unnest(f"port{port.number}", state))
            port.moved_structures()

    def observe(self, trace: Tracer | None) -> None:
        """Give `trace` everything that goes on in the HBA and its devices; None: no more."""
        self.hba.observe(trace)

    # --- snapshots of what is beyond registers

    @property
    def busy(self) -> bool:
        """Whether commands run."""
        return self.hba.busy

    def drop(self) -> None:
        """Nobody waits for what runs any more: a snapshot is about to be restored."""
        self.hba.drop()

    def save_state(self) -> bytes:
        """Everything beyond registers: engines, devices, commands in flight."""
        from devmodels.ahci.state import save  # slow to import, and seldom wanted

        return save(self.hba)

    def judge_state(self, data: bytes) -> None:
        """ValueError where that is not what `save_state` of such an HBA gave."""
        from devmodels.ahci.state import judge

        judge(self.hba, data)

    def restore_state(self, data: bytes) -> None:
        """Be as `data` says, which `judge_state` has found to be possible; after `restore`."""
        from devmodels.ahci.state import restore

        restore(self.hba, data)

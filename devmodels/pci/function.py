"""A PCI function: configuration space, BARs, capabilities and interrupts, over which a device puts its behaviour.

A device subclasses `PciFunction` (or holds one) and gives it BARs and capabilities; the bus it is plugged into gives
it a `PciHost`.  References: PCI Local Bus 3.0 §6; PCI Express 6.0 §7.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import msgspec

from devmodels.interrupts import LineSource
from devmodels.pci.bars import Bar, BarHandler, BarKind, Windows
from devmodels.pci.capability import Capability
from devmodels.pci.config import CONVENTIONAL_SIZE, EXTENDED_SIZE, ConfigSpace
from devmodels.pci.decode import Claim
from devmodels.pci.header import BARS, MULTI_FUNCTION, Type0Header
from devmodels.pci.power import D0, PowerCapability
from devmodels.registers import RegisterFile
from devmodels.registers.state import nest, unnest

if TYPE_CHECKING:
    from devmodels.pci.msi import MsiCapability
    from devmodels.pci.msix import MsixCapability

MIN_MSIX_BAR = 4096
QEMU_COMMAND = 0x0507
"""What can be written of the command register of QEMU's functions: all but the parity error response."""


class PciIdentity(msgspec.Struct, frozen=True):
    """Who a function says it is.

    `class_code` is base class, sub-class and programming interface (24 bits); `interrupt_pin` 1 to 4 is INTA# to
    INTD#, 0 none.  `status` has what a chip of a conventional bus says in its status register: 66 MHz (bit 5), fast
    back-to-back (7), DEVSEL# timing (10:9).  `alone`: the header type never says that the slot has other functions,
    as it need not of any but function 0.
    """

    vendor_id: int
    device_id: int
    class_code: int
    revision: int = 0
    subsystem_vendor_id: int = 0
    subsystem_id: int = 0
    interrupt_pin: int = 1
    status: int = 0
    alone: bool = False


class PciHost(Protocol):
    """What a plugged function can ask of its bus."""

    def decode_changed(self) -> None:
        """The ranges that the function claims have changed."""
        ...

    def post(self, address: int, data: int) -> None:
        """Send an interrupt message."""
        ...


class PciFunction:
    """One function; `express` gives it the PCI Express capability and 4096 bytes of configuration space.

    `as_qemu`: configuration space has memory where there are no registers, and a header without parity error response
    and latency timer; MSI-X lies where QEMU has it.
    """

    def __init__(
        self, identity: PciIdentity, *, name: str, express: bool = False, as_qemu: bool = False
    ) -> None:
        self.identity = identity
        self.name = name
        self.as_qemu = as_qemu
        self.accessing = False
        self.bars: dict[int, Bar] = {}
        self.msi: MsiCapability | None = None
        self.msix: MsixCapability | None = None
        self.header = Type0Header(self)
        self.config = ConfigSpace(EXTENDED_SIZE if express else CONVENTIONAL_SIZE, keeps=as_qemu)
        self.config.place(0, self.header)
        self._capabilities: list[tuple[int, Capability]] = []
        self._power: PowerCapability | None = None
        self._host: PciHost | None = None
        self._intx: LineSource | None = None
        self._master = False
        self._identify()
        if as_qemu:
            self.header.hardwire(Type0Header.command, 0, writable=QEMU_COMMAND)
        if express or as_qemu:
            self.header.hardwire(Type0Header.latency_timer, 0)
        if express:
            from devmodels.pci.express import ExpressCapability  # few functions have it

            self.add_capability(ExpressCapability())

    def _identify(self) -> None:
        header, identity = self.header, self.identity
        header.vendor_id = identity.vendor_id
        header.device_id = identity.device_id
        header.revision_id = identity.revision
        header.programming_interface = identity.class_code
        header.sub_class = identity.class_code >> 8
        header.base_class = identity.class_code >> 16
        header.subsystem_vendor_id = identity.subsystem_vendor_id
        header.subsystem_id = identity.subsystem_id
        header.interrupt_pin = identity.interrupt_pin
        header.capable_66mhz = identity.status >> 5
        header.fast_back_to_back = identity.status >> 7
        header.devsel_timing = identity.status >> 9
        for register in BARS:
            header.hardwire(register, 0)

    # --- making

    def add_bar(
        self, index: int, size: int, handler: BarHandler, *, kind: BarKind = BarKind.MEMORY32
    ) -> None:
        """Have `size` bytes (a power of two) of BAR `index` answered by `handler`; a 64-bit BAR takes `index` + 1 too.

        ValueError where the BAR is taken or size and kind do not go together.
        """
        bar = Bar(index, size, handler, kind)
        taken = {at for other in self.bars.values() for at in _indices(other)}
        if not taken.isdisjoint(_indices(bar)):
            raise ValueError(f"{self.name}: BAR {index} is taken")
        self.bars[index] = bar
        address_bits = bar.top - size
        self.header.hardwire(BARS[index], kind.value, writable=address_bits & 0xFFFF_FFFF)
        if kind.is_64bit:
            self.header.hardwire(BARS[index + 1], 0, writable=address_bits >> 32)
        self.decode_changed()

    def add_capability(
        self, capability: Capability, *, offset: int | None = None, first: bool = False
    ) -> int:
        """Put a capability at the list's end, or `first`, at `offset` or where there is room; returns its offset."""
        if offset is None:
            offset = self.config.room(capability.size)
        self.config.place(offset, capability)
        self._capabilities.insert(0 if first else len(self._capabilities), (offset, capability))
        self.header.capabilities_list = 1
        self.header.capabilities_pointer = self._capabilities[0][0]
        for (_, one), (following, _) in pairwise(self._capabilities):
            one.next_pointer = following
        capability.attach(self)
        if isinstance(capability, PowerCapability):
            self._power = capability
        return offset

    def add_msix(self, vectors: int, *, bar: int) -> MsixCapability:
        """MSI-X with a 32-bit memory BAR of its own: the table, then the pending bits, in QEMU's a half each."""
        from devmodels.pci.msix import MsixCapability

        table = 16 * vectors
        room = (vectors + 63) // 64 * 8
        pending = max(MIN_MSIX_BAR // 2, table) if self.as_qemu else table
        size = max(MIN_MSIX_BAR, 1 << (pending + room - 1).bit_length())
        capability = MsixCapability(vectors, table_bar=bar, table_offset=0, pba_bar=bar, pba_offset=pending)
        windows = Windows(size)
        windows.place(0, table, capability.table)
        windows.place(pending, capability.pba_bytes, capability.pending)
        self.add_bar(bar, size, windows)
        self.add_capability(capability, first=self.as_qemu)
        return capability

    def add_registers(self, offset: int, registers: RegisterFile) -> None:
        """Put the device's own configuration registers at `offset` (a multiple of 4, 0x40 or more)."""
        self.config.place(offset, registers)

    @property
    def capabilities(self) -> tuple[tuple[int, Capability], ...]:
        """(offset, capability) in the order of the list."""
        return tuple(self._capabilities)

    # --- the device's side

    @property
    def bus_master(self) -> bool:
        """Whether the function may read and write memory and send messages."""
        return self._master

    @property
    def may_send(self) -> bool:
        """Whether a message need not wait for bus mastering: those of QEMU's functions are lost without it."""
        return self._master or self.as_qemu

    @property
    def powered(self) -> bool:
        """Whether the function is in D0."""
        return self._power is None or self._power.power_state == D0

    def set_intx(self, level: bool) -> None:
        """Ask for, or give up, the INTx# interrupt.

        Interrupt Status shows it at once; the line is driven unless Interrupt Disable is set or MSI or MSI-X is on.
        """
        self.header.interrupt_status = int(level)
        self._drive_intx()

    def send_message(self, address: int, data: int) -> None:
        """Send an interrupt message (MSI and MSI-X do); it is lost where the function is not plugged."""
        if self._host is not None and (self._master or not self.as_qemu):
            self._host.post(address, data)

    def on_bus_master(self, enabled: bool) -> None:
        """For a device to override: `bus_master` has changed."""

    def on_reset(self) -> None:
        """For a device to override: the function has been reset."""

    def reset(self) -> None:
        """Reset the function: command, BARs, capabilities and interrupts, then the device (`on_reset`)."""
        for _, file in self.config.files:
            file.reset()
        self._refresh()
        self.on_reset()

    def when_settled(self, then: Callable[[], None]) -> None:
        """Call `then` when nothing runs any more that a reset has to await; for a device to override."""
        then()

    def bar_address(self, index: int) -> int:
        """The address that BAR `index` holds, decoded or not."""
        bar = self.bars[index]
        low = self.header.value_of(BARS[index]) & ~bar.kind.value
        return self.header.value_of(BARS[index + 1]) << 32 | low if bar.kind.is_64bit else low

    def claims(self, *, io: bool) -> Iterator[Claim]:
        """The ranges of memory (or I/O) space that the function decodes now.

        A BAR that holds 0 is not decoded, nor one at the very top of its space: such are BARs not yet set and BARs
        being sized.
        """
        enabled = self.header.io_space_enable if io else self.header.memory_space_enable
        if not enabled or not self.powered:
            return
        for index, bar in sorted(self.bars.items()):
            if bar.kind.is_io is io:
                base = self.bar_address(index)
                if base and base + bar.size < bar.top:
                    if isinstance(bar.handler, Windows):
                        yield from bar.handler.claims(base, self)
                    yield Claim(base, bar.size, bar.handler, self)

    def save(self) -> dict[str, int]:
        """Configuration space with all capabilities, MSI-X table and pending bits included."""
        state: dict[str, int] = {}
        for offset, file in self.config.files:
            state.update(nest(f"{offset:#04x}", file.save()))
        state.update(nest("kept", self.config.save_kept()))
        return state

    def judge(self, state: Mapping[str, int]) -> None:
        """ValueError where `state` is of a function that was made otherwise: identity, BARs, capabilities."""
        for offset, file in self.config.files:
            file.judge(unnest(f"{offset:#04x}", state))
        self.config.judge_kept(unnest("kept", state))

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave; ValueError where it is another function's."""
        for offset, file in self.config.files:
            file.restore(unnest(f"{offset:#04x}", state))
        self.config.restore_kept(unnest("kept", state))
        self._refresh()

    # --- the bus's side

    def plugged(self, host: PciHost, intx: LineSource | None, *, multi_function: bool) -> None:
        """The function is on a bus now."""
        self._host = host
        self._intx = intx
        self.set_multi_function(multi_function)
        self.intx_changed()
        self.decode_changed()

    def unplugged(self) -> None:
        """The function has left its bus and has no power: its line falls, its ranges are free, it is as new."""
        if self._intx is not None:
            self._intx.set(False)
        self.decode_changed()
        self._host = None
        self._intx = None
        self.reset()

    def bus(self, number: int) -> PciHost | None:  # noqa: ARG002
        """For bridges to override: the bus of that number behind this function."""
        return None

    def set_multi_function(self, value: bool) -> None:
        """Whether the header type says that the slot has several functions."""
        self.header.header_type = MULTI_FUNCTION if value and not self.identity.alone else 0

    def config_read(self, offset: int, size: int) -> int:
        """A guest's read of configuration space."""
        return self.config.read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """A guest's write to configuration space."""
        self.config.write(offset, size, value)

    # --- what registers tell

    def decode_changed(self) -> None:
        """A BAR or a decoding enable has changed."""
        if self._host is not None:
            self._host.decode_changed()

    def bus_master_changed(self) -> None:
        """The bus master enable, or the power state, has changed."""
        master = bool(self.header.bus_master_enable) and self.powered
        if master is not self._master:
            self._master = master
            if master:
                self._release_messages()
            self.on_bus_master(master)

    def power_changed(self) -> None:
        """The power state has changed."""
        self.decode_changed()
        self.intx_changed()
        self.bus_master_changed()

    def intx_changed(self) -> None:
        """Interrupt disable, MSI, MSI-X or the power state has changed."""
        self._drive_intx()

    def _drive_intx(self) -> None:
        """INTx#, as interrupt status and all of these have it."""
        if self._intx is not None:
            header = self.header
            self._intx.set(
                bool(header.interrupt_status and not header.interrupt_disable)
                and not (self.msi is not None and self.msi.enabled)
                and not (self.msix is not None and self.msix.enabled)
                and self.powered
            )

    def _release_messages(self) -> None:
        if self.msi is not None:
            self.msi.release_all()
        if self.msix is not None:
            self.msix.release_all()

    def _refresh(self) -> None:
        self.decode_changed()
        self.intx_changed()
        self.bus_master_changed()


def _indices(bar: Bar) -> set[int]:
    return {bar.index, bar.index + 1} if bar.kind.is_64bit else {bar.index}

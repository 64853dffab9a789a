"""The type 0 configuration header.

          31            24 23            16 15             8 7              0
    0x00 |            device id            |            vendor id            |
    0x04 |             status              |             command             |
    0x08 |                    class code                   |   revision id   |
    0x0C |      BIST      |  header type   | latency timer  | cache line size |
    0x10 |                     base address registers 0 to 5                 |
    0x28 |                           CardBus CIS pointer                     |
    0x2C |          subsystem id           |       subsystem vendor id       |
    0x30 |                     expansion ROM base address                    |
    0x34 |                     reserved                     |  capabilities  |
    0x3C |   max latency   |   min grant    | interrupt pin  | interrupt line  |

No CardBus, no expansion ROM, no BIST: those read 0.  Reference: PCI Local Bus 3.0 §6.1, §6.2; PCI Express 6.0 §7.5.1.
"""

from __future__ import annotations

from typing import Protocol

from devmodels.registers import HWINIT, RO, RW, RW1C, Register, RegisterFile

HEADER_SIZE = 0x40
MULTI_FUNCTION = 0x80


class HeaderOwner(Protocol):
    """The function that a header belongs to; told after a write has taken effect."""

    def decode_changed(self) -> None:
        """A BAR or a decoding enable has changed."""
        ...

    def bus_master_changed(self) -> None:
        """The bus master enable has changed."""
        ...

    def intx_changed(self) -> None:
        """Whether INTx# may be driven has changed."""
        ...


class Type0Header(RegisterFile, size=HEADER_SIZE, widths=(1, 2, 4), lenient=True):
    """The first 64 bytes of configuration space."""

    vendor_id = Register(0x00, 2, HWINIT, clause="PCI 3.0 §6.2.1", doc="who made it")
    device_id = Register(0x02, 2, HWINIT, clause="PCI 3.0 §6.2.1", doc="what it is")

    command = Register(0x04, 2, clause="PCI 3.0 §6.2.2", doc="what the function may do")
    io_space_enable = command.bit(0, RW, doc="BARs in I/O space answer")
    memory_space_enable = command.bit(1, RW, doc="BARs in memory space answer")
    bus_master_enable = command.bit(2, RW, doc="it may reach memory and send messages")
    parity_error_response = command.bit(6, RW, doc="kept; nothing here has parity errors")
    serr_enable = command.bit(8, RW, doc="kept; nothing here signals SERR#")
    interrupt_disable = command.bit(10, RW, doc="INTx# is not driven")

    status = Register(0x06, 2, clause="PCI 3.0 §6.2.3", doc="what the function is and has met with")
    interrupt_status = status.bit(3, RO, doc="the function wants INTx#, whatever interrupt_disable says")
    capabilities_list = status.bit(4, HWINIT, doc="there is one")
    capable_66mhz = status.bit(5, HWINIT, doc="for what conventional PCI told")
    fast_back_to_back = status.bit(7, HWINIT, doc="for what conventional PCI told")
    master_data_parity_error = status.bit(8, RW1C, doc="never set")
    devsel_timing = status.bits(10, 9, HWINIT, doc="0 fast, 1 medium, 2 slow")
    signaled_target_abort = status.bit(11, RW1C, doc="never set")
    received_target_abort = status.bit(12, RW1C, doc="never set")
    received_master_abort = status.bit(13, RW1C, doc="never set")
    signaled_system_error = status.bit(14, RW1C, doc="never set")
    detected_parity_error = status.bit(15, RW1C, doc="never set")

    revision_id = Register(0x08, 1, HWINIT, clause="PCI 3.0 §6.2.1", doc="of the device")
    programming_interface = Register(0x09, 1, HWINIT, clause="PCI 3.0 §6.2.1", doc="class code 7:0")
    sub_class = Register(0x0A, 1, HWINIT, clause="PCI 3.0 §6.2.1", doc="class code 15:8")
    base_class = Register(0x0B, 1, HWINIT, clause="PCI 3.0 §6.2.1", doc="class code 23:16")

    cache_line_size = Register(0x0C, 1, RW, clause="PCI 3.0 §6.2.4", doc="kept, without effect")
    latency_timer = Register(0x0D, 1, RW, clause="PCI 3.0 §6.2.4", doc="kept, without effect")
    header_type = Register(
        0x0E, 1, HWINIT, clause="PCI 3.0 §6.2.1", doc="0; bit 7: there are other functions"
    )
    bist = Register(0x0F, 1, clause="PCI 3.0 §6.2.4", doc="no self-test")

    bar0 = Register(0x10, 4, RW, clause="PCI 3.0 §6.2.5.1", doc="where region 0 is")
    bar1 = Register(0x14, 4, RW, clause="PCI 3.0 §6.2.5.1", doc="where region 1 is, or the upper half")
    bar2 = Register(0x18, 4, RW, clause="PCI 3.0 §6.2.5.1", doc="where region 2 is")
    bar3 = Register(0x1C, 4, RW, clause="PCI 3.0 §6.2.5.1", doc="where region 3 is, or the upper half")
    bar4 = Register(0x20, 4, RW, clause="PCI 3.0 §6.2.5.1", doc="where region 4 is")
    bar5 = Register(0x24, 4, RW, clause="PCI 3.0 §6.2.5.1", doc="where region 5 is, or the upper half")

    subsystem_vendor_id = Register(0x2C, 2, HWINIT, clause="PCI 3.0 §6.2.4", doc="who made the board")
    subsystem_id = Register(0x2E, 2, HWINIT, clause="PCI 3.0 §6.2.4", doc="what the board is")
    expansion_rom = Register(0x30, 4, clause="PCI 3.0 §6.2.5.2", doc="no expansion ROM")
    capabilities_pointer = Register(
        0x34, 1, HWINIT, clause="PCI 3.0 §6.2.4", doc="offset of the first capability"
    )
    interrupt_line = Register(0x3C, 1, RW, clause="PCI 3.0 §6.2.4", doc="kept for the guest's own use")
    interrupt_pin = Register(0x3D, 1, HWINIT, clause="PCI 3.0 §6.2.4", doc="1 INTA# to 4 INTD#; 0 none")

    def __init__(self, owner: HeaderOwner) -> None:
        super().__init__()
        self._owner = owner

    @io_space_enable.on_change
    @memory_space_enable.on_change
    def _decode_enabled(self, _value: int) -> None:
        self._owner.decode_changed()

    @bus_master_enable.on_change
    def _bus_master(self, _value: int) -> None:
        self._owner.bus_master_changed()

    @interrupt_disable.on_change
    def _interrupt_disabled(self, _value: int) -> None:
        self._owner.intx_changed()

    @bar0.on_write
    @bar1.on_write
    @bar2.on_write
    @bar3.on_write
    @bar4.on_write
    @bar5.on_write
    def _bar_written(self, old: int, new: int) -> None:
        if old != new and (self.io_space_enable or self.memory_space_enable):
            self._owner.decode_changed()


BARS: tuple[Register, ...] = (
    Type0Header.bar0,
    Type0Header.bar1,
    Type0Header.bar2,
    Type0Header.bar3,
    Type0Header.bar4,
    Type0Header.bar5,
)
"""The base address registers by index."""

"""PIIX3 and PIIX4: the PCI functions (Intel 290550 §2.3, 290562 §5; PCI IDE Controller Specification 1.0).

Compatibility mode, as the chips have it: ports 1F0h–1F7h, 3F6h and IRQ 14, 170h–177h, 376h and IRQ 15, decoded while
I/O space is enabled and the channel's IDETIM says so; the bus master is BAR 4.  Native mode, which they have not: BARs
0 to 3 for the same registers, INTA# for both channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from devmodels.ide_cdrom.channel import Channel
from devmodels.pci.bars import BarKind, Windows
from devmodels.pci.decode import Claim
from devmodels.pci.function import PciFunction, PciIdentity
from devmodels.registers import RW, Register, RegisterFile
from devmodels.registers.state import nest, unnest

if TYPE_CHECKING:
    from devmodels.conformance import ViolationLog
    from devmodels.interrupts import LineSource
    from devmodels.iocontext import IoContext
    from devmodels.memory import GuestMemory
    from devmodels.trace import Tracer

INTEL = 0x8086
DEVICE_IDS = {"piix3-ide": 0x7010, "piix4-ide": 0x7111}
ULTRA = ("piix4-ide",)
"""Models with Ultra DMA."""
STATUS = 0x0280
"""Fast back-to-back, DEVSEL# of medium timing (Intel 290550 §2.3.4)."""
SUBSYSTEM = (0x1AF4, 0x1100)
"""What QEMU's has, where the chips have nothing; nor has it timing registers: both channels are decoded always."""
COMPATIBILITY, NATIVE = 0x0101_80, 0x0101_85
"""Class codes: IDE, bus master; with both channels in native mode, and nothing to choose."""

PORTS = ((0x1F0, 0x3F4), (0x170, 0x374))
"""Where each channel's command block and control block begin in compatibility mode."""
IRQS = (14, 15)
CONTROL_OFFSET = 2
BUS_MASTER_BAR, BUS_MASTER_SIZE = 4, 8
AS_FIRMWARE = 0x8000
"""IDETIM with its channel decoded."""
_RESET = "begins as firmware leaves it; the chip's default is 0"


class Timing(RegisterFile, size=8, widths=(1, 2, 4), lenient=True):
    """Configuration space 40h to 47h: how fast channels are, which is nothing here, and whether they are decoded.

    The chips come up with 0000h, channels that are not decoded; firmware, of which there is none here, changes that.
    """

    idetim0 = Register(
        0x00, 2, RW, reset=AS_FIRMWARE, clause="Intel 290550 §2.3.9", doc=f"IDETIM, primary: {_RESET}"
    )
    idetim1 = Register(
        0x02, 2, RW, reset=AS_FIRMWARE, clause="Intel 290550 §2.3.9", doc=f"IDETIM, secondary: {_RESET}"
    )
    sidetim = Register(0x04, 1, RW, clause="Intel 290550 §2.3.10", doc="timing of device 1")

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def decoded(self, channel: int) -> bool:
        """IDE decode enable, bit 15 of IDETIM."""
        return bool((self.idetim1 if channel else self.idetim0) & 0x8000)

    @idetim0.on_write
    @idetim1.on_write
    def _written(self, old: int, new: int) -> None:
        if (old ^ new) & 0x8000:
            self._changed()


class UltraTiming(RegisterFile, size=4, widths=(1, 2, 4), lenient=True):
    """Configuration space 48h to 4Bh of a PIIX4: Ultra DMA, which a PIIX3 has not."""

    udmactl = Register(0x00, 1, clause="Intel 290562 §5.1.12", doc="UDMACTL: for which devices")
    psde0 = udmactl.bit(0, RW, doc="primary, device 0")
    psde1 = udmactl.bit(1, RW, doc="primary, device 1")
    ssde0 = udmactl.bit(2, RW, doc="secondary, device 0")
    ssde1 = udmactl.bit(3, RW, doc="secondary, device 1")
    udmatim0 = Register(0x02, 1, clause="Intel 290562 §5.1.13", doc="UDMATIM, primary: cycle times")
    udmatim0_device0 = udmatim0.bits(1, 0, RW, doc="of device 0")
    udmatim0_device1 = udmatim0.bits(5, 4, RW, doc="of device 1")
    udmatim1 = Register(0x03, 1, clause="Intel 290562 §5.1.13", doc="UDMATIM, secondary")
    udmatim1_device0 = udmatim1.bits(1, 0, RW, doc="of device 0")
    udmatim1_device1 = udmatim1.bits(5, 4, RW, doc="of device 1")


TIMING_OFFSET, ULTRA_OFFSET = 0x40, 0x48


class PiixIde(PciFunction):
    """`model` is `piix3-ide` or `piix4-ide`; `channels` are the two buses, `name`.0 and `name`.1.

    `irqs`: the lines of both channels in compatibility mode; without them, or with `native`, INTA# is used.
    """

    def __init__(
        self,
        model: str,
        *,
        name: str,
        context: IoContext,
        memory: GuestMemory,
        violations: ViolationLog,
        irqs: tuple[LineSource, LineSource] | None = None,
        native: bool = False,
    ) -> None:
        class_code = NATIVE if native else COMPATIBILITY
        pin = 1 if native else 0
        as_qemu = violations.as_qemu
        identity = PciIdentity(
            INTEL,
            DEVICE_IDS[model],
            class_code,
            subsystem_vendor_id=SUBSYSTEM[0] if as_qemu else 0,
            subsystem_id=SUBSYSTEM[1] if as_qemu else 0,
            interrupt_pin=pin,
            status=STATUS,
            alone=True,
        )
        super().__init__(identity, name=name, as_qemu=as_qemu)
        self.model = model
        self.native = native
        self._irqs = irqs
        self.channels = tuple(
            Channel(
                context,
                memory,
                name=f"{name}.{number}",
                violations=violations,
                interrupt=partial(self._interrupt, number),
            )
            for number in range(2)
        )
        self.timing = Timing(self.decode_changed)
        if not as_qemu:
            self.add_registers(TIMING_OFFSET, self.timing)
            if model in ULTRA:
                self.add_registers(ULTRA_OFFSET, UltraTiming())
        self._add_bars()
        for channel in self.channels:
            channel.bus_master.on_error = self._master_abort

    def _add_bars(self) -> None:
        if self.native:
            for number, channel in enumerate(self.channels):
                self.add_bar(2 * number, 8, channel.command_block, kind=BarKind.IO)
                self.add_bar(2 * number + 1, 4, channel.control_block, kind=BarKind.IO)
        masters = Windows(2 * BUS_MASTER_SIZE)
        for number, channel in enumerate(self.channels):
            masters.place(number * BUS_MASTER_SIZE, BUS_MASTER_SIZE, channel.bus_master.registers)
        self.add_bar(BUS_MASTER_BAR, masters.size, masters, kind=BarKind.IO)

    def claims(self, *, io: bool) -> Iterator[Claim]:
        """BARs, and the fixed ports of compatibility mode."""
        yield from super().claims(io=io)
        if not io or self.native or not self.header.io_space_enable:
            return
        for number, channel in enumerate(self.channels):
            if self.timing.decoded(number):
                command, control = PORTS[number]
                yield Claim(command, 8, channel.command_block, self)
                yield Claim(control + CONTROL_OFFSET, 1, AlternateStatusPort(channel), self)

    @property
    def buses(self) -> tuple[Channel, ...]:
        """The channels."""
        return self.channels

    # --- what happens

    def _interrupt(self, number: int, level: bool) -> None:
        if self.native or self._irqs is None:
            self.set_intx(any(channel.level for channel in self.channels))
        else:
            self._irqs[number].set(level)

    def _master_abort(self) -> None:
        self.header.received_master_abort = 1

    def on_bus_master(self, enabled: bool) -> None:
        """Bus masters may go on, or not."""
        for channel in self.channels:
            channel.bus_master.enable(enabled)

    def on_reset(self) -> None:
        """RESET- on both cables."""
        for channel in self.channels:
            channel.hardware_reset()

    def when_settled(self, then: Callable[[], None]) -> None:
        """Call `then` when nothing runs any more on either channel."""
        first, second = self.channels
        first.when_settled(partial(second.when_settled, then))

    # --- snapshots

    def save(self) -> dict[str, int]:
        """Configuration space, the registers of the bus masters."""
        state = super().save()
        for number, channel in enumerate(self.channels):
            state.update(nest(f"bus-master{number}", channel.bus_master.registers.save()))
        return state

    def judge(self, state: Mapping[str, int]) -> None:
        """ValueError where `state` is of a function that was made otherwise."""
        super().judge(state)
        for number, channel in enumerate(self.channels):
            channel.bus_master.registers.judge(unnest(f"bus-master{number}", state))

    def restore(self, state: Mapping[str, int]) -> None:
        """Take what `save` gave; ValueError where it is another function's."""
        super().restore(state)
        for number, channel in enumerate(self.channels):
            channel.bus_master.registers.restore(unnest(f"bus-master{number}", state))

    @property
    def busy(self) -> bool:
        """Whether commands run."""
        return any(device.in_flight for channel in self.channels for device in channel.units.values())

    def drop(self) -> None:
        """Nobody waits for what runs any more: a snapshot is about to be restored."""
        for channel in self.channels:
            for unit in channel.places:
                unit.forget()

    def save_state(self) -> bytes:
        """Everything beyond registers: task files, devices, commands, where the bus masters are."""
        from devmodels.ide_cdrom.state import save  # slow to import, and seldom wanted

        return msgspec.msgpack.encode([save(channel) for channel in self.channels])

    def judge_state(self, data: bytes) -> None:
        """ValueError where that is not what `save_state` of such a controller gave."""
        from devmodels.ide_cdrom.state import decode_channels, judge

        for channel, each in zip(self.channels, decode_channels(data), strict=True):
            judge(channel, each)

    def restore_state(self, data: bytes) -> None:
        """Be as `data` says, which `judge_state` has found to be possible; after `restore`."""
        from devmodels.ide_cdrom.state import decode_channels, restore

        for channel, each in zip(self.channels, decode_channels(data), strict=True):
            restore(channel, each)

    def observe(self, trace: Tracer | None) -> None:
        """Give `trace` everything that goes on on both channels; None: no more."""
        for channel in self.channels:
            channel.observe(trace)


class AlternateStatusPort:
    """The one port of a control block that a PC decodes, which is at `OFFSET` of it."""

    OFFSET = CONTROL_OFFSET

    __slots__ = ("block",)

    def __init__(self, channel: Channel) -> None:
        self.block = channel.control_block

    def read(self, offset: int, size: int) -> int:
        """Alternate status."""
        return self.block.read(offset + self.OFFSET, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Device control."""
        self.block.write(offset + self.OFFSET, size, value)

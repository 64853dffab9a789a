"""Which register an access of a machine's trace reaches.

A twin of the recorded machine is made from what the trace says of its devices, over a disk without content, and is told
what moves registers about: writes to configuration space, and selectors.  So names come from the devices' own
declarations, and addresses from the machine's own decoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from devmodels.assembly import assemble
from devmodels.functionregions import CONFIG_REGION, REGION_SHIFT, FunctionRegions, regions_name
from devmodels.ide_cdrom import PiixIde
from devmodels.ide_cdrom.function import AlternateStatusPort
from devmodels.memoryregions import WORD_ALIGNMENT
from devmodels.pci.bus import ConfigPorts, Ecam
from devmodels.pci.capability import Capability
from devmodels.pci.function import PciFunction
from devmodels.pci.header import Type0Header
from devmodels.pci.msi import MsiCapability
from devmodels.pci.msix import MsixCapability, MsixTable, PendingBits
from devmodels.pci.power import PowerCapability
from devmodels.registers import Bank, RegisterFile
from devmodels.virtio.mmio import VirtioMmio
from devmodels.virtio.mmio_modern import CONTROL_SIZE, MmioRegisters
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio.pci_legacy import HEADER_SIZE, MSIX_HEADER_SIZE, LegacyBar, LegacyHeader
from devmodels.virtio.pci_modern import (
    CFG_COMMON,
    CFG_DEVICE,
    CFG_ISR,
    CFG_NOTIFY,
    CFG_PCI,
    NOTIFY_MULTIPLIER,
    AccessCapability,
    CommonConfig,
    DeviceConfig,
    IsrStatus,
    Notify,
    VirtioCapability,
)
from devmodels.virtio_scsi import VirtioScsi
from guestsim.show import ata, ataregisters, registerwords
from guestsim.show.ataregisters import ChannelWords, Drives
from guestsim.show.decode import LAYOUTS, Layout
from guestsim.show.decode import Field as Decoded
from guestsim.show.names import Words

if TYPE_CHECKING:
    from devmodels.pci.decode import Window
    from devmodels.tracefile import DeviceFacts
    from guestsim.show.atacommands import AtaCommands

IO_SPACE = "io-space"
"""The source of accesses to I/O ports; others are of memory space."""

_THREADS = ("iothread", "iothread-vq-mapping")
_CFG_TYPES = {
    CFG_COMMON: "common",
    CFG_NOTIFY: "notify",
    CFG_ISR: "isr",
    CFG_DEVICE: "device",
    CFG_PCI: "pci-cfg",
}
_PREFIXES: tuple[tuple[type, str], ...] = (
    (Type0Header, "pci"),
    (MsixCapability, "msix"),
    (MsixTable, "msix"),
    (MsiCapability, "msi"),
    (PowerCapability, "pm"),
    (CommonConfig, "common"),
    (LegacyHeader, "legacy"),
    (MmioRegisters, "mmio"),
    *ataregisters.FILES,
)


class Place(NamedTuple):
    """One register, or a part of one, that an access reaches.

    `at` is where in the access it begins, `size` how many bytes of it are reached.  `holder` is the twin's register
    file in which it lies, at `offset`; None where it is none that is declared.  `plain`: writing it only keeps what is
    written.
    """

    name: str
    device: str | None
    at: int
    size: int
    words: Words | None = None
    holder: RegisterFile | None = None
    offset: int = 0
    plain: bool = False

    def decoded(self, value: int) -> Decoded:
        """The register as a field of an access's `value`."""
        part = value >> 8 * self.at & (1 << 8 * self.size) - 1
        meaning = "" if self.words is None else self.words(part)
        return Decoded(self.name, self.at, self.size, part, meaning, hex=not self.name.startswith("config."))


class Registers:
    """The registers of a machine's devices."""

    def __init__(self) -> None:
        self._twin = assemble(ram=WORD_ALIGNMENT)
        self.devices = self._twin.devices
        self._regions: dict[str, FunctionRegions] = {}
        """Functions of others' machines, by the source of accesses to them."""
        self.channels: dict[RegisterFile, ChannelWords] = {}
        """What IDE channels were told, by their command blocks."""
        self.drives = Drives()

    def add(self, facts: DeviceFacts) -> None:
        """A device that is recorded from now on; one that cannot be made has no names for its registers."""
        if facts.host:
            self.drives.add(facts)
        if facts.kind not in ("device", "function") or facts.host:
            return
        hosted = facts.kind == "function"
        left_out = (*_THREADS, "addr") if hosted else _THREADS
        options = {name: value for name, value in facts.options.items() if name not in left_out}
        disk = facts.disk
        try:
            if disk is not None:
                node = {"driver": "null-co", "node-name": options.get("drive"), "size": disk.size}
                self._twin.add_node(node | {"read-only": disk.read_only})
            self._twin.add_device(options)
        except (ValueError, TypeError, OSError):
            return
        function = self._twin.function(facts.name)
        if isinstance(function, PiixIde):
            self.channels |= {
                each.command_block: ChannelWords(each, self.drives) for each in function.channels
            }
        if hosted and function is not None:
            self._regions[regions_name(facts.name)] = FunctionRegions(self._twin.machine, function)

    def function(self, name: str) -> PciFunction | None:
        """The twin's function of that name."""
        return self._twin.function(name)

    def remove(self, device: str) -> None:
        """A device is taken out of the machine."""
        twin = self._twin.devices.get(device)
        if isinstance(twin, VirtioPci):
            self._twin.context.run(self._twin.remove_device(device))

    def reset(self, device: str | None = None) -> None:
        """The machine is reset, or one device: its selectors are 0."""
        if device is None:
            self._twin.machine.reset()
        elif device in self._twin.devices:
            self._twin.virtio_device(device).reset()

    def at(self, source: str, address: int, size: int, *, writing: bool) -> list[Place]:
        """The registers that an access reaches, in the order of their bytes; none where that is not known."""
        regions = self._regions.get(source)
        if regions is not None:
            window = regions.find(address, size)
        else:
            window = self._twin.machine.find(address, size, io=source == IO_SPACE)
        if window is None:
            return []
        offset = address - window.base
        if regions is not None and address >> REGION_SHIFT == CONFIG_REGION:
            return self._of_config(regions.function, offset, size, writing=writing)
        handler = window.handler
        if isinstance(handler, Ecam):
            return self._config(offset >> 15, offset >> 12 & 7, offset & 0xFFF, size, writing=writing)
        if isinstance(handler, ConfigPorts):
            place = handler.place(offset, size)
            if place is None:
                return [Place("config_address" if offset < 4 else "config_data", None, 0, size)]
            return self._config(*place, size, writing=writing)
        places = _behind(window, offset, size, writing=writing)
        return [self._of_ata(place, writing=writing) for place in places]

    def _of_ata(self, place: Place, *, writing: bool) -> Place:
        """The place, with words that depend on the device, and on what it has been told."""
        channel = None if place.holder is None else self.channels.get(place.holder)
        if channel is not None and writing and place.offset == 0:
            return place._replace(words=partial(channel.data, size=place.size))
        if channel is not None and writing and place.offset == 7:
            return place._replace(words=channel.command)
        if channel is not None and not writing and place.offset == 1:
            return place._replace(words=channel.error)
        name, _, register = place.name.partition(".")
        if register == "tfd" and self.drives.at(f"{place.device}.{name.removeprefix('port')}"):
            return place._replace(words=partial(ata.task_file_data, drive=True))
        return place

    def write(self, source: str, address: int, size: int, value: int, places: list[Place]) -> None:
        """The guest writes to `places`: what moves registers about is done."""
        if source == IO_SPACE and places and places[0].name == "config_address":
            self._twin.machine.io_write(address, size, value)
        for place in places:
            holder = place.holder
            if holder is None or (isinstance(holder, AccessCapability) and not place.plain):
                continue
            part = value >> 8 * place.at & (1 << 8 * place.size) - 1
            if holder in self.channels:
                self.channels[holder].written(place.offset, place.size, part)
            kept = ataregisters.is_kept(holder, place.offset)
            if place.plain or kept or isinstance(holder, Type0Header | Capability):
                holder.write(place.offset, place.size, part)

    def command_written(self, commands: AtaCommands, place: Place) -> None:
        """Tell `commands` of what a driver has given a channel by writing to `place`."""
        channel = None if place.holder is None else self.channels.get(place.holder)
        if channel is not None and place.device is not None:
            channel.tell(commands, place.device, place.offset)

    def status_read(self, commands: AtaCommands, place: Place, value: int) -> None:
        """Tell `commands` of a status that a driver has seen."""
        for channel in self.channels.values():
            if place.holder in (channel.channel.command_block, channel.channel.control_block):
                assert place.device is not None
                unit = channel.channel.selected.number
                commands.status_read(place.device, channel.number, unit, value)

    def _config(self, slot: int, number: int, offset: int, size: int, *, writing: bool) -> list[Place]:
        """Registers of configuration space."""
        function = self._twin.machine.bus.at(slot, number)
        if function is None:
            name = f"pci {slot:02x}.{number} {offset:#04x}"
            return [Place(f"{name} (nobody)", None, 0, size)]
        return self._of_config(function, offset, size, writing=writing)

    def _of_config(self, function: PciFunction, offset: int, size: int, *, writing: bool) -> list[Place]:
        places: list[Place] = []
        for base, file in function.config.files:
            if base < offset + size and offset < base + file.size:
                first = max(offset, base)
                length = min(offset + size, base + file.size) - first
                reached = _declared(file, first - base, length, writing=writing, prefix=_prefix(file))
                places += [
                    place._replace(device=function.name, at=place.at + first - offset) for place in reached
                ]
        if not places:
            places.append(Place(f"pci.{offset:#04x}", function.name, 0, size))
        return places


def _prefix(file: RegisterFile) -> str:
    """What a register file's registers are called by, with its dot."""
    if isinstance(file, VirtioCapability | AccessCapability):
        return f"cap.{_CFG_TYPES.get(file.cfg_type, file.cfg_type)}."
    for kind, prefix in _PREFIXES:
        if isinstance(file, kind):
            return f"{prefix}."
    return f"{type(file).__name__}."


def _behind(window: Window, offset: int, size: int, *, writing: bool) -> Iterator[Place]:
    """The registers of a BAR or a device outside PCI."""
    handler, owner = window.handler, window.owner
    device = getattr(owner, "name", None)
    for place in _of_handler(handler, owner, offset, size, writing=writing):
        yield place._replace(device=device)


def _of_handler(handler: object, owner: object, offset: int, size: int, *, writing: bool) -> Iterator[Place]:
    if isinstance(handler, LegacyBar):
        msix = owner.msix if isinstance(owner, VirtioPci) else None
        header = MSIX_HEADER_SIZE if msix is not None and msix.enabled else HEADER_SIZE
        if offset < header:
            yield from _declared(handler.header, offset, size, writing=writing, prefix="legacy.")
        else:
            yield from device_config(_layout_of(owner), offset - header, size)
    elif isinstance(handler, VirtioMmio):
        if offset < CONTROL_SIZE:
            yield from _declared(handler.registers, offset, size, writing=writing, prefix="mmio.")
        else:
            yield from device_config(_layout_of(owner), offset - CONTROL_SIZE, size)
    elif isinstance(handler, DeviceConfig):
        yield from device_config(_layout_of(owner), offset, size)
    elif isinstance(handler, Notify):
        yield Place(f"notify[{offset // NOTIFY_MULTIPLIER}]", None, 0, size)
    elif isinstance(handler, IsrStatus):
        yield Place("isr", None, 0, size, words=registerwords.isr)
    elif isinstance(handler, PendingBits):
        yield Place(f"msix.pending[{offset // 8}]", None, 0, size)
    elif isinstance(handler, AlternateStatusPort):
        yield from _of_handler(handler.block, owner, offset + handler.OFFSET, size, writing=writing)
    elif isinstance(handler, RegisterFile):
        prefix = ataregisters.prefix(owner, handler) or _prefix(handler)
        yield from _declared(handler, offset, size, writing=writing, prefix=prefix)
    else:
        yield Place(f"bar+{offset:#x}", None, 0, size)


def _layout_of(owner: object) -> Layout:
    device = owner.device if isinstance(owner, VirtioPci | VirtioMmio) else None
    return config_layout(scsi=isinstance(device, VirtioScsi))


def config_layout(*, scsi: bool) -> Layout:
    """The configuration space of a SCSI host, or of a block device."""
    return LAYOUTS["virtio_scsi_config" if scsi else "virtio_blk_config"]


def device_config(layout: Layout, offset: int, size: int) -> Iterator[Place]:
    """Fields of a device configuration space."""
    codec = layout.codec
    found = False
    for name in codec.names:
        first, length = codec.offsets[name], codec.sizes[name]
        start, end = max(first, offset), min(first + length, offset + size)
        if start < end:
            found = True
            words = layout.words.get(name) if end - start == length else None
            full = f"config.{name}{_part(start - first, end - start, length)}"
            yield Place(full, None, start - offset, end - start, words)
    if not found:
        yield Place(f"config+{offset:#x}", None, 0, size)


def _part(start: int, size: int, width: int) -> str:
    """Which bytes of a register, where not all of them."""
    if size == width:
        return ""
    if width == 8 and size == 4:
        return ":high" if start else ":low"
    return f":{start}" if size == 1 else f":{start}-{start + size - 1}"


def _declared(file: RegisterFile, offset: int, size: int, *, writing: bool, prefix: str) -> Iterator[Place]:
    """The declared registers of `file` that an access reaches; a gap is named by its offset."""
    layout = file.layout()
    for port in layout.ports:
        if port.offset == offset and size in port.widths:
            yield Place(f"{prefix}{port.name}", None, 0, size, None, file, offset)
            return
    lanes = layout.write_lanes if writing else layout.read_lanes
    others = layout.read_lanes if writing else layout.write_lanes
    at = offset
    end = offset + size
    while at < end:
        register = lanes.get(at) or others.get(at)
        if register is not None:
            length = min(end, register.end) - at
            start = at - register.offset
            called = ataregisters.register_name(file, register.name)
            name = f"{prefix}{called}{_part(start, length, register.width)}"
            words = registerwords.words(file, register) if length == register.width else None
            plain = register.write_hook is None and all(each.change_hook is None for each in register.fields)
            yield Place(name, None, at - offset, length, words, file, at, plain)
        else:
            length = 1
            inner = _element(file, at)
            if inner is not None:
                label, element, within = inner
                length = min(end - at, max(element.size - within, 1))
                deeper = _declared(element, within, length, writing=writing, prefix=f"{prefix}{label}.")
                for place in deeper:
                    yield place._replace(at=place.at + at - offset)
            else:
                while at + length < end and not (lanes.get(at + length) or _element(file, at + length)):
                    length += 1
                yield Place(f"{prefix}{at:#x}", None, at - offset, length)
        at += length


def _element(file: RegisterFile, offset: int) -> tuple[str, RegisterFile, int] | None:
    """The element of an array or bank at `offset`: its name, it, and where in it."""
    for block in file.layout().blocks:
        if block.offset <= offset < block.end:
            index, within = divmod(offset - block.offset, block.stride)
            if isinstance(block, Bank):
                index = file.value_of(block.select)
            element = getattr(file, block.name).get(index)
            return None if element is None else (f"{block.name}[{index}]", element, within)
    return None

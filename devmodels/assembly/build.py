"""From options to a machine in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from devmodels.assembly.assembly import Assembly
from devmodels.conformance import Profile, ViolationLog
from devmodels.iocontext import ClockKind, IoContext
from devmodels.machine import ECAM_BASE
from devmodels.memory import GuestMemory
from devmodels.memoryregions import WORD_ALIGNMENT, BouncedRegion, Region, SharedRegion
from devmodels.options import OptionError
from devmodels.translation import Translate

DEFAULT_RAM = 128 << 20


def anonymous_memory(size: int) -> mmap:
    """Zeroes, of which only what is written takes memory, and nothing is made of what is only read."""
    return mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS)


def ram_region(size: int, *, shared: bool) -> Region:
    """Guest memory of `size` bytes from address 0: shared views, or reached by copies as an embedder's own would be."""
    buffer = anonymous_memory(size)
    if shared:
        return SharedRegion(0, buffer)

    def read(address: int, length: int) -> bytes:
        return buffer[address : address + length]

    def write(address: int, data: bytes) -> None:
        buffer[address : address + len(data)] = data

    return BouncedRegion(0, size, read, write)


def assemble(
    *,
    objects: Sequence[Mapping[str, object]] = (),
    blockdevs: Sequence[Mapping[str, object]] = (),
    devices: Sequence[Mapping[str, object]] = (),
    ram: int = DEFAULT_RAM,
    shared: bool = True,
    memory: GuestMemory | None = None,
    clock: ClockKind | str = ClockKind.VIRTUAL,
    context: IoContext | None = None,
    profile: Profile = Profile.STRICT,
    on_message: Callable[[int, int], None] | None = None,
    on_intx: Callable[[int, bool], None] | None = None,
    on_irq: Callable[[int, bool], None] | None = None,
    translate: Translate | None = None,
    one_context: bool = False,
) -> Assembly:
    """Build a machine; OptionError (or BlockOptionError) where an option is wrong, and then nothing stays open.

    `objects`, `blockdevs` and `devices` are mappings with QEMU's option names; `ram` is in bytes; `shared` False gives
    the devices memory that they can only copy from and to.  An embedder gives its own `memory` instead; it stays the
    embedder's, and its regions stay in it when the assembly is closed.  A `context` that is given has a
    clock already; it ends with the assembly.  `translate` is what an IOMMU does for devices with `iommu_platform=on`.
    `one_context` is for machines that are recorded.
    """
    if memory is None and (ram % WORD_ALIGNMENT or not 0 < ram <= ECAM_BASE):
        expected = f"a multiple of {WORD_ALIGNMENT} up to {ECAM_BASE:#x}, where devices begin"
        raise OptionError(f"ram: {ram} is given; expected {expected}")
    assembly = Assembly(
        memory=ram_region(ram, shared=shared) if memory is None else memory,
        context=IoContext(ClockKind(clock)) if context is None else context,
        violations=ViolationLog(profile),
        on_message=on_message,
        on_intx=on_intx,
        on_irq=on_irq,
        one_context=one_context,
    )
    try:
        for options in objects:
            assembly.add_object(options)
        for options in blockdevs:
            assembly.add_node(options)
        for options in devices:
            assembly.add_device(options, translate)
    except BaseException:
        assembly.close()
        raise
    return assembly

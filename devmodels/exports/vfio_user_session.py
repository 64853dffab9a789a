"""A vfio-user client's connection: a PCI function driven by messages, with the client's memory and eventfds.

Follows "vfio-user Protocol Specification" (docs/interop/vfio-user.rst of QEMU).  What a client does wrong is answered
with an error, or ends its connection where nothing sensible could follow; and nothing of it stays behind: no mapping,
no descriptor, no request, and a function that has been reset.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from devmodels.conformance import ViolationLog
from devmodels.exports.vfio_user_channel import Channel
from devmodels.exports.vfio_user_incoming import Message, ProtocolError
from devmodels.exports.vfio_user_irqs import Interrupts
from devmodels.exports.vfio_user_memory import ClientMemory, RefusedError
from devmodels.functionregions import NUM_REGIONS, REGION_SHIFT, FunctionRegions
from devmodels.machine import Machine
from devmodels.pci.function import PciFunction
from devmodels.protocols.vfio_user import (
    DEFAULT_MAX_TRANSFER,
    DEVICE_INFO,
    DMA_MAP,
    DMA_UNMAP,
    IRQ_INFO,
    IRQ_SET,
    MAJOR,
    MAX_DMA_MAPS,
    MAX_FDS,
    MAX_TRANSFER,
    MINOR,
    NUM_IRQS,
    PAGE_SIZE,
    REGION_ACCESS,
    REGION_INFO,
    REGION_IO_FDS,
    SHAPES,
    UNMAP_ALL,
    WRITE_COUNT,
    WRITE_ONE,
    Capabilities,
    Command,
    DeviceFlag,
    RegionFlag,
    build_version,
    command_name,
    parse_version,
)

log = logging.getLogger("devmodels.vfio-user")

GREETING_NS = 15 * 10**9
"""How long a client may keep others waiting before it has introduced itself."""

REFUSALS_LOGGED = 20
"""How many refused commands of one connection are logged; further ones are only counted."""

OURS = Capabilities(
    max_msg_fds=MAX_FDS,
    max_data_xfer_size=MAX_TRANSFER,
    max_dma_maps=MAX_DMA_MAPS,
    pgsizes=PAGE_SIZE,
    write_multiple=True,
)

Handler = Callable[[Message], "bytes | None"]


class Offered(NamedTuple):
    """A PCI function with a machine of its own, in which it is alone, and with what its driver does wrong."""

    machine: Machine
    function: PciFunction
    violations: ViolationLog


class Session:
    """One client's connection.

    `ended` is called when it is over and the last of the function's requests has come back.
    """

    def __init__(self, sock: socket.socket, offered: Offered, ended: Callable[[], None]) -> None:
        self._machine = offered.machine
        self._function = offered.function
        self._ended = ended
        self._gone = False
        self._greeted = False
        self._refused = 0
        self._unmapping = 0
        self.max_transfer = DEFAULT_MAX_TRANSFER
        self._regions = FunctionRegions(offered.machine, offered.function)
        self._irqs = Interrupts(self._regions, offered.machine.context)
        self._memory = ClientMemory(offered.machine.memory, self, self._memory_lost)
        self._table = _msix_table(offered.function)
        self._machine.on_message = self._irqs.message
        self._machine.on_intx = self._irqs.intx
        handlers: dict[int, Handler] = {
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._device_info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_REGION_IO_FDS: self._region_io_fds,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.DEVICE_RESET: self._reset,
            Command.REGION_WRITE_MULTI: self._write_multi,
            Command.DEVICE_FEATURE: self._feature,
        }
        self._commands = {command: (handler, *SHAPES[command]) for command, handler in handlers.items()}
        self._promised: set[tuple[int, int]] = set()
        """Regions without descriptors that the client thinks are mapped, and are about to be."""
        self._channel = Channel(sock, offered.machine.context, self._message, self._end, self._early)
        self.ask = self._channel.ask
        context = offered.machine.context
        self._late = context.call_at(context.now_ns() + GREETING_NS, self._too_late)

    # --- messages

    def _message(self, message: Message) -> None:
        try:
            if not self._greeted:
                self._greet(message)
                return
            known = self._commands.get(message.command)
            if known is None:
                raise RefusedError(errno.ENOSYS, "not a command that is known here")
            handler, least, most, fds = known
            if not least <= len(message.payload) <= most:
                raise RefusedError(errno.EINVAL, f"a payload of {len(message.payload)} bytes")
            if len(message.fds) > fds:
                raise RefusedError(errno.EINVAL, f"{len(message.fds)} file descriptors")
            reply = handler(message)
        except RefusedError as error:
            self._refused += 1
            if self._refused <= REFUSALS_LOGGED:
                log.warning("%s: refused: %s: %s", self._function.name, command_name(message.command), error)
            self._channel.refuse(message, error.error)
            return
        if reply is not None:
            self._channel.answer(message, reply)

    def _greet(self, message: Message) -> None:
        """The first message has to be VERSION; where that fails there is no second one."""
        shape = SHAPES[Command.VERSION]
        try:
            if message.command != Command.VERSION or not shape.least <= len(message.payload) <= shape.most:
                raise ValueError("a first message that is no VERSION")
            major, minor, theirs = parse_version(message.payload)
            if major != MAJOR:
                raise ValueError(f"version {major}.{minor}, expected {MAJOR}.{MINOR}")
        except ValueError as error:
            self._channel.refuse(message, errno.EINVAL)
            raise ProtocolError(f"{error}") from None
        self._greeted = True
        self._late.cancel()
        if theirs.max_data_xfer_size is not None:
            self.max_transfer = min(theirs.max_data_xfer_size, MAX_TRANSFER)
        # What is not proposed must not be in the answer.
        common = {name: getattr(OURS, name) for name in _proposed(theirs)}
        self._channel.answer(message, build_version(min(minor, MINOR), Capabilities(**common)))

    def _too_late(self) -> None:
        self._give_up(f"no VERSION within {GREETING_NS // 10**9} s")

    # --- what there is

    def _device_info(self, message: Message) -> bytes:
        _argsz(message.payload, DEVICE_INFO.size)
        flags = DeviceFlag.PCI | DeviceFlag.RESET
        return DEVICE_INFO.pack(DEVICE_INFO.size, flags, NUM_REGIONS, NUM_IRQS)

    def _region_info(self, message: Message) -> bytes:
        _argsz(message.payload, REGION_INFO.size)
        index = REGION_INFO.unpack_from(message.payload, 0)[2]
        if index >= NUM_REGIONS:
            raise RefusedError(errno.EINVAL, f"region {index}, expected 0 to {NUM_REGIONS - 1}")
        size = self._regions.sizes[index]
        flags = RegionFlag.READ | RegionFlag.WRITE if size else 0
        return REGION_INFO.pack(REGION_INFO.size, flags, index, 0, size, index << REGION_SHIFT)

    def _region_io_fds(self, message: Message) -> bytes:
        """No part of a region is reached by descriptors."""
        _argsz(message.payload, REGION_IO_FDS.size)
        _, flags, index, count = REGION_IO_FDS.unpack_from(message.payload, 0)
        if index >= NUM_REGIONS or flags or count:
            raise RefusedError(errno.EINVAL, f"region {index}, flags {flags:#x}, count {count}")
        return REGION_IO_FDS.pack(REGION_IO_FDS.size, 0, index, 0)

    def _irq_info(self, message: Message) -> bytes:
        _argsz(message.payload, IRQ_INFO.size)
        index = IRQ_INFO.unpack_from(message.payload, 0)[2]
        flags, count = self._irqs.info(index)
        return IRQ_INFO.pack(IRQ_INFO.size, flags, index, count)

    def _feature(self, _message: Message) -> bytes:
        """None is there: nothing is migrated."""
        raise RefusedError(errno.EINVAL, "no device feature is there")

    # --- accesses

    def _region_read(self, message: Message) -> bytes:
        offset, region, count = REGION_ACCESS.unpack_from(message.payload, 0)
        if not self._regions.holds(region, offset, count) or count > MAX_TRANSFER:
            raise RefusedError(errno.EINVAL, f"{count} bytes at {offset:#x} of region {region}")
        return message.payload + self._regions.load(region, offset, count)

    def _region_write(self, message: Message) -> bytes | None:
        payload = message.payload
        offset, region, count = REGION_ACCESS.unpack_from(payload, 0)
        if not self._regions.holds(region, offset, count) or len(payload) != REGION_ACCESS.size + count:
            raise RefusedError(errno.EINVAL, f"{count} bytes at {offset:#x} of region {region}")
        reply, data = payload[: REGION_ACCESS.size], payload[REGION_ACCESS.size :]
        if self._memory.by_message:
            return self._written(message, reply, [(region, offset, data)])
        self._store(region, offset, data)
        return reply

    def _write_multi(self, message: Message) -> bytes | None:
        payload = message.payload
        (count,) = WRITE_COUNT.unpack_from(payload, 0)
        if len(payload) != WRITE_COUNT.size + count * WRITE_ONE.size:
            raise RefusedError(errno.EINVAL, f"{len(payload)} bytes for {count} writes")
        writes: list[tuple[int, int, bytes]] = []
        for at in range(WRITE_COUNT.size, len(payload), WRITE_ONE.size):
            offset, region, length, data = WRITE_ONE.unpack_from(payload, at)
            assert isinstance(offset, int)
            assert isinstance(region, int)
            assert isinstance(length, int)
            assert isinstance(data, bytes)
            if length > len(data) or not self._regions.holds(region, offset, length):
                raise RefusedError(errno.EINVAL, f"{length} bytes at {offset:#x} of region {region}")
            writes.append((region, offset, data[:length]))
        return self._written(message, WRITE_COUNT.pack(count), writes)

    def _written(
        self, message: Message, reply: bytes, writes: Sequence[tuple[int, int, bytes]]
    ) -> bytes | None:
        """Do writes; the answer, where it is still to be given."""
        early = self._memory.by_message
        if early:
            # What a write does may ask for memory, and a client may not answer before it has its own answer.
            self._channel.answer(message, reply)
        for write in writes:
            if self._gone:
                break  # it did not want the answer: the function is the next one's
            self._store(*write)
        return None if early else reply

    def _store(self, region: int, offset: int, data: bytes) -> None:
        """The client writes; the MSI-X table here is not the client's to write."""
        if region == self._table[0] and offset < self._table[2] and offset + len(data) > self._table[1]:
            return
        self._regions.store(region, offset, data)

    # --- interrupts

    def _set_irqs(self, message: Message) -> bytes:
        argsz, flags, index, start, count = IRQ_SET.unpack_from(message.payload, 0)
        if argsz < IRQ_SET.size:
            raise RefusedError(errno.EINVAL, f"argsz {argsz}")
        self._irqs.set(flags, index, start, count, message.payload[IRQ_SET.size :], message.fds)
        return b""

    # --- memory

    def _early(self, message: Message) -> bytes | None:
        """The answer to a change of memory that we only ask for.

        A client that changes its memory may answer for it no sooner than it has heard that this was done (QEMU).  We
        hold none of it, and what we ask for is the client's to refuse.
        """
        payload = message.payload
        if message.command == Command.DMA_MAP and len(payload) == DMA_MAP.size and not message.fds:
            _, _, _, address, size = DMA_MAP.unpack_from(payload, 0)
            self._promised.add((address, size))
            return b""
        if message.command == Command.DMA_UNMAP and len(payload) == DMA_UNMAP.size:
            argsz, flags, address, size = DMA_UNMAP.unpack_from(payload, 0)
            known = (address, size) in self._promised or self._memory.is_asked(address, size)
            if argsz >= DMA_UNMAP.size and not flags and known:
                return payload
        return None

    def _dma_map(self, message: Message) -> bytes:
        argsz, flags, offset, address, size = DMA_MAP.unpack_from(message.payload, 0)
        if argsz < DMA_MAP.size:
            raise RefusedError(errno.EINVAL, f"argsz {argsz}")
        self._promised.discard((address, size))
        self._memory.map(flags, offset, address, size, message.fds[0] if message.fds else None)
        return b""

    def _dma_unmap(self, message: Message) -> bytes | None:
        """The answer, and the next message, wait for transfers that have the memory."""
        argsz, flags, address, size = DMA_UNMAP.unpack_from(message.payload, 0)
        if argsz < DMA_UNMAP.size or flags & ~UNMAP_ALL or (flags and (address or size)):
            raise RefusedError(
                errno.EINVAL, f"argsz {argsz}, flags {flags:#x}, {size:#x} bytes at {address:#x}"
            )

        def released() -> None:
            self._unmapping -= 1
            if not self._unmapping:
                self._channel.answer(message, message.payload)
                self._channel.go_on()

        def released_somewhere() -> None:
            self._machine.context.post(released)

        if flags:
            waiting = self._memory.unmap_all(released_somewhere)
        else:
            waiting = 0 if self._memory.unmap(address, size, released_somewhere) else 1
        if not waiting:
            return message.payload
        self._unmapping = waiting
        self._channel.hold()
        return None

    # --- reset, and the end

    def _reset(self, message: Message) -> None:
        """The answer, and the next message, wait until requests that run have come back."""
        self._channel.hold()
        self._machine.reset()
        self._irqs.restored()

        def settled() -> None:
            self._channel.answer(message)
            self._channel.go_on()

        self._function.when_settled(settled)

    def close(self) -> None:
        """End the connection from this side. Idempotent."""
        self._channel.close()
        self._end(None)

    def _give_up(self, reason: str) -> None:
        self._channel.close()
        self._end(f"connection ended: {reason}")

    def _memory_lost(self) -> None:
        self._machine.context.post(partial(self._give_up, "a file with its memory has become too short"))

    def _end(self, reason: str | None) -> None:
        if self._gone:
            return
        self._gone = True
        if reason is not None:
            log.warning("%s: %s", self._function.name, reason)
        if self._refused > REFUSALS_LOGGED:
            log.warning("%s: %d commands were refused", self._function.name, self._refused)
        self._late.cancel()
        self._machine.on_message = None
        self._machine.on_intx = None
        self._irqs.close()
        self._machine.reset()
        self._function.when_settled(self._finished)

    def _finished(self) -> None:
        self._memory.clear()
        self._ended()


def _proposed(capabilities: Capabilities) -> list[str]:
    """Names of the capabilities that are spoken of."""
    names = Capabilities.__struct_fields__
    return [name for name in names if getattr(capabilities, name) not in (None, False)]


def _argsz(payload: bytes, least: int) -> None:
    """The first word of `payload` is the room that the client has for an answer of `least` bytes."""
    argsz = int.from_bytes(payload[:4], "little")
    if argsz < least:
        raise RefusedError(errno.EINVAL, f"argsz {argsz}, expected {least}")


def _msix_table(function: PciFunction) -> tuple[int, int, int]:
    """Region, first offset and end of the MSI-X table; a region that there is not where there is no table."""
    msix = function.msix
    if msix is None:
        return NUM_REGIONS, 0, 0
    start = msix.table_offset << 3
    return msix.table_bir, start, start + msix.table_bytes

"""Interrupts of a function that a vfio-user client is the bus of: eventfds, and who may be signalled when.

INTx is masked when it has been signalled and is signalled again where it is still wanted when the client unmasks it.
MSI-X has its table with the client: ours is written here, as a kernel's driver would write it, so that a vector is
unmasked that has an eventfd and that the client has not masked, and its pending bits are right.  An MSI message is what
the client's guest has set up; its number says which eventfd.

Follows "VFIO_USER_DEVICE_SET_IRQS" of the protocol's document and struct vfio_irq_set of <linux/vfio.h>.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Sequence

from devmodels.exports.eventfd import Notifier, is_eventfd
from devmodels.exports.vfio_user_memory import RefusedError
from devmodels.functionregions import REGION_SHIFT, FunctionRegions
from devmodels.iocontext import IoContext
from devmodels.pci.msix import ENTRY_SIZE
from devmodels.protocols.vfio_user import (
    ACTION_MASK,
    ACTION_TRIGGER,
    ACTION_UNMASK,
    ACTIONS,
    DATA_BOOL,
    DATA_EVENTFD,
    DATA_MASK,
    DATA_NONE,
    NUM_IRQS,
    Irq,
    IrqFlag,
)

MESSAGE_ADDRESS = 0xFEE0_0000
"""In every entry of the MSI-X table here; its data is the vector."""


class _Vectors:
    """The vectors of one kind: eventfds by number, and which of them the client has masked."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.notifiers: dict[int, Notifier] = {}
        self.masked: set[int] = set()

    def open(self, vector: int) -> bool:
        """Whether it may be signalled."""
        return vector in self.notifiers and vector not in self.masked

    def signal(self, vector: int) -> None:
        """Signal it, if it has an eventfd."""
        notifier = self.notifiers.get(vector)
        if notifier is not None:
            notifier.signal()

    def assign(self, vector: int, fd: int | None) -> None:
        """Give it another eventfd, which becomes ours, or none."""
        old = self.notifiers.pop(vector, None)
        if old is not None:
            old.close()
        if fd is not None:
            self.notifiers[vector] = Notifier(fd)


class Interrupts:
    """The interrupts of the function behind `regions`, for one client."""

    def __init__(self, regions: FunctionRegions, context: IoContext) -> None:
        function = regions.function
        self._regions = regions
        self._function = function
        self._context = context
        self._intx = _Vectors(1 if function.identity.interrupt_pin else 0)
        self._msi = _Vectors(0 if function.msi is None else 1 << function.msi.multiple_message_capable)
        self._msix = _Vectors(0 if function.msix is None else function.msix.vectors)
        # Nothing is ever wrong with a device; a client that can be told sets up to be told.
        self._err = _Vectors(1)
        self._kinds = {Irq.INTX: self._intx, Irq.MSI: self._msi, Irq.MSIX: self._msix, Irq.ERR: self._err}
        self._level = False
        self._held: set[int] = set()
        """MSI vectors that were to be signalled and could not."""
        self._unmask_fd: int | None = None

    def info(self, index: int) -> tuple[int, int]:
        """Flags and number of the interrupts of a kind; RefusedError where there is no such kind."""
        if index >= NUM_IRQS:
            raise RefusedError(errno.EINVAL, f"interrupts of kind {index}, expected 0 to {NUM_IRQS - 1}")
        vectors = self._kinds.get(Irq(index))
        if vectors is None or not vectors.count:
            return 0, 0
        flags = IrqFlag.EVENTFD
        if index != Irq.ERR:
            flags |= IrqFlag.MASKABLE
        if index == Irq.INTX:
            flags |= IrqFlag.AUTOMASKED
        return flags, vectors.count

    # --- what the function raises

    def intx(self, _line: int, level: bool) -> None:
        """The function asks for INTx, or gives it up."""
        self._level = level
        self._settle_intx()

    def _settle_intx(self) -> None:
        if self._level and self._intx.open(0):
            self._intx.masked.add(0)
            self._intx.signal(0)

    def message(self, _address: int, data: int) -> None:
        """The function sends a message."""
        msix, msi = self._function.msix, self._function.msi
        if msix is not None and msix.enabled:
            self._msix.signal(data)
        elif msi is not None:
            vector = data & msi.vectors - 1
            if self._msi.open(vector):
                self._msi.signal(vector)
            else:
                self._held.add(vector)

    def restored(self) -> None:
        """The function has been reset: what it has of our MSI-X table is gone."""
        self._held.clear()
        for vector in self._msix.notifiers:
            self._program(vector)

    # --- SET_IRQS

    def set(self, flags: int, index: int, start: int, count: int, data: bytes, fds: list[int]) -> None:
        """Carry out a SET_IRQS; eventfds that are kept are taken out of `fds`.  RefusedError where it is wrong."""
        vectors = self._kinds.get(Irq(index)) if index < NUM_IRQS else None
        kind, action = flags & DATA_MASK, flags & ACTIONS
        if kind not in (DATA_NONE, DATA_BOOL, DATA_EVENTFD) or action | kind != flags:
            raise RefusedError(errno.EINVAL, f"flags {flags:#x}")
        if action not in (ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER):
            raise RefusedError(errno.EINVAL, f"flags {flags:#x}")
        if not count:
            if start or kind != DATA_NONE or action != ACTION_TRIGGER or index >= NUM_IRQS or data or fds:
                raise RefusedError(errno.EINVAL, f"no interrupts from {start} on, of kind {index}")
            if vectors is not None:
                self._disable(Irq(index), vectors)
            return
        if index == Irq.ERR and action != ACTION_TRIGGER:
            raise RefusedError(errno.EINVAL, "masking of what is not masked")
        if vectors is None or start + count > vectors.count:
            raise RefusedError(errno.EINVAL, f"interrupts {start} to {start + count - 1} of kind {index}")
        if kind != DATA_BOOL and data:
            raise RefusedError(errno.EINVAL, f"{len(data)} bytes of data with flags {flags:#x}")
        if kind == DATA_EVENTFD:
            self._set_eventfds(Irq(index), vectors, action, start, count, fds)
            return
        if kind == DATA_BOOL and len(data) != count:
            raise RefusedError(errno.EINVAL, f"{len(data)} bytes for {count} interrupts")
        if fds:
            raise RefusedError(errno.EINVAL, f"{len(fds)} descriptors with flags {flags:#x}")
        chosen = [start + n for n in range(count) if kind == DATA_NONE or data[n]]
        self._act(Irq(index), vectors, action, chosen)

    def _set_eventfds(
        self, index: Irq, vectors: _Vectors, action: int, start: int, count: int, fds: list[int]
    ) -> None:
        if fds and len(fds) != count:
            raise RefusedError(errno.EINVAL, f"{len(fds)} descriptors for {count} interrupts")
        if not all(map(is_eventfd, fds)):
            raise RefusedError(errno.EINVAL, "a descriptor that is no eventfd")
        if action == ACTION_TRIGGER:
            given: list[int] | list[None] = [*fds] or [None] * count
            fds.clear()
            self._assign(index, vectors, [(start + n, fd) for n, fd in enumerate(given)])
        elif action == ACTION_UNMASK and index == Irq.INTX:
            self._watch_unmask(fds.pop() if fds else None)
        else:
            raise RefusedError(errno.ENOTSUP, "eventfds for masking")

    def _disable(self, index: Irq, vectors: _Vectors) -> None:
        """Nothing of a kind is signalled, masked or watched any more."""
        if index == Irq.INTX:
            self._drop_unmask()
        vectors.masked.clear()
        self._assign(index, vectors, [(each, None) for each in sorted(vectors.notifiers)])

    def _assign(self, index: Irq, vectors: _Vectors, pairs: Sequence[tuple[int, int | None]]) -> None:
        for vector, fd in pairs:
            vectors.assign(vector, fd)
            if index == Irq.INTX:
                vectors.masked.discard(vector)
        self._settle(index, [vector for vector, _ in pairs])

    def _act(self, index: Irq, vectors: _Vectors, action: int, chosen: Sequence[int]) -> None:
        if action == ACTION_TRIGGER:
            for vector in chosen:
                vectors.signal(vector)
            return
        if action == ACTION_MASK:
            vectors.masked.update(chosen)
        else:
            vectors.masked.difference_update(chosen)
        self._settle(index, chosen)

    def _settle(self, index: Irq, changed: Sequence[int]) -> None:
        """Some vectors may be signalled now, or not any more."""
        if index == Irq.INTX:
            self._settle_intx()
        elif index == Irq.MSI:
            for vector in changed:
                if vector in self._held and self._msi.open(vector):
                    self._held.discard(vector)
                    self._msi.signal(vector)
        elif index == Irq.MSIX:
            for vector in changed:
                self._program(vector)

    def _program(self, vector: int) -> None:
        """Write an entry of the MSI-X table, by the function's registers."""
        msix = self._function.msix
        assert msix is not None
        entry = msix.table_bir << REGION_SHIFT | (msix.table_offset << 3) + ENTRY_SIZE * vector
        write = self._regions.write
        if not self._msix.open(vector):
            write(entry + 12, 4, 1)
            return
        write(entry, 4, MESSAGE_ADDRESS)
        write(entry + 4, 4, 0)
        write(entry + 8, 4, vector)
        write(entry + 12, 4, 0)

    # --- a descriptor that the client, or its kernel, signals when INTx is to be unmasked

    def _watch_unmask(self, fd: int | None) -> None:
        self._drop_unmask()
        if fd is not None:
            self._unmask_fd = fd
            # Edges are enough, and a read could block: the description is the client's, too.
            self._context.watch(fd, select.EPOLLIN | select.EPOLLET, self._unmasked)

    def _unmasked(self, _events: int) -> None:
        self._act(Irq.INTX, self._intx, ACTION_UNMASK, [0])

    def _drop_unmask(self) -> None:
        fd, self._unmask_fd = self._unmask_fd, None
        if fd is not None:
            self._context.unwatch(fd)
            os.close(fd)

    def close(self) -> None:
        """Give up all descriptors; nothing is signalled any more."""
        self._drop_unmask()
        for vectors in self._kinds.values():
            for vector in list(vectors.notifiers):
                vectors.assign(vector, None)

"""A guest that is plain data: it can be pickled in the middle of its work, and go on in another process.

Its requests are a fixed list. What it does at each step depends on the step's number and on what it can see. Two guests
whose machines take different time end with the same bytes all the same: each request has a place of its own in
memory and on the disk, and at the end as many requests as a ring has entries follow one another.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import (
    AVAIL,
    BLK_HEADER,
    DESC,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_WRITE,
    PACKED_AVAIL,
    PACKED_USED,
    USED,
    USED_ELEM,
    BlkType,
    Feature,
)
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

SLOTS = 6
"""Requests of one queue that may be in flight at a time, each with its memory and its piece of the disk."""
QUEUE_SIZE = 32
PIECE = 4096
DISK = 2 * SLOTS * PIECE
REQUESTS = 150
"""Of each queue, before the last lap."""
KINDS = (BlkType.IN, BlkType.OUT, BlkType.OUT, BlkType.FLUSH, BlkType.WRITE_ZEROES)
ACTIONS = ("add", "add", "add", "kick", "turn", "turn", "poll", "poll", "stop", "cont")


@dataclass
class Ring:
    """One queue as its driver knows it.

    `flights` is what the device has, the oldest first: head or buffer id to slot and number of descriptors.
    """

    index: int
    desc: int
    driver: int
    device: int
    notify: tuple[int, int, int]
    buffers: int
    packed: bool
    indirect: bool
    in_order: bool
    request: int = 0
    available: int = 0
    used: int = 0
    descriptor: int = 0
    flights: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return REQUESTS + QUEUE_SIZE

    @property
    def done(self) -> bool:
        return self.request == self.total and not self.flights

    # --- memory of a slot: header, status, table, data

    def _slot(self, slot: int) -> int:
        return self.buffers + slot * (PIECE + 512)

    def _elements(self, target: InProcessTarget, slot: int) -> list[tuple[int, int, int]]:
        """Write what request number `request` needs and return its elements (address, length, flags)."""
        choice = random.Random(self.index << 20 | self.request)
        kind = choice.choice(KINDS)
        sector = (self.index * SLOTS + slot) * PIECE // 512
        length = 512 * choice.randint(1, PIECE // 512)
        base = self._slot(slot)
        header = BLK_HEADER.pack(kind, 0, 0 if kind in (BlkType.FLUSH, BlkType.WRITE_ZEROES) else sector)
        data, body = base + 512, b""
        elements = [(base, BLK_HEADER.size, 0)]
        if kind == BlkType.OUT:
            body = choice.randbytes(length)
        elif kind == BlkType.WRITE_ZEROES:
            body = struct.pack("<QII", sector, length // 512, 0)
        if body:
            elements.append((data, len(body), 0))
        elif kind == BlkType.IN:
            body = b"\xdb" * length
            elements.append((data, length, DESC_WRITE))
        target.ram_write(base, header)
        target.ram_write(base + 16, b"\xff")
        target.ram_write(data, body)
        return [*elements, (base + 16, 1, DESC_WRITE)]

    # --- the driver's side of both rings

    def add(self, target: InProcessTarget) -> None:
        """Make the next request available, if its slot is free; in the last lap only when all others are done."""
        slot = self.request % SLOTS
        last_lap = self.request >= REQUESTS
        taken = any(slot == other for other, _ in self.flights.values())
        if self.request == self.total or taken or (last_lap and self.flights):
            return
        elements = self._elements(target, slot)
        self.request += 1
        if self.indirect:
            table = self._slot(slot) + 64
            entries = enumerate(elements, 1)
            if self.packed:
                data = b"".join(DESC.pack(a, n, 0, flags) for _, (a, n, flags) in entries)
            else:
                more = len(elements)
                data = b"".join(
                    DESC.pack(a, n, flags | (DESC_NEXT if i < more else 0), i if i < more else 0)
                    for i, (a, n, flags) in entries
                )
            target.ram_write(table, data)
            elements = [(table, len(data), DESC_INDIRECT)]
        if self.packed:
            self.flights[slot] = (slot, len(elements))
            self._add_packed(target, slot, elements)
        else:
            # With IN_ORDER descriptors are taken in the order of the table, VIRTIO 1.4 §2.7.5.2.
            first = self.descriptor % QUEUE_SIZE if self.in_order else 3 * slot
            self.descriptor += len(elements)
            self.flights[first] = (slot, len(elements))
            self._add_split(target, first, elements)

    def _add_split(self, target: InProcessTarget, first: int, elements: list[tuple[int, int, int]]) -> None:
        for at, (address, length, flags) in enumerate(elements):
            more = at + 1 < len(elements)
            following = (first + at + 1) % QUEUE_SIZE if more else 0
            entry = DESC.pack(address, length, flags | (DESC_NEXT if more else 0), following)
            target.ram_write(self.desc + DESC.size * ((first + at) % QUEUE_SIZE), entry)
        entry_at = self.driver + AVAIL.size + 2 * (self.available % QUEUE_SIZE)
        target.ram_write(entry_at, struct.pack("<H", first))
        self.available = self.available + 1 & 0xFFFF
        target.ram_write(self.driver + 2, struct.pack("<H", self.available))

    def _add_packed(self, target: InProcessTarget, slot: int, elements: list[tuple[int, int, int]]) -> None:
        entries = []
        for at, (address, length, flags) in enumerate(elements):
            lap, place = divmod(self.available + at, QUEUE_SIZE)
            flags |= PACKED_USED if lap % 2 else PACKED_AVAIL
            if at + 1 < len(elements):
                flags |= DESC_NEXT
            entries.append((self.desc + DESC.size * place, DESC.pack(address, length, slot, flags)))
        self.available += len(elements)
        for place_of, entry in reversed(entries):
            target.ram_write(place_of, entry)

    def poll(self, target: InProcessTarget) -> None:
        """Take back what the device has used."""
        while self.flights:
            last = self._next_used_packed(target) if self.packed else self._next_used_split(target)
            if last is None:
                return
            while True:
                # With IN_ORDER a used element stands for all that were made available before it, too.
                one = next(iter(self.flights)) if self.in_order else last
                _, count = self.flights.pop(one)
                self.used += count if self.packed else 1
                if one == last:
                    break

    def _next_used_split(self, target: InProcessTarget) -> int | None:
        (index,) = struct.unpack("<H", target.ram_read(self.device + 2, 2))
        if index == self.used & 0xFFFF:
            return None
        at = self.device + USED.size + USED_ELEM.size * (self.used % QUEUE_SIZE)
        return USED_ELEM.unpack(target.ram_read(at, USED_ELEM.size))["id"]

    def _next_used_packed(self, target: InProcessTarget) -> int | None:
        lap, place = divmod(self.used, QUEUE_SIZE)
        entry = target.ram_read(self.desc + DESC.size * place, DESC.size)
        _, _, slot, flags = DESC.struct.unpack(entry)
        wrap = PACKED_AVAIL | PACKED_USED if lap % 2 == 0 else 0
        return slot if flags & (PACKED_AVAIL | PACKED_USED) == wrap else None


@dataclass
class Walker:
    """The guest: its rings, and how many steps it has done."""

    rings: list[Ring]
    seed: int
    step: int = 0

    @property
    def done(self) -> bool:
        return all(ring.done for ring in self.rings)

    def walk(self, target: InProcessTarget) -> None:
        """One event of the guest's life: its own, the machine's or the host's."""
        choice = random.Random(self.seed << 32 | self.step)
        self.step += 1
        action, ring = choice.choice(ACTIONS), choice.choice(self.rings)
        if action == "add":
            ring.add(target)
        elif action == "kick":
            target.write(*ring.notify)
        elif action == "turn":
            target.advance()
        elif action == "poll":
            ring.poll(target)
        elif action == "stop":
            target.assembly.run_state.stop("paused")
        else:
            target.assembly.run_state.cont()

    def finish(self, target: InProcessTarget) -> None:
        """Go on to the end."""
        most = self.step + 1_000_000
        while not self.done:
            self.walk(target)
            assert self.step < most, "the guest's requests do not come to an end"
        target.assembly.run_state.cont()
        target.assembly.machine.run_until_idle()


def boot(target: InProcessTarget, *, seed: int, packed: bool, indirect: bool, in_order: bool) -> Walker:
    """Bring the disk up with a driver, which then hands its rings over."""
    written: list[tuple[int, int, int]] = []
    write = target.write

    def spy(address: int, size: int, value: int) -> None:
        written.append((address, size, value))
        write(address, size, value)

    target.write = spy
    guest = Guest(target)
    driver = virtio_blk.VirtioBlk(guest, virtio_blk.find(guest)[0])
    features = set(virtio_blk.BLK_FEATURES) - {Feature.NOTIFICATION_DATA, Feature.NOTIF_CONFIG_DATA}
    guest.run(driver.probe(features=features, queue_size=QUEUE_SIZE, interrupts=Interrupts.POLLING))
    rings = []
    for index, queue in driver.device.queues.items():
        driver.device.transport.notifier(index)(0)
        buffers = guest.memory.allocate_zeroed(SLOTS * (PIECE + 512), 4096)
        rings.append(Ring(index, *queue.addresses, written[-1], buffers, packed, indirect, in_order))
    target.write = write
    return Walker(rings, seed)

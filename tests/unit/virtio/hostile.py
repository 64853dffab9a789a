"""What a driver must never do to its split ring, each with the clause of VIRTIO 1.4 that it breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.unit.virtio.model import DESC, INDIRECT, INDIRECT_DESC, NEXT, WRITE, DriverRing

Pick = Callable[[int, int], int]
"""Choose a number from the first to the second."""


@dataclass(frozen=True)
class Edit:
    """One misdeed; `spoil` writes it into the ring and returns how far the available index is to move.

    `with_features` must be negotiated and `without` must not; `free` descriptors must be free, `out` buffers with the
    device.  `spoil(driver, table, pick)` may use the 512 bytes at `table`.
    """

    name: str
    clause: str
    spoil: Callable[[DriverRing, int, Pick], int]
    with_features: int = 0
    without: int = 0
    free: int = 1
    out: int = 0

    def possible(self, driver: DriverRing) -> bool:
        return (
            driver.features & self.with_features == self.with_features
            and not driver.features & self.without
            and driver.free >= self.free
            and len(driver.out) >= self.out
        )

    def do(self, driver: DriverRing, table: int, pick: Pick) -> None:
        driver.move_idx(self.spoil(driver, table, pick))

    def __str__(self) -> str:
        return self.name


def chain(driver: DriverRing, *descs: tuple[int, int, int, int]) -> int:
    """Offer a chain of free descriptors; `next` 0 stands for the next of them, -n-1 for the n-th."""
    indices = [driver.free_descriptor(at) for at in range(len(descs))]
    for at, (address, length, flags, following) in enumerate(descs):
        if following == 0 and flags & NEXT:
            following = indices[at + 1]
        elif following < 0:
            following = indices[-following - 1]
        driver.write_desc(indices[at], address, length, flags, following)
    driver.write_entry(0, indices[0])
    return 1


def table_of(driver: DriverRing, table: int, entries: Sequence[tuple[int, int, int, int]]) -> int:
    """Offer an indirect table with these entries as they are."""
    for at, entry in enumerate(entries):
        driver.plain.store(table + 16 * at, DESC.pack(*entry))
    return chain(driver, (table, 16 * len(entries), INDIRECT, 0))


def bad_head(driver: DriverRing, table: int, pick: Pick) -> int:
    driver.write_entry(0, pick(driver.size, 0xFFFF))
    return 1


def loop_of_one(driver: DriverRing, table: int, pick: Pick) -> int:
    return chain(driver, (table, pick(0, 64), NEXT, -1))


def loop_of_two(driver: DriverRing, table: int, pick: Pick) -> int:
    return chain(driver, (table, 0, NEXT, 0), (table, pick(0, 64), NEXT | WRITE * pick(0, 1), -2))


def next_out_of_range(driver: DriverRing, table: int, pick: Pick) -> int:
    return chain(driver, (table, 16, NEXT, pick(driver.size, 0xFFFF)))


def read_after_write(driver: DriverRing, table: int, pick: Pick) -> int:
    return chain(driver, (table, pick(0, 16), WRITE | NEXT, 0), (table, pick(0, 16), 0, 0))


def indirect(driver: DriverRing, table: int, pick: Pick) -> int:
    return table_of(driver, table, [(table, 16, WRITE, 0)])


def nested(driver: DriverRing, table: int, pick: Pick) -> int:
    driver.plain.store(table + 256, DESC.pack(table, 16, WRITE, 0))
    return table_of(driver, table, [(table, 8, NEXT, 1), (table + 256, 16, INDIRECT, 0)])


def indirect_and_next(driver: DriverRing, table: int, pick: Pick) -> int:
    driver.plain.store(table, DESC.pack(table, 16, WRITE, 0))
    return chain(driver, (table, 16, INDIRECT | NEXT, 0), (table, 16, WRITE, 0))


def odd_table(driver: DriverRing, table: int, pick: Pick) -> int:
    length = 16 * pick(0, 3) + pick(1, 15) if pick(0, 3) else 0
    return chain(driver, (table, length, INDIRECT, 0))


def next_out_of_table(driver: DriverRing, table: int, pick: Pick) -> int:
    return table_of(driver, table, [(table, 16, NEXT, pick(1, 0xFFFF))])


def table_outside_memory(driver: DriverRing, table: int, pick: Pick) -> int:
    address = (0x7000_0000, (1 << 64) - 16, (1 << 64) - 8, driver.plain.blocks[-1].end - 16)[pick(0, 3)]
    return chain(driver, (address, 16 * pick(2, 1 << 20), INDIRECT, 0))


def table_chain_too_long(driver: DriverRing, table: int, pick: Pick) -> int:
    """A table may be as long as it likes, the chain in it may not: here it goes round inside a short table."""
    return table_of(driver, table, [(table, 0, NEXT, 1), (table, 0, NEXT, 0)])


def more_than_4_gib(driver: DriverRing, table: int, pick: Pick) -> int:
    return chain(driver, (table, 0xFFFF_FFFF, NEXT, 0), (table, pick(2, 0xFFFF_FFFF), WRITE, 0))


def index_jumps(driver: DriverRing, table: int, pick: Pick) -> int:
    return pick(driver.size + 1, 0xFFFE)


def index_goes_back(driver: DriverRing, table: int, pick: Pick) -> int:
    return -pick(1, 3)


def more_than_the_queue_holds(driver: DriverRing, table: int, pick: Pick) -> int:
    """With buffers out, a full ring's worth of new entries cannot be."""
    for ahead in range(driver.size):
        driver.write_entry(ahead, driver.free_descriptor(0))
    driver.write_desc(driver.free_descriptor(0), table, 0, WRITE, 0)
    return pick(driver.size - len(driver.out) + 1, driver.size)


def head_in_use(driver: DriverRing, table: int, pick: Pick) -> int:
    driver.write_entry(0, driver.out[pick(0, len(driver.out) - 1)].head)
    return 1


EDITS = (
    Edit("bad head", "VIRTIO 1.4 §2.7.13", bad_head),
    Edit("loop of one", "VIRTIO 1.4 §2.7.5.3.1", loop_of_one),
    Edit("loop of two", "VIRTIO 1.4 §2.7.5.3.1", loop_of_two, free=2),
    Edit("next out of range", "VIRTIO 1.4 §2.7.5", next_out_of_range),
    Edit("read after write", "VIRTIO 1.4 §2.7.4.2", read_after_write, free=2),
    Edit("indirect not negotiated", "VIRTIO 1.4 §2.7.5.3.1", indirect, without=INDIRECT_DESC),
    Edit("nested table", "VIRTIO 1.4 §2.7.5.3.1", nested, with_features=INDIRECT_DESC),
    Edit(
        "indirect and next", "VIRTIO 1.4 §2.7.5.3.1", indirect_and_next, with_features=INDIRECT_DESC, free=2
    ),
    Edit("odd table", "VIRTIO 1.4 §2.7.5.3", odd_table, with_features=INDIRECT_DESC),
    Edit("next out of table", "VIRTIO 1.4 §2.7.5.3", next_out_of_table, with_features=INDIRECT_DESC),
    Edit("table outside memory", "VIRTIO 1.4 §2.7.5.3", table_outside_memory, with_features=INDIRECT_DESC),
    Edit("chain too long", "VIRTIO 1.4 §2.7.5.3.1", table_chain_too_long, with_features=INDIRECT_DESC),
    Edit("more than 4 GiB", "VIRTIO 1.4 §2.7.5.2", more_than_4_gib, free=2),
    Edit("index jumps", "VIRTIO 1.4 §2.7.6.1", index_jumps),
    Edit("index goes back", "VIRTIO 1.4 §2.7.6.1", index_goes_back),
    Edit("more than the queue holds", "VIRTIO 1.4 §2.7.6.1", more_than_the_queue_holds, out=1),
    Edit("head in use", "VIRTIO 1.4 §2.7.13", head_in_use, out=1),
)

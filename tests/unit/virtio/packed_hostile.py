"""What a driver must never do to its packed ring, each with the clause of VIRTIO 1.4 that it breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.unit.virtio.model import INDIRECT, INDIRECT_DESC, NEXT, WRITE, Buffer
from tests.unit.virtio.packed_model import AVAIL, DESC, USED, PackedDriverRing

Pick = Callable[[int, int], int]
"""Choose a number from the first to the second."""


@dataclass(frozen=True)
class PackedEdit:
    """One misdeed; `do(driver, table, pick)` writes it into the ring and may use the 512 bytes at `table`.

    `with_features` must be negotiated and `without` must not; `free` descriptors must be free, `out` buffers with the
    device; with `full` nothing is free; `size` is the least that the ring has.
    """

    name: str
    clause: str
    do: Callable[[PackedDriverRing, int, Pick], None]
    with_features: int = 0
    without: int = 0
    free: int = 1
    out: int = 0
    full: bool = False
    size: int = 1

    def possible(self, driver: PackedDriverRing) -> bool:
        return (
            driver.size >= self.size
            and driver.features & self.with_features == self.with_features
            and not driver.features & self.without
            and driver.free >= self.free
            and len(driver.out) >= self.out
            and not (self.full and driver.free)
        )

    def __str__(self) -> str:
        return self.name


def put(driver: PackedDriverRing, *entries: tuple[int, int, int], ident: int | None = None) -> None:
    """Make a list of (addr, len, flags) available as it is, at the next descriptors."""
    name = driver.ids[0] if ident is None else ident
    driver.offer(Buffer([], []), name, [(address, length, name, flags) for address, length, flags in entries])
    driver.expose()


def table_of(driver: PackedDriverRing, table: int, entries: Sequence[tuple[int, int, int]]) -> None:
    """Make an indirect table with these entries available."""
    driver.write_table(table, entries)
    put(driver, (table, 16 * len(entries), INDIRECT))


def read_after_write(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    put(driver, (table, pick(0, 16), WRITE | NEXT), (table, pick(0, 16), 0))


def read_after_write_in_a_table(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    table_of(driver, table, [(table, 4, WRITE), (table, pick(0, 16), 0)])


def list_goes_on_into_nothing(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    """NEXT, and the next descriptor has not been made available."""
    put(driver, (table, 16, NEXT | WRITE * pick(0, 1)))


def half_available(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    """The second descriptor of a list has AVAIL and USED as they were, or both the same."""
    place = driver.idx + 1
    flags = (AVAIL | USED, 0, driver.available_flags(place) ^ (AVAIL | USED))[pick(0, 2)]
    driver.plain.store(driver.at(place), DESC.pack(table, 16, driver.ids[0], WRITE | flags))
    put(driver, (table, 16, NEXT))


def endless_list(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    """Every descriptor that is free, and the list still goes on."""
    put(driver, *[(table, 0, NEXT)] * driver.free)


def indirect(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    table_of(driver, table, [(table, 16, WRITE)])


def indirect_and_next(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    driver.write_table(table, [(table, 16, WRITE)])
    put(driver, (table, 16, INDIRECT | NEXT), (table, 16, WRITE))


def indirect_in_a_list(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    driver.write_table(table, [(table, 16, WRITE)])
    put(driver, (table, 16, NEXT), (table, 16, INDIRECT))


def odd_table(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    length = 16 * pick(0, 3) + pick(1, 15) if pick(0, 3) else 0
    put(driver, (table, length, INDIRECT))


def long_table(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    put(driver, (table, 16 * pick(driver.size + 1, 1 << 24), INDIRECT))


def table_outside_memory(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    address = (0x7000_0000, (1 << 64) - 16, (1 << 64) - 8, driver.plain.blocks[-1].end - 16)[pick(0, 3)]
    put(driver, (address, 16 * pick(2, driver.size), INDIRECT))


def more_than_4_gib(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    put(driver, (table, 0xFFFF_FFFF, WRITE | NEXT), (table, pick(1, 0xFFFF_FFFF), WRITE))


def id_in_use(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    put(driver, (table, 4, WRITE), ident=driver.out[pick(0, len(driver.out) - 1)].head)


def descriptor_taken_back(driver: PackedDriverRing, table: int, pick: Pick) -> None:
    """The ring is full, and all of it with the device: the next descriptor cannot be available."""
    put(driver, (table, pick(0, 16), WRITE * pick(0, 1)), ident=0xFFFF)


PACKED_EDITS = (
    PackedEdit("read after write", "VIRTIO 1.4 §2.8.17", read_after_write, free=2),
    PackedEdit(
        "read after write in a table",
        "VIRTIO 1.4 §2.8.17",
        read_after_write_in_a_table,
        with_features=INDIRECT_DESC,
        size=2,
    ),
    PackedEdit("list goes on into nothing", "VIRTIO 1.4 §2.8.17", list_goes_on_into_nothing, free=2),
    PackedEdit("half available", "VIRTIO 1.4 §2.8.17", half_available, free=2),
    PackedEdit("endless list", "VIRTIO 1.4 §2.8.17", endless_list),
    PackedEdit("indirect not negotiated", "VIRTIO 1.4 §2.8.19", indirect, without=INDIRECT_DESC),
    PackedEdit(
        "indirect and next", "VIRTIO 1.4 §2.8.19", indirect_and_next, with_features=INDIRECT_DESC, free=2
    ),
    PackedEdit(
        "indirect in a list", "VIRTIO 1.4 §2.8.19", indirect_in_a_list, with_features=INDIRECT_DESC, free=2
    ),
    PackedEdit("odd table", "VIRTIO 1.4 §2.8.7", odd_table, with_features=INDIRECT_DESC),
    PackedEdit("long table", "VIRTIO 1.4 §2.8.19", long_table, with_features=INDIRECT_DESC),
    PackedEdit(
        "table outside memory", "VIRTIO 1.4 §2.8.7", table_outside_memory, with_features=INDIRECT_DESC, size=2
    ),
    PackedEdit("more than 4 GiB", "VIRTIO 1.4 §2.8.4", more_than_4_gib, free=2),
    PackedEdit("id in use", "VIRTIO 1.4 §2.8.21.1", id_in_use, out=1),
    PackedEdit(
        "available and still used", "VIRTIO 1.4 §2.8.16", descriptor_taken_back, free=0, full=True, out=1
    ),
)

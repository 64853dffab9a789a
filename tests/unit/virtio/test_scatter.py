"""Parts of scatter lists, and what depends on a ring's size."""

from __future__ import annotations

import pytest

from devmodels.virtio.ringoptions import check_queue_size, segments
from devmodels.virtio.scatter import fill, head, skip
from tests.unit.virtio.plain import Block, Kind, PlainMemory, guest_memory

LIST = [(0x100, 4), (0x200, 0), (0x300, 8)]


@pytest.mark.parametrize(
    ("count", "first", "rest"),
    [
        (0, [], [(0x100, 4), (0x200, 0), (0x300, 8)]),
        (1, [(0x100, 1)], [(0x101, 3), (0x300, 8)]),
        (4, [(0x100, 4)], [(0x300, 8)]),
        (5, [(0x100, 4), (0x200, 0), (0x300, 1)], [(0x301, 7)]),
        (12, [(0x100, 4), (0x200, 0), (0x300, 8)], []),
        (13, [(0x100, 4), (0x200, 0), (0x300, 8)], []),
    ],
)
def test_a_list_falls_into_two(count: int, first: list[tuple[int, int]], rest: list[tuple[int, int]]) -> None:
    assert head(LIST, count) == first
    assert [each for each in skip(LIST, count) if each[1]] == [each for each in rest if each[1]]


@pytest.mark.parametrize(
    ("size", "expected"), [(3, 1), (4, 2), (5, 2), (8, 6), (255, 126), (256, 254), (300, 254), (32768, 32766)]
)
def test_a_request_has_as_many_segments_as_fit_beside_header_and_status(size: int, expected: int) -> None:
    assert segments(0, size) == expected
    assert segments(7, size) == 7


@pytest.mark.parametrize(
    ("packed", "good", "wrong"),
    [(False, (4, 8, 32768), (0, 1, 2, 3, 5, 6, 12, 65536)), (True, (3, 4, 5, 32768), (0, 1, 2, 32769))],
)
def test_sizes_of_a_ring(packed: bool, good: tuple[int, ...], wrong: tuple[int, ...]) -> None:
    for size in good:
        check_queue_size("queue-size", size, packed=packed)
    for size in wrong:
        with pytest.raises(ValueError, match=f"queue-size is {size}, expected"):
            check_queue_size("queue-size", size, packed=packed)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("padded", "behind"), [(True, 0), (False, 0xEE)])
def test_what_is_behind_a_payload_is_padded_or_left(padded: bool, behind: int, kind: Kind) -> None:
    plain = PlainMemory([Block(0, bytearray(b"\xee" * 0x400))])
    fill(guest_memory(plain, kind), LIST, b"payload", padded=padded)
    assert bytes(plain.blocks[0].data[0x100:0x105]) == b"payl\xee"
    assert bytes(plain.blocks[0].data[0x300:0x309]) == b"oad" + bytes([behind] * 5) + b"\xee"
    fill(guest_memory(plain, kind), LIST, b"longer than the list", padded=padded)
    assert bytes(plain.blocks[0].data[0x300:0x309]) == b"er than \xee"

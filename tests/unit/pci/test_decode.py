"""The decode table against the plainest model: ask every claim in turn, byte by byte."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from devmodels.pci.decode import Claim, DecodeTable
from tests.unit.pci.world import Scratch

END = 64
claims = st.lists(st.tuples(st.integers(0, END), st.integers(1, 24)), max_size=12)


def table_of(ranges: list[tuple[int, int]]) -> tuple[DecodeTable, list[Claim]]:
    made = [Claim(base, size, Scratch(size), None) for base, size in ranges]
    return DecodeTable(made), made


@given(claims)
def test_the_first_claim_of_a_byte_has_it(ranges: list[tuple[int, int]]) -> None:
    table, made = table_of(ranges)
    for address in range(-2, END + 30):
        owner = next((claim for claim in made if claim.base <= address < claim.base + claim.size), None)
        window = table.at(address)
        assert (window and window.handler) is (owner and owner.handler)
        if window is not None and owner is not None:
            assert window.base == owner.base


@given(claims, st.integers(-4, END), st.sampled_from((1, 2, 4, 8)))
def test_pieces_cover_an_access_without_leaving_a_range(
    ranges: list[tuple[int, int]], address: int, size: int
) -> None:
    table, _ = table_of(ranges)
    at = address
    for window, start, length in table.pieces(address, size):
        assert start == at
        assert length in (1, 2, 4, 8)
        assert start % length == 0
        for byte in range(start, start + length):
            assert table.at(byte) is window
        at += length
    assert at == address + size


@given(claims)
def test_windows_are_in_order_and_apart(ranges: list[tuple[int, int]]) -> None:
    windows = table_of(ranges)[0].windows
    for window, following in pairwise(windows):
        assert window.start < window.end <= following.start < following.end


@given(claims, st.integers(-4, END), st.integers(1, 40))
def test_nobody_claims_what_is_unclaimed_and_somebody_what_follows(
    ranges: list[tuple[int, int]], address: int, size: int
) -> None:
    table, _ = table_of(ranges)
    length = table.unclaimed(address, address + size)
    assert 0 <= length <= size
    assert all(table.at(byte) is None for byte in range(address, address + length))
    assert length == size or table.at(address + length) is not None

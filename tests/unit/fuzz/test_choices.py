"""An input's bytes are the choices, one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuzz.choices import Choices


def test_one_byte_is_one_choice() -> None:
    choices = Choices(bytes((1, 9, 2, 5, 128)))
    assert [choices.randrange(8), choices.choice("abcdefgh"), choices.randint(5, 8)] == [1, "b", 7]
    assert choices.getrandbits(8) == 5
    assert choices.random() == 0.5
    assert not choices.left


def test_there_are_zeroes_behind_the_end() -> None:
    choices = Choices(b"\xff")
    assert choices.randbytes(3) == b"\xff\0\0"
    assert choices.randrange(1000) == 0
    assert choices.sample(range(5), 2) == [0, 1]


@given(st.binary(max_size=40), st.lists(st.integers(1, 1 << 70), max_size=10))
def test_a_choice_is_in_its_range(data: bytes, limits: list[int]) -> None:
    choices = Choices(data)
    for limit in limits:
        assert 0 <= choices.randrange(limit) < limit

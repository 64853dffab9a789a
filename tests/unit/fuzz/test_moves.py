"""State that a fuzzed machine is sent: each input makes the same bytes, whatever others were made before."""

from __future__ import annotations

import random

import msgspec

from devmodels.qtest.migration import HEADER, MAGIC
from fuzz.choices import Choices
from fuzz.standin.moves import CHANGES


def test_an_input_makes_the_same_state_however_often() -> None:
    body = msgspec.msgpack.encode({"devices": [{"a": 1, "b": [1, 2]}, {"c": b"x" * 8}], "name": "pc"})
    data = HEADER.pack(MAGIC, len(body)) + body
    source = random.Random(5)
    inputs = [source.randbytes(40) for _ in range(300)]
    first, *_ = CHANGES
    made = [first(data, Choices(each)) for each in inputs]
    assert made == [first(data, Choices(each)) for each in inputs]

"""Each bound of every execution is seen to be broken."""

from __future__ import annotations

import logging

import pytest

from fuzz.watch import Endless, Excessive, Logged, watched


def test_what_an_exception_in_a_turn_becomes_is_found() -> None:
    def run(data: bytes) -> None:
        try:
            raise KeyError(data)
        except KeyError:
            logging.getLogger("devmodels.iocontext").exception("in a turn")

    with pytest.raises(Logged, match="in a turn") as found:
        watched(run)(b"")
    assert isinstance(found.value.__cause__, KeyError)


def test_an_endless_loop_is_found() -> None:
    def run(_data: bytes) -> None:
        while True:
            pass

    with pytest.raises(Endless):
        watched(run, seconds=0.01)(b"")


def test_an_allocation_as_large_as_the_guest_says_is_found() -> None:
    def run(data: bytes) -> None:
        bytearray(int.from_bytes(data, "little"))

    with pytest.raises(Excessive, match="8 MiB"):
        watched(run, peak=1 << 22, one_of=1)((1 << 23).to_bytes(4, "little"))
    watched(run, peak=1 << 22, one_of=1)(b"")

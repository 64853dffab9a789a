"""Errors at random and any number of stops: requests act as if each had been carried out in its turn."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from devmodels.blockbackend import Op, Request
from devmodels.blockbackend.errorpolicy import ErrorPolicy
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from tests.unit.blockbackend.errormachine import ERRORS, SECTOR, SECTORS, ErrorMachine, RandomNode
from tests.unit.blockbackend.support import Disk, payload


@dataclass(frozen=True)
class Wish:
    """One request of a guest; the content of a write is its number."""

    op: Op
    first: int
    count: int


WISHES = st.builds(
    Wish,
    st.sampled_from([Op.READ, Op.WRITE, Op.WRITE, Op.WRITE_ZEROES, Op.FLUSH]),
    st.integers(0, SECTORS - 1),
    st.integers(1, 3),
)


@given(
    st.lists(st.lists(WISHES, min_size=1, max_size=6), min_size=1, max_size=4),
    st.lists(st.sampled_from((0, 0, *ERRORS)), max_size=20),
    st.booleans(),
)
def test_requests_that_overlap_keep_their_order(
    batches: list[list[Wish]], outcomes: list[int], together: bool
) -> None:
    """Over a disk that does one thing at a time: whatever fails and however often, the result is that of the order."""
    run_state = RunState()
    disk = Disk(RandomNode(IoContext.virtual()), run_state=run_state)
    assert isinstance(disk.node, RandomNode)
    disk.node.outcomes.extend(outcomes)
    disk.backend.error_policy = ErrorPolicy("stop", "stop")
    content = bytearray(SECTOR * SECTORS)
    reads: list[tuple[Request, bytes]] = []
    number = 0
    for wishes in batches:
        with disk.backend.batch() if together else nullcontext():
            for wish in wishes:
                number += 1
                start = wish.first * SECTOR
                end = min(start + wish.count * SECTOR, len(content))
                if wish.op is Op.FLUSH:
                    start = end = 0
                data = bytes([number]) * (end - start) if wish.op is Op.WRITE else None
                request = disk.submit(wish.op, start, end - start, data)
                if wish.op is Op.READ:
                    reads.append((request, bytes(content[start:end])))
                elif wish.op is not Op.FLUSH:
                    content[start:end] = data or bytes(end - start)
    for _ in range(len(outcomes) + 1):
        run_state.cont()
    disk.node.outcomes.clear()
    assert set(disk.ends.values()) == {1}
    assert not any(request.error for request in disk.ends)
    for request, expected in reads:
        assert payload(request) == expected
    assert disk.read(0, len(content)) == content
    disk.close()


def test_a_machine_whose_disk_fails_at_random() -> None:
    run_state_machine_as_test(ErrorMachine, settings=settings(stateful_step_count=25))

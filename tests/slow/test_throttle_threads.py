"""A throttle group whose members are on threads of their own: what comes through, and each one's share of it."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial

import pytest

from devmodels.blockbackend.throttling import Member, ThrottleGroup, ThrottleLimits
from devmodels.iocontext import IoContext, IoThread

SECONDS = 4
RATE = 1000
DEPTH = 64
"""So many that a member always has some waiting, though its thread may not get the processor for a while."""


@pytest.mark.slow
def test_members_on_threads_share_fairly_and_keep_to_the_limits() -> None:
    home = IoContext.wall()
    group = ThrottleGroup("g", ThrottleLimits(iops_total=RATE))
    threads = [IoThread(f"t{number}", home) for number in range(4)]
    members = [group.join(context) for context in (*(thread.context for thread in threads), home)]
    counts: Counter[Member] = Counter()
    fair: Counter[Member] = Counter()
    """Those since everybody waits: the first ones go to who is there first."""
    begin = time.monotonic_ns()
    end = begin + SECONDS * 10**9

    async def work(member: Member) -> None:
        while time.monotonic_ns() < end:
            await member.admit(4096, write=False)
            counts[member] += 1
            fair[member] += time.monotonic_ns() > begin + 10**9

    def start(member: Member) -> None:
        for _ in range(DEPTH):
            member.context.start(work(member))

    for member in members:
        member.context.post(partial(start, member))
    while time.monotonic_ns() < end:
        home.run_once()
    for thread in threads:
        thread.close()
    taken = (time.monotonic_ns() - begin) / 10**9
    total = sum(counts.values())
    # The bucket is exact, so no schedule of threads lets more through; those that a pause let go are none here.
    assert total <= RATE * taken + RATE / 10 + 1
    assert total >= 0.8 * RATE * SECONDS
    assert min(fair[member] for member in members) >= 0.95 * sum(fair.values()) / len(members)
    home.close()

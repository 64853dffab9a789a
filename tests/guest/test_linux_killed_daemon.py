"""The daemon is killed in the middle of a guest's writes and started again: the guest goes on, every block is right."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from .backends import Backend, devmodels_serve
from .conftest import Check, needed
from .vm import LOOK_SECONDS, Guest, GuestRun, run_guest

pytestmark = pytest.mark.guest

KILLS = {"packed=off": 20, "packed=on": 10}
QUEUES = 2
LATENCY_NS = 4_000_000
"""Long enough that a kill at any moment finds requests in flight, however slow the guest is."""
STARTED = re.compile(r"queue \d+: starts at \d+, (\d+) requests again")


@dataclass(frozen=True, slots=True)
class Story:
    """The run, how often the daemon was and should have been killed, and all that the daemons printed."""

    run: GuestRun
    kills: int
    wanted: int
    words: str


def starts(backend: Backend) -> int:
    """How many rings the daemons have started so far."""
    return len(STARTED.findall(backend.words()))


def await_starts(guest: Guest, backend: Backend, count: int) -> None:
    """Return once the daemons have started so many rings."""
    while starts(backend) < count:
        guest.check_alive(f"{starts(backend)} starts of rings, expected {count}\n{backend.words()}")
        time.sleep(LOOK_SECONDS)


def killed_again_and_again(folder: Path, disk: str, wanted: int, *more: str) -> Story:
    """The guest writes and verifies while its daemon is killed so often; `more` are options of the daemon's."""
    image = folder / "disk.img"
    image.write_bytes(bytes(32 << 20))
    moments = random.Random(7)
    kills = 0

    def kill_and_start_again(guest: Guest) -> None:
        nonlocal kills
        guest.await_item("ready")
        for _ in range(wanted):
            time.sleep(moments.uniform(0.02, 0.5))  # any moment of the guest's work will do
            before = starts(backend)
            backend.kill()
            kills += 1
            backend.start_again()
            await_starts(guest, backend, before + QUEUES)
        guest.tell("enough")

    slow = {"driver": "delay", "latency-ns": LATENCY_NS}
    with needed(), devmodels_serve(image, folder, QUEUES, more=more, over=slow) as backend:
        run = run_guest(
            "verifying.sh",
            backend,
            cpus=QUEUES,
            queues=QUEUES,
            timeout=180,
            disk=disk,
            attend=kill_and_start_again,
        )
    return Story(run, kills, wanted, backend.words())


@pytest.fixture(scope="module", params=KILLS)
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    disk: str = request.param
    return killed_again_and_again(tmp_path_factory.mktemp("killed"), disk, KILLS[disk])


def test_guest_goes_on_and_every_block_is_right(killed: Story, check: Check) -> None:
    check(killed.run, "fio-verified")
    assert killed.kills == killed.wanted


def test_requests_were_in_flight_when_it_died(killed: Story) -> None:
    """Else the kills have shown nothing."""
    again = [int(count) for count in STARTED.findall(killed.words)]
    assert sum(again) >= killed.wanted

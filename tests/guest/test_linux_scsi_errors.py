"""SCSI commands of a Linux guest that take too long, or fail; and what a reset of the whole guest leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from guestsim.targets.qmp import Json, QmpClient

from . import transcript
from .conftest import Check, needed
from .impatient import MODULE, impatient_module
from .kernel import get_kernel
from .scsi import MIB, Unit, image, monitor, pattern, scsi_serve
from .vm import LOOK_SECONDS, Guest, GuestRun, run_guest

pytestmark = pytest.mark.guest
PAGE = transcript.SCSI

SECOND = 10**9  # ns
BAD_SECTOR = 1003
READ_AT, WRITTEN_AT = 800, 1600  # sectors that fail once
ONCE = {"event": "none", "errno": 5, "once": True}
REBOOTS = ("-action", "reboot=reset")


@dataclass(slots=True)
class Story:
    """The run, and what the monitor told meanwhile."""

    events: list[tuple[str, Mapping[str, Json]]] = field(default_factory=list)
    run: GuestRun = field(default_factory=GuestRun)


def slow_by(client: QmpClient, unit: Unit, read_ns: int) -> None:
    """From now on, once nothing is in flight, each of the unit's reads takes so long."""
    client.execute(
        "blockdev-reopen", {"options": [json.loads(json.dumps(unit.reopened(**{"read-ns": read_ns})))]}
    )


def go_on(guest: Guest, client: QmpClient) -> None:
    """Wait until an error has stopped the machine, and let it go on."""
    while _status(client) != "io-error":
        guest.check_alive("the machine was not stopped by an error")
        time.sleep(LOOK_SECONDS)
    client.execute("cont")


def _status(client: QmpClient) -> Json:
    state = client.execute("query-status")
    assert isinstance(state, Mapping)
    return state["status"]


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("errors")
    content = pattern(5, MIB)
    bad = {"event": "none", "errno": 5, "sector": BAD_SECTOR}
    once = [{**ONCE, "iotype": "read", "sector": READ_AT}, {**ONCE, "iotype": "write", "sector": WRITTEN_AT}]
    held = bytearray(content)
    held[512 * READ_AT : 512 * READ_AT + 4096] = content[:4096]
    slow = Unit(image(folder, "slow.img", content), node={"driver": "delay", "read-ns": 0})
    units = [
        slow,
        Unit(
            image(folder, "bad.img", content),
            lun=1,
            node={"driver": "blkdebug", "inject-error": [bad]},
            below="image",
        ),
        Unit(
            image(folder, "failing.img", bytes(held)),
            lun=2,
            options="rerror=stop,werror=stop",
            node={"driver": "blkdebug", "inject-error": once},
            below="image",
        ),
    ]
    files = {f"sector{n}.bin": content[4096 * n : 4096 * (n + 1)] for n in range(5)}
    story = Story()

    def attend(guest: Guest) -> None:
        guest.await_item("first-read")
        with monitor(folder) as client:
            client.execute("stop")
            guest.tell("go")
            guest.await_item("reset-while-held")
            client.execute("cont")
            guest.await_item("held")
            for item, seconds, after in (
                ("reset-while-slow", 2, "slow"),
                ("abort", 3, "aborted"),
                ("reset", 3, ""),
            ):
                slow_by(client, slow, seconds * SECOND)
                guest.tell("go")
                guest.await_item(item)
                slow_by(client, slow, 0)
                if after:
                    guest.await_item(after)
            guest.await_item("neighbours")
            client.execute("query-status")
            client.take_events()
            go_on(guest, client)
            guest.await_item("rerror-stop")
            go_on(guest, client)
            guest.await_item("werror-stop")
            client.execute("query-status")
            story.events += client.take_events()

    with needed(), scsi_serve(units, folder) as backend:
        files[f"modules/{MODULE}"] = impatient_module(get_kernel())
        story.run = run_guest(
            "scsi-errors.sh", backend, files=files, attend=attend, timeout=240, arguments=REBOOTS
        )
    assert backend.status == 0, backend.words()
    return story


LATE = [
    *("first-read", "reset-while-held", "held", "reset-while-slow", "slow", "abort", "aborted"),
    *("reset", "after-reset", "at-work"),
]


@pytest.mark.parametrize("item", LATE)
def test_commands_that_take_too_long(errors: Story, documented: Check, item: str) -> None:
    """Commands that take too long

    The host stops its machine, or has a `delay` node hold each read for two or three seconds, and lets go once the
    guest has done what it does then. The kernel's virtio driver waits for as long as it takes: its `eh_timed_out`
    gives a command its time anew, always. Here it is without that pointer (`tests/guest/impatient.py`), so that the
    kernel's error handler comes to its turn: ABORT TASK first, LOGICAL UNIT RESET then. It has no reset of a target, a
    bus or a host.
    """
    documented(errors.run, item)


@pytest.mark.parametrize("item", ["bad-sector", "neighbours", "rerror-stop", "werror-stop"])
def test_commands_that_fail(errors: Story, documented: Check, item: str) -> None:
    """Commands that fail

    LUN 1 has a `blkdebug` node with a bad sector, 1003. On LUN 2 a read and a write fail once each, with `rerror=stop`
    and `werror=stop`: the host's machine stops, its monitor is told, and `cont` tries again.
    """
    documented(errors.run, item)


def test_whoever_controls_the_machine_is_told_of_errors_that_stop_it(errors: Story) -> None:
    names = [name for name, _ in errors.events]
    assert names == ["BLOCK_IO_ERROR", "STOP", "RESUME"] * 2
    told = [members for name, members in errors.events if name == "BLOCK_IO_ERROR"]
    assert [(each["device"], each["operation"], each["action"]) for each in told] == [
        ("ed0.2", "read", "stop"),
        ("ed0.2", "write", "stop"),
    ]


@pytest.mark.parametrize("item", ["before-reboot", "after-reboot"])
def test_the_guest_boots_anew(errors: Story, documented: Check, item: str) -> None:
    """Booting anew

    A reset of the machine is a hard reset of every unit.
    """
    documented(errors.run, item)

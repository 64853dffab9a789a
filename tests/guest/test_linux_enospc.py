"""A guest's image finds no space left, with `werror=enospc`: its I/O is held, it is given room, and it goes on.

The ENOSPC is the kernel's: the image lies on a small tmpfs, in a mount namespace (and a user namespace, so that no
privilege is needed) of the daemon's own.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guestsim.targets.qmp import Json, QmpClient

from .backends import Backend, devmodels_serve
from .conftest import Check, needed
from .host import tool
from .vm import LOOK_SECONDS, Guest, GuestRun, run_guest

pytestmark = pytest.mark.guest

MIB = 1 << 20
IMAGE = 64 * MIB
ROOMS = (12, 24, 80)
"""How large the filesystem below the image is, in MiB: at first, and each time that the guest is stuck."""
HELD_SECONDS = 3.0
"""How long a guest that is stuck is watched doing nothing."""


@dataclass(slots=True)
class Story:
    """What the monitor said each time that the guest was stuck, and every event."""

    stuck: list[tuple[str, object]] = field(default_factory=list)
    events: list[tuple[str, Mapping[str, Json]]] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)


def small_filesystem(folder: Path) -> list[str]:
    """A command that runs what follows it with a small filesystem at `folder`, and an image on it."""
    unshare = str(tool("unshare", "util-linux"))
    mount = ["mount", "-t", "tmpfs", "none", str(folder)]
    for namespaces in ("-Urm", "-m"):
        if not subprocess.run([unshare, namespaces, *mount], capture_output=True, check=False).returncode:
            break
    else:
        pytest.skip("nobody here may mount a tmpfs, not even in namespaces of his own")
    script = f'mount -t tmpfs -o size={ROOMS[0]}m none "$0" && truncate -s {IMAGE} "$0/disk.img" && exec "$@"'
    return [unshare, namespaces, "sh", "-c", script, str(folder)]


def give_room(backend: Backend, folder: Path, mib: int) -> None:
    """Make the daemon's small filesystem larger."""
    pid = backend.process.pid
    own = Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
    users = ["-U", "--preserve-credentials"] if own else []
    entered = ["nsenter", "-t", str(pid), "-m", *users]
    subprocess.run([*entered, "mount", "-o", f"remount,size={mib}m", str(folder)], check=True)


@contextmanager
def monitor(path: Path) -> Iterator[QmpClient]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        client = QmpClient(connection.dup(), lambda: "the daemon has gone")
        try:
            yield client
        finally:
            client.close()


def execute(client: QmpClient, command: str) -> Any:
    return client.execute(command)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[GuestRun, Story]:
    folder = tmp_path_factory.mktemp("enospc")
    small, path = folder / "small", folder / "qmp.sock"
    small.mkdir()
    story = Story()

    def look_after(guest: Guest) -> None:
        assert guest.backend is not None
        guest.await_item("mount")
        with monitor(path) as client:
            for room in ROOMS[1:]:
                stuck(guest, client)
                # Nothing is better yet: it is stuck again at once.
                client.execute("cont")
                stuck(guest, client)
                give_room(guest.backend, small, room)
                client.execute("cont")
            guest.await_item("files-written")
            client.execute("query-status")
            story.events += client.take_events()

    def stuck(guest: Guest, client: QmpClient) -> None:
        """Wait until the machine is stopped, and see that nothing moves then."""
        while (state := execute(client, "query-status"))["running"]:
            guest.check_alive("the guest was not stopped for want of space")
            assert guest.reported("files-written") is None, "40 MiB do not fit"
            time.sleep(LOOK_SECONDS)
        (block,) = execute(client, "query-block")
        story.stuck.append((state["status"], block["io-status"]))
        time.sleep(HELD_SECONDS)
        story.held.append(guest.reported("files-written") is None)

    more = ("--chardev", f"socket,id=c0,path={path},server=on,wait=off", "--monitor", "chardev=c0")
    with (
        needed(),
        devmodels_serve(
            small / "disk.img",
            folder,
            options="werror=enospc",
            more=more,
            within=small_filesystem(small),
        ) as backend,
    ):
        run = run_guest("enospc.sh", backend, timeout=300, attend=look_after)
    return run, story


@pytest.mark.parametrize(
    "item", ["mount", "files-written", "unmount", "fsck", "files-read-back", "nothing-noticed", "end"]
)
def test_the_guest_goes_on_as_if_nothing_had_happened(
    told: tuple[GuestRun, Story], check: Check, item: str
) -> None:
    check(told[0], item)


def test_it_was_stuck_for_want_of_space_and_waited(told: tuple[GuestRun, Story]) -> None:
    stops = 2 * (len(ROOMS) - 1)
    assert told[1].stuck == [("io-error", "nospace")] * stops
    assert told[1].held == [True] * stops


def test_whoever_controls_the_machine_was_told(told: tuple[GuestRun, Story]) -> None:
    names = [name for name, _ in told[1].events]
    stops = 2 * (len(ROOMS) - 1)
    assert [name for name in names if name != "BLOCK_IO_ERROR"] == ["STOP", "RESUME"] * stops
    for name, members in told[1].events:
        if name == "BLOCK_IO_ERROR":
            what = {
                key: members.get(key) for key in ("device", "node-name", "operation", "action", "nospace")
            }
            assert what == {
                "device": "e0",
                "node-name": "d0",
                "operation": "write",
                "action": "stop",
                "nospace": True,
            }

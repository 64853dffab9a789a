"""The disk of a running guest becomes larger and smaller by the monitor's `block_resize`: the guest sees it at once."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from guestsim.targets.qmp import QmpClient

from .backends import devmodels_serve
from .conftest import Check, needed
from .vm import Guest, GuestRun, run_guest

pytestmark = pytest.mark.guest

MIB = 1 << 20


def resize(monitor: Path, size: int) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(monitor))
        client = QmpClient(connection.dup(), lambda: "the daemon has gone")
        try:
            client.execute("block_resize", {"node-name": "d0", "size": size})
        finally:
            client.close()


@pytest.fixture(scope="module")
def resized(tmp_path_factory: pytest.TempPathFactory) -> tuple[GuestRun, int]:
    """The run, and the image's size afterwards."""
    folder = tmp_path_factory.mktemp("resized")
    image, monitor = folder / "disk.img", folder / "qmp.sock"
    image.write_bytes(bytes(64 * MIB))

    def grow_and_shrink(guest: Guest) -> None:
        guest.await_item("size-at-first")
        resize(monitor, 128 * MIB)
        guest.await_item("new-part")
        resize(monitor, 32 * MIB)

    more = ("--chardev", f"socket,id=c0,path={monitor},server=on,wait=off", "--monitor", "chardev=c0")
    with needed(), devmodels_serve(image, folder, more=more) as backend:
        run = run_guest("resize.sh", backend, timeout=120, attend=grow_and_shrink)
    return run, image.stat().st_size


@pytest.mark.parametrize("item", ["size-at-first", "size-grown", "new-part", "size-shrunk", "end"])
def test_guest_sees_a_new_size(resized: tuple[GuestRun, int], check: Check, item: str) -> None:
    check(resized[0], item)


def test_image_has_the_new_size(resized: tuple[GuestRun, int]) -> None:
    assert resized[1] == 32 * MIB

"""`devmodels serve --record`: what is in the file when the daemon ends, and when it is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devmodels.trace import EventKind
from devmodels.tracefile import TraceReader
from guestsim.disk import Disk
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.replay import replay
from guestsim.targets import TargetError
from guestsim.targets.storage_daemon import DEVMODELS_SERVE, DaemonTarget
from guestsim.targets.vhost_device import VhostTransport

MIB = 1 << 20


@contextmanager
def daemon(*arguments: str) -> Iterator[tuple[DaemonTarget, Disk]]:
    """A daemon with a disk, and a guest that has probed it."""
    target = DaemonTarget(
        DEVMODELS_SERVE,
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": MIB}],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "id": "vd0"}],
        name="vhost-user",
        arguments=arguments,
    )
    try:
        guest = Guest(target)
        driver = virtio_blk.VirtioBlk(guest, VhostTransport(guest, target, "vd0"))
        guest.run(driver.probe())
        yield target, Disk(guest, driver)
    finally:
        target.close()


@pytest.mark.long
def test_a_killed_daemon_leaves_its_whole_frames(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"

    def is_killed() -> None:
        with daemon("--record", str(path)) as (target, disk):
            while path.stat().st_size < MIB:
                disk.write(0, os.urandom(65536))
            os.kill(target.pid, signal.SIGKILL)

    with pytest.raises(TargetError, match=r"ended by signal 9"):
        is_killed()
    with TraceReader(path) as reader:
        events = list(reader)
        assert reader.cut
        assert reader.ending is None
    assert {EventKind.DEVICE, EventKind.REQUEST, EventKind.DONE} <= {event.kind for event in events}
    result = replay(path)
    assert result.difference is None
    assert result.events == len(events)


@pytest.mark.long
def test_a_daemon_that_ends_writes_everything(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    with daemon("--record", str(path), "--record-limit", "1M") as (_, disk):
        disk.write(0, b"\x11" * 512)
    with TraceReader(path) as reader:
        kinds = [event.kind for event in reader]
        assert not reader.cut
    assert kinds[0] is EventKind.DEVICE
    assert kinds[-1] is EventKind.REMOVED
    assert replay(path).difference is None

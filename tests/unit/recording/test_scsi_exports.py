"""vhost-user-scsi exports are recorded: hosts, and units that come and go while a front end is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from devmodels.recording import Recorder
from devmodels.trace import EventKind
from devmodels.tracefile import DeviceFacts
from tests.unit.exports import frontend as fe
from tests.unit.exports.test_vhost_user_scsi import HOTPLUG, INQUIRY, READ, Host
from tests.unit.recording.scsistory import does_it_again


class Recorded(Host):
    """The same, recorded."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.trace = folder / "exports.trace"
        self.recorder = Recorder(self.trace, self.context)
        self.exports.recorder = self.recorder
        self._closed = False

    def leave(self) -> None:
        """The front end goes."""
        assert self.front_end is not None
        self.front_end.close()
        self.front_end = None
        self.context.run_until_idle()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            super().close()
            self.recorder.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Recorded]:
    found = Recorded(tmp_path)
    yield found
    found.close()


def test_a_front_end_and_the_units_of_its_host(host: Recorded) -> None:
    host.add("a", num_queues=1)
    host.start()
    host.ready()
    assert host.command((0, 0), INQUIRY, 36)[:2] == (0, 0)
    assert host.command((0, 0), READ, 512)[:2] == (0, 0)
    host.offer_event_buffer()
    host.add("b", scsi_id=3, lun=4)
    host.context.run_until_idle()
    assert host.event() is not None
    host.ready((3, 4))
    host.offer_event_buffer()
    host.remove("b")
    assert host.event() is not None
    backend = host.exports.ids["a"].backend
    assert backend is not None
    host.context.run(backend.resize(1 << 19))
    host.ready()
    host.close()
    events = does_it_again(host.trace)
    facts = [
        msgspec.json.decode(str(event.detail[0]), type=DeviceFacts)
        for event in events
        if event.kind is EventKind.DEVICE
    ]
    path = str(host.path)
    assert [(each.name, each.host, each.memory) for each in facts] == [
        (path, "", f"{path}.memory"),
        ("a", path, f"{path}.memory"),
        ("b", path, f"{path}.memory"),
    ]
    assert [event.source for event in events if event.kind is EventKind.REMOVED] == ["b", "a", path]


def test_a_host_that_comes_again(host: Recorded) -> None:
    """With its last unit it goes, and the connection; an export of the same name makes another one."""
    host.add("a")
    host.start()
    host.ready()
    host.remove("a")
    host.leave()
    host.add("c", lun=7)
    host.start(HOTPLUG)
    host.ready((0, 7))
    host.close()
    does_it_again(host.trace)


def test_front_ends_that_come_and_go(host: Recorded) -> None:
    """What a unit has to tell is told to each of them; a driver's own reset is not the front end's."""
    host.add("a")
    for _ in range(2):
        front_end = host.start()
        assert host.command((0, 0), bytes(6))[1] == 2
        host.ready()
        for index in range(3):
            front_end.stop(index)
        assert front_end.acknowledged(fe.RESET_DEVICE) == 0
        host.leave()
    host.close()
    kinds = [event.kind for event in does_it_again(host.trace)]
    assert kinds.count(EventKind.DRIVER_LEFT) == 2
    assert kinds.count(EventKind.DRIVER_RESET) == 2


def test_a_recording_that_ends_first(host: Recorded) -> None:
    host.add("a")
    host.start()
    host.ready()
    host.recorder.close()
    assert host.command((0, 0), READ, 512)[:2] == (0, 0)
    host.add("b", lun=1)
    host.remove("b")
    host.close()
    does_it_again(host.trace)


def test_a_drive_of_an_export(host: Recorded) -> None:
    """Its medium is the export's node."""
    host.add("a", device_type="cd", writable=False)
    host.start()
    host.ready()
    assert host.command((0, 0), bytes.fromhex("28000000000200000100"), 2048)[:2] == (0, 0)
    assert host.command((0, 0), bytes.fromhex("1b0000000200"), 0)[:2] == (0, 0)
    assert host.command((0, 0), bytes(6), 0)[1] == 2
    host.offer_event_buffer()
    host.add("b", lun=1, device_type="cd", writable=False)
    host.remove("b")
    host.close()
    does_it_again(host.trace)

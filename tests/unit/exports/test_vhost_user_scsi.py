"""The vhost-user-scsi export as a whole: what a front end sees, units that share a host, and that come and go."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devmodels.blockbackend import Graph
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.table import Exports
from devmodels.iocontext import IoContext
from devmodels.options import OptionError
from devmodels.runstate import RunState

from . import frontend as fe
from .frontend import GUEST_BASE, FrontEnd, Ring

SIZE = 1 << 20
INOUT, HOTPLUG, CHANGE, T10_PI = (1 << bit for bit in range(4))
CONTROL, EVENT, REQUEST = range(3)
OK, BAD_TARGET, RESET = 0, 3, 4
GOOD, CHECK_CONDITION = 0, 2


def lun(target: int, number: int) -> bytes:
    return struct.pack(">BBH4x", 1, target, 0x4000 | number)


@pytest.fixture(autouse=True, params=[False, True], ids=["at-home", "on-a-thread"])
def on_a_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these runs with the request queue at home, and on a thread."""
    monkeypatch.setattr(Host, "on_a_thread", request.param)


class Host:
    """Exports at one socket, and a front end with the host's three queues."""

    on_a_thread = False

    def __init__(self, folder: Path) -> None:
        self.path = folder / "vu.sock"
        self.context = IoContext.wall() if self.on_a_thread else IoContext.virtual()
        self.context.assert_owner()
        self.graph = Graph(self.context)
        if self.on_a_thread:
            self.graph.object_add({"qom-type": "iothread", "id": "t0"})
        self.events: list[tuple[str, object]] = []
        events = Events()
        events.add_listener(lambda name, data: self.events.append((name, data)))
        run_state = RunState(events)
        self.exports = Exports(self.graph, profile=Profile.STRICT, events=events, run_state=run_state)
        self.front_end: FrontEnd | None = None
        self.rings: list[Ring] = []

    def add(self, name: str, **options: object) -> None:
        """A node of 1 MiB and its export, in which each sector begins with its own number."""
        self.graph.add({"driver": "memory", "size": SIZE, "node-name": f"n{name}", "discard": "unmap"})
        words = {key.replace("_", "-"): value for key, value in options.items()}
        address = {"type": "unix", "path": str(self.path)}
        if self.on_a_thread and not self.path.exists():
            words["iothread"] = "t0"
        self.exports.add(
            {
                "type": "vhost-user-scsi",
                "id": name,
                "node-name": f"n{name}",
                "addr": address,
                "writable": True,
            }
            | words
        )

    def remove(self, name: str) -> None:
        self.exports.delete(self.exports.ids[name])
        self.context.run_until_idle()

    def connect(self) -> FrontEnd:
        self.front_end = FrontEnd(self.path, self.context)
        return self.front_end

    def start(self, features: int = HOTPLUG | CHANGE) -> FrontEnd:
        """From nothing to three running rings."""
        front_end = self.connect()
        front_end.introduce(fe.MQ | fe.REPLY_ACK | fe.RESET | fe.MEM_SLOTS | fe.STATUS)
        front_end.set_features(fe.F_PROTOCOL | fe.F_VERSION_1 | features)
        front_end.share()
        self.rings = [Ring(front_end.memory, 0x1000 * index) for index in range(3)]
        for index, ring in enumerate(self.rings):
            front_end.start(index, ring)
        return front_end

    def pause(self) -> list[int]:
        """The front end stops its machine, as QEMU does; where each ring was."""
        assert self.front_end is not None
        bases = [self.front_end.stop(index) for index in range(3)]
        assert self.front_end.acknowledged(fe.SET_STATUS, fe.u64(0)) == 0
        return bases

    def go_on(self, bases: list[int], features: int = HOTPLUG | CHANGE) -> None:
        """And lets it run again; its driver knows nothing of that."""
        assert self.front_end is not None
        self.front_end.set_features(fe.F_PROTOCOL | fe.F_VERSION_1 | features)
        for index, ring in enumerate(self.rings):
            self.front_end.start(index, ring, bases[index])
        self.context.run_until_idle()

    def send(self, queue: int, readable: bytes, room: int) -> bytes:
        """One request with its two parts far behind the rings; what of its answer the used length covers."""
        assert self.front_end is not None
        ring, memory = self.rings[queue], self.front_end.memory.bytes
        out, into = 0x10000, 0x20000
        memory[out : out + len(readable)] = readable
        memory[into : into + room] = b"\xee" * room
        for number, part in enumerate(((out, len(readable), 1, 1), (into, room, 2, 0))):
            offset, length, flags, following = part
            entry = struct.pack("<QIHH", GUEST_BASE + offset, length, flags, following)
            memory[ring.desc + 16 * number : ring.desc + 16 * number + 16] = entry
        struct.pack_into("<H", memory, ring.avail + 4 + 2 * (ring.avail_idx % ring.size), 0)
        ring.avail_idx += 1
        struct.pack_into("<H", memory, ring.avail + 2, ring.avail_idx)
        self.front_end.kick(queue)
        ((head, length),) = ring.taken_back()
        assert head == 0
        return bytes(memory[into : into + length])

    def command(self, place: tuple[int, int], cdb: bytes, room: int = 0) -> tuple[int, int, bytes]:
        """Response, status, data."""
        header = lun(*place) + struct.pack("<QBBB", 1, 0, 0, 0) + cdb.ljust(32, b"\0")
        answer = self.send(REQUEST, header, 108 + room)
        return answer[11], answer[10], answer[108:]

    def ready(self, place: tuple[int, int] = (0, 0)) -> None:
        while self.command(place, bytes(6))[1] == CHECK_CONDITION:
            pass

    def offer_event_buffer(self) -> None:
        assert self.front_end is not None
        self.rings[EVENT].add()
        self.front_end.kick(EVENT)

    def event(self) -> tuple[int, bytes, int] | None:
        assert self.front_end is not None
        found = self.rings[EVENT].taken_back()
        if not found:
            return None
        ((head, length),) = found
        assert length == 16
        ring = self.rings[EVENT]
        event, name, reason = struct.unpack_from("<I8sI", self.front_end.memory.bytes, ring.data + 16 * head)
        return event, name, reason

    def close(self) -> None:
        if self.front_end is not None:
            self.front_end.close()
        self.exports.close()
        self.context.run_until_idle()
        for thread in self.graph.iothreads.by_id.values():
            assert (thread.errors, thread.users) == (0, [])
        self.graph.close()
        self.context.close()


@contextmanager
def host(folder: Path, *names: str, **options: object) -> Iterator[Host]:
    found = Host(folder)
    try:
        for number, name in enumerate(names):
            found.add(name, lun=number, **options)
        yield found
    finally:
        found.close()


INQUIRY = struct.pack(">BBBHB", 0x12, 0, 0, 36, 0)
READ = struct.pack(">BBIBHB", 0x28, 0, 7, 0, 1, 0)


def test_what_is_offered(tmp_path: Path) -> None:
    with host(tmp_path, "e0", num_queues=4) as found:
        front_end = found.connect()
        features = front_end.number(fe.GET_FEATURES)
        assert features & (INOUT | HOTPLUG | CHANGE | T10_PI) == INOUT | HOTPLUG | CHANGE
        assert features & (fe.F_PACKED | fe.F_VERSION_1) == fe.F_PACKED | fe.F_VERSION_1
        assert front_end.number(fe.GET_QUEUE_NUM) == 6
        protocol = front_end.number(fe.GET_PROTOCOL_FEATURES)
        assert not protocol & fe.CONFIG, "the front end has the configuration space"
        assert protocol & (fe.MQ | fe.INFLIGHT | fe.STATUS) == fe.MQ | fe.INFLIGHT | fe.STATUS


def test_units_at_one_socket_are_units_of_one_host(tmp_path: Path) -> None:
    with host(tmp_path, "e0", "e1") as found:
        found.add("e2", scsi_id=7, lun=300)
        found.start()
        for place in ((0, 0), (0, 1), (7, 300)):
            assert found.command(place, INQUIRY, 36)[:2] == (OK, GOOD)
            found.ready(place)
            assert found.command(place, READ, 512) == (OK, GOOD, bytes(512))
        assert found.command((1, 0), INQUIRY, 36)[0] == BAD_TARGET


def test_a_unit_says_what_its_export_says(tmp_path: Path) -> None:
    with host(tmp_path, "e0", vendor="ACME", product="Anvil", ver="9", serial="S123") as found:
        found.start()
        assert found.command((0, 0), INQUIRY, 36)[2][8:36] == b"ACME    Anvil           9   "
        serial = struct.pack(">BBBHB", 0x12, 1, 0x80, 255, 0)
        assert found.command((0, 0), serial, 255)[2][4:8] == b"S123"


def test_a_read_only_unit_is_not_written(tmp_path: Path) -> None:
    with host(tmp_path, "e0", writable=False) as found:
        found.start()
        found.ready()
        mode_sense = bytes((0x1A, 0, 0x3F, 0, 4, 0))
        assert found.command((0, 0), mode_sense, 4)[2][2] & 0x80, "WP"


def test_a_unit_appears_while_the_guest_runs(tmp_path: Path) -> None:
    with host(tmp_path, "e0") as found:
        found.start()
        found.offer_event_buffer()
        assert found.event() is None
        found.add("e1", scsi_id=2, lun=5)
        found.context.run_until_idle()
        assert found.event() == (1, bytes((1, 2, 0, 5, 0, 0, 0, 0)), 1)
        assert found.command((2, 5), INQUIRY, 36)[:2] == (OK, GOOD)


def test_a_unit_goes_while_the_guest_runs(tmp_path: Path) -> None:
    with host(tmp_path, "e0", "e1") as found:
        front_end = found.start()
        found.offer_event_buffer()
        found.remove("e1")
        assert found.event() == (1, bytes((1, 0, 0, 1, 0, 0, 0, 0)), 2)
        assert found.events == [("BLOCK_EXPORT_DELETED", {"id": "e1"})]
        assert front_end.connected
        assert found.command((0, 1), bytes(6))[1] == CHECK_CONDITION
        found.graph.delete("ne1")


def test_with_its_last_unit_the_host_goes(tmp_path: Path) -> None:
    with host(tmp_path, "e0") as found:
        front_end = found.start()
        found.remove("e0")
        assert not front_end.connected
        assert not found.path.exists()
        assert found.exports.ids == {}
        found.add("e1")
        assert found.path.exists()


def test_event_buffers_do_not_keep_a_ring_from_stopping(tmp_path: Path) -> None:
    with host(tmp_path, "e0") as found:
        front_end = found.start()
        found.offer_event_buffer()
        assert front_end.stop(EVENT) == 0, "they were not taken"
        assert front_end.stop(REQUEST) == 0


def test_the_next_front_end_finds_units_as_after_power_on(tmp_path: Path) -> None:
    with host(tmp_path, "e0") as found:
        found.start().send(fe.GET_FEATURES)
        found.ready()
        assert found.front_end is not None
        found.front_end.close()
        found.start()
        assert found.command((0, 0), bytes(6))[1] == CHECK_CONDITION


def test_a_driver_s_reset_is_a_reset_of_the_units_and_a_pause_is_not(tmp_path: Path) -> None:
    with host(tmp_path, "e0") as found:
        front_end = found.start()
        found.ready()
        for index in range(3):
            front_end.stop(index)
        front_end.set_features(fe.F_PROTOCOL | fe.F_VERSION_1)
        for index, ring in enumerate(found.rings):
            ring.clear()
            front_end.start(index, ring)
        assert found.command((0, 0), bytes(6))[1] == GOOD
        for index in range(3):
            front_end.stop(index)
        assert front_end.acknowledged(fe.RESET_DEVICE) == 0
        front_end.set_features(fe.F_PROTOCOL | fe.F_VERSION_1)
        for index, ring in enumerate(found.rings):
            ring.clear()
            front_end.start(index, ring)
        assert found.command((0, 0), bytes(6))[1] == CHECK_CONDITION


MISSED = 1 << 31
NO_EVENT = (MISSED, bytes(8), 0)


@pytest.mark.parametrize("what", ["plugged", "unplugged", "resized"])
def test_what_happens_while_the_machine_stands_still_is_told_as_missed(tmp_path: Path, what: str) -> None:
    with host(tmp_path, "e0", "e1") as found:
        found.start()
        found.offer_event_buffer()
        bases = found.pause()
        if what == "plugged":
            found.add("e2", scsi_id=2)
        elif what == "unplugged":
            found.remove("e1")
        else:
            backend = found.exports.ids["e0"].backend
            assert backend is not None
            found.context.start(backend.resize(SIZE // 2))
        found.context.run_until_idle()
        found.go_on(bases)
        assert found.event() == NO_EVENT


def test_what_was_missed_before_the_machine_stood_still_is_told_after_it(tmp_path: Path) -> None:
    with host(tmp_path, "e0") as found:
        found.start()
        found.add("e1", lun=1)
        found.go_on(found.pause())
        assert found.event() is None
        found.offer_event_buffer()
        assert found.event() == NO_EVENT


def test_a_pause_in_which_nothing_happens_is_no_news(tmp_path: Path) -> None:
    with host(tmp_path, "e0") as found:
        found.start()
        found.offer_event_buffer()
        found.go_on(found.pause())
        assert found.event() is None
        found.add("e1", lun=1)
        found.context.run_until_idle()
        assert found.event() == (1, bytes((1, 0, 0, 1, 0, 0, 0, 0)), 1)


def test_a_driver_that_is_told_of_nothing_has_missed_nothing(tmp_path: Path) -> None:
    with host(tmp_path, "e0") as found:
        found.start(0)
        found.offer_event_buffer()
        bases = found.pause()
        found.add("e1", lun=1)
        found.go_on(bases, 0)
        assert found.event() is None


@pytest.mark.parametrize("end", ["reset", "left"])
def test_the_next_driver_has_missed_nothing(tmp_path: Path, end: str) -> None:
    with host(tmp_path, "e0") as found:
        front_end = found.start()
        found.pause()
        found.add("e1", lun=1)
        if end == "reset":
            assert front_end.acknowledged(fe.RESET_DEVICE) == 0
            for ring in found.rings:
                ring.clear()
            found.go_on([0, 0, 0])
        else:
            front_end.close()
            found.start()
        found.offer_event_buffer()
        assert found.event() is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lun": 0}, "lun: 0 of scsi-id 0 is given; "),
        ({"lun": 1, "num_queues": 3}, "num-queues: 3 is given; "),
        ({"lun": 16384}, "lun: 16384 is given; expected a number from 0 to 16383"),
        ({"lun": 1, "scsi_id": 256}, "scsi-id: 256 is given; expected a number from 0 to 255"),
        ({"lun": 1, "num_queues": 0}, "num-queues: 0 is given; expected a number from 1 to 254"),
        ({"lun": 1, "num_queues": 255}, "num-queues: 255 is given; expected a number from 1 to 254"),
        ({"lun": 1, "vendor": "much too long"}, "vendor is 'much too long', expected at most 8 printable"),
        ({"lun": 1, "queue_size": 3}, "queue-size: no such option; "),
    ],
)
def test_exports_that_cannot_be(tmp_path: Path, options: dict[str, object], text: str) -> None:
    with host(tmp_path, "e0") as found:
        with pytest.raises(OptionError) as raised:
            found.add("e1", **options)
        assert text in str(raised.value)
        assert list(found.exports.ids) == ["e0"]
        found.start()
        assert found.command((0, 0), INQUIRY, 36)[:2] == (OK, GOOD)


def test_a_socket_that_cannot_be_bound(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"addr\.path: cannot listen at "), host(tmp_path / "nowhere", "e0"):
        pass


def test_an_export_that_joins_a_host_has_no_threads_to_choose(tmp_path: Path) -> None:
    with host(tmp_path, "e0") as found:
        with pytest.raises(OptionError, match="says which threads it has"):
            found.add("e1", lun=1, iothread="t0")
        with pytest.raises(OptionError, match="iothread and iothread-vq-mapping cannot be set"):
            found.add("e2", lun=2, iothread="t0", iothread_vq_mapping=[{"iothread": "t0"}])

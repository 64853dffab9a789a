"""virtio-blk: resets with requests about."""

from __future__ import annotations

from devmodels.iocontext import Event
from tests.unit.virtio.arena import payload
from tests.unit.virtio.blkrig import (
    DISCARD,
    IN,
    OK,
    OUT,
    Answer,
    BlkRig,
    blk,
    segment,
)
from tests.unit.virtio.model import DriverRing
from tests.unit.virtio.plain import Kind, kinds


def hold(r: BlkRig) -> Event:
    gate = Event(r.device.context)
    r.disk.gate = gate
    return gate


@kinds
def test_a_reset_waits_for_the_disk_and_then_writes_nothing_more(kind: Kind) -> None:
    """CVE-2023-5088's lesson: the reset is over when the request is."""
    r = blk(kind=kind)
    gate = hold(r)
    sent = r.start(IN, 0, room=512)
    r.go()
    r.device.write_status(0)
    assert r.device.status != 0
    before = r.plain.copy()
    gate.set()
    for _ in range(100):
        if not r.device.context.turn():
            break
    assert r.device.status == 0
    changed = r.plain.differences(before)
    first, last = sent.writable[0][0], sent.writable[0][0] + 512
    assert all(first <= address < last for address in changed), "only the payload that was on its way"
    assert r.notifications.used == []


def test_a_reset_drops_what_the_machine_holds_back() -> None:
    r = blk()
    resets: list[int] = []
    r.device.on_reset = lambda: resets.append(1)
    r.run_state.stop()
    for sector in range(3):
        r.start(OUT, sector, bytes(512))
    r.start(DISCARD, 0, segment(0, 1) + segment(5, 1))
    r.go()
    r.device.write_status(0)
    assert r.device.status == 0
    assert resets == [1]
    r.run_state.cont()
    r.settle()
    assert r.disk.log == []
    assert not r.backend.in_flight


def test_a_queue_reset_leaves_other_queues_alone() -> None:
    """What is held back of another queue still comes to its end."""
    r = blk(num_queues=2)
    other = r.device.queues[1]
    parts = tuple(address + 0x3F_0000 - r.driver.parts[0] for address in r.driver.parts)
    assert r.plain.present(parts[2], 0x400)
    first = r.driver
    r.driver = DriverRing(r.plain, 8, (parts[0], parts[1], parts[2]), first.features)
    other.size, other.desc, other.driver, other.device = 8, *parts
    r.device.enable_queue(other)
    r.run_state.stop()
    sent = r.start(OUT, 9, payload(512))
    r.driver.expose()
    r.device.kick(1)
    r.device.reset_queue(r.device.queues[0])
    assert not r.device.queues[0].resetting
    r.settle()
    assert sent.length is None
    r.run_state.cont()
    r.settle()
    assert r.answer(sent) == Answer(OK, 1, b"")
    assert bytes(r.disk.data[9 * 512 :][:512]) == payload(512)

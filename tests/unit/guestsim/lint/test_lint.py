"""`guestsim lint`: a driver's mistakes, from its trace."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from devmodels.trace import EventKind, TraceEvent
from devmodels.virtio.constants import EVENT_IDX, VERSION_1
from guestsim.cli import app
from guestsim.disk import Disk, boot
from guestsim.drivers import virtio_blk
from guestsim.drivers.blk_operation import Operation
from guestsim.drivers.layouts import Status
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_pci_legacy import LegacyPci
from guestsim.guest import Guest
from guestsim.lint.run import lint
from guestsim.lint.sessions import Level, Session
from guestsim.quick import disk_machine
from tests.unit.guestsim.show.traces import events_of, mmio, one_of_each, written

Event = tuple[str, EventKind, tuple[int | str | bytes, ...]]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["lint", *map(str, arguments)])


def found(sessions: Sequence[Session]) -> list[tuple[str, str, int]]:
    return [
        (each.clause, each.summary, each.count) for session in sessions for each in session.findings.values()
    ]


def of_disk(path: Path, act: Callable[[Disk], object], *, legacy: bool = False) -> list[tuple[str, str, int]]:
    """What is found of a driver that does this once it has brought its disk up."""
    with disk_machine(1 << 20, disable_modern=legacy) as machine:
        machine.record(path)
        act(boot(Guest(machine)))
    return found(lint(events_of(path)))


# --- drivers that do nothing wrong


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_of_our_driver_only_what_it_does_on_purpose_is_found(tmp_path: Path, packed: bool) -> None:
    events = events_of(one_of_each(tmp_path / "disk.trace", packed=packed))
    ((clause, summary, count),) = found(lint(events))
    assert (clause, summary, count) == ("VIRTIO 1.4 §5.2.6.1", "READ of 512 bytes at sector 2048 of 2048", 1)


@pytest.mark.parametrize("legacy", [False, True], ids=["version-2", "version-1"])
def test_nothing_is_found_of_our_driver_over_mmio(tmp_path: Path, legacy: bool) -> None:
    assert found(lint(events_of(mmio(tmp_path / "m.trace", legacy=legacy)))) == []


def test_nothing_is_found_of_our_legacy_driver(tmp_path: Path) -> None:
    def work(disk: Disk) -> None:
        disk.write(0, bytes(512))
        disk.read(0, 4096, scatter=3)
        disk.flush()

    assert of_disk(tmp_path / "d.trace", work, legacy=True) == []


# --- the order of register accesses


def test_a_reset_that_is_not_awaited(tmp_path: Path) -> None:
    def hasty(disk: Disk) -> None:
        device = disk.driver.device
        device.set("device_status", 0)
        device.set("device_status", Status.ACKNOWLEDGE)

    assert of_disk(tmp_path / "d.trace", hasty) == [
        ("VIRTIO 1.4 §4.1.4.3.2", "device status written after a reset, before it was read as 0", 1)
    ]


def test_features_that_are_not_seen_to_be_accepted(tmp_path: Path) -> None:
    def blind(disk: Disk) -> None:
        device = disk.driver.device
        disk.guest.run(device.reset())
        device.set("device_status", Status.ACKNOWLEDGE | Status.DRIVER)
        device.transport.read_features()
        device.write_features([32, 39])
        device.set("device_status", Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK)
        device.set("device_status", 15)

    assert of_disk(tmp_path / "d.trace", blind) == [
        ("VIRTIO 1.4 §3.1.1", "DRIVER_OK set, and FEATURES_OK not read back", 1)
    ]


def test_a_vector_that_is_not_read_back(tmp_path: Path) -> None:
    def trusting(disk: Disk) -> None:
        device = disk.driver.device
        disk.guest.run(device.reset())
        device.negotiate([32, 39])
        device.set("config_msix_vector", 1)
        device.driver_ok()

    assert of_disk(tmp_path / "d.trace", trusting) == [
        ("VIRTIO 1.4 §4.1.5.1.2.2", "common.config_msix_vector was not read back", 1)
    ]


def test_a_queue_that_is_used_again_before_its_reset_is_over(tmp_path: Path) -> None:
    def hasty(disk: Disk) -> None:
        device = disk.driver.device
        device.set("queue_select", 0)
        device.set("queue_reset", 1)
        device.set("queue_enable", 1)

    assert of_disk(tmp_path / "d.trace", hasty)[0] == (
        "VIRTIO 1.4 §2.6.1.1.2",
        "common.queue[0].queue_enable written before queue_reset was read as 0",
        1,
    )


def test_a_field_of_a_feature_that_is_not_offered(tmp_path: Path) -> None:
    def curious(disk: Disk) -> None:
        config = disk.driver.device.transport.config  # type: ignore[attr-defined]
        config.bar.read(config.offset + 8, 4)

    assert of_disk(tmp_path / "d.trace", curious) == [
        ("VIRTIO 1.4 §2.5.1", "size_max read, and VIRTIO_BLK_F_SIZE_MAX is not offered", 1)
    ]


def test_a_driver_that_goes_over_to_the_legacy_interface(tmp_path: Path) -> None:
    """Its features have no selector, whatever was selected before."""

    def go_over(disk: Disk) -> None:
        device = disk.driver.device
        disk.guest.run(disk.driver.switch(LegacyPci(disk.guest, device.function)))
        disk.guest.run(disk.driver.probe())
        disk.read(0, 512)

    assert of_disk(tmp_path / "d.trace", go_over) == []


def test_isr_status_read_where_messages_come(tmp_path: Path) -> None:
    def read_isr(disk: Disk) -> None:
        disk.driver.device.pci.read_isr()

    def with_a_line(disk: Disk) -> None:
        disk.guest.run(disk.driver.probe(interrupts=Interrupts.INTX))
        disk.read(0, 512)

    assert of_disk(tmp_path / "d.trace", read_isr) == [
        ("VIRTIO 1.4 §4.1.4.5.2", "ISR status read while MSI-X is enabled", 1)
    ]
    assert of_disk(tmp_path / "intx.trace", with_a_line) == []


def test_capabilities_are_not_written(tmp_path: Path) -> None:
    def scribble(disk: Disk) -> None:
        disk.driver.device.function.write(0x4C + 8, 4, 0)

    assert of_disk(tmp_path / "d.trace", scribble) == [
        ("VIRTIO 1.4 §4.1.4.1", "cap.common.offset written", 1)
    ]


# --- requests


def test_a_flush_with_data_and_a_sector_where_none_belongs(tmp_path: Path) -> None:
    def wasteful(disk: Disk) -> None:
        flush = virtio_blk.flush()
        disk.request(replace(flush, readable=flush.readable + bytes(512), checked=False))
        identify = virtio_blk.get_id()
        disk.request(replace(identify, readable=identify.readable[:8] + struct.pack("<Q", 9)))

    assert of_disk(tmp_path / "d.trace", wasteful) == [
        ("VIRTIO 1.4 §5.2.6.1", "FLUSH with 512 bytes of data", 1),
        ("VIRTIO 1.4 §5.2.6", "GET_ID with sector 9, which is to be 0", 1),
    ]


def test_a_priority_in_the_reserved_field_is_a_remark(tmp_path: Path) -> None:
    def with_priority(disk: Disk) -> None:
        header = struct.pack("<IIQ", 0, 0x4004, 0)
        for _ in range(3):
            disk.request(Operation(header, 513))

    path = tmp_path / "d.trace"
    assert of_disk(path, with_priority) == [
        ("VIRTIO 1.4 §5.2.6", "0x4004 in the reserved field of the header", 3)
    ]
    assert of_disk(tmp_path / "legacy.trace", with_priority, legacy=True) == []
    result = run(path)
    assert result.exit_code == 0
    assert "0 findings, 1 remark in 1 session" in result.stdout


# --- rings

START: list[Event] = [
    ("e0", EventKind.FEATURES, (VERSION_1 | EVENT_IDX,)),
    ("e0", EventKind.QUEUE, (0, 4, 0x1000, 0x2000, 0x3000, 0, 0)),
]


def descriptor(number: int, address: int, flags: int = 0, following: int = 0) -> Event:
    data = struct.pack("<QIHH", address, 16, flags, following)
    return "memory", EventKind.DMA_READ, (0x1000 + 16 * number, data)


def index(value: int) -> Event:
    return "memory", EventKind.DMA_READ, (0x2002, struct.pack("<H", value))


def taken(head: int) -> Event:
    return "e0", EventKind.CHAIN, (0, head, 1, 0x8000 + 0x100 * head, 16)


def judged(events: Sequence[Event]) -> list[tuple[str, str, int]]:
    return found(lint(TraceEvent(number, number, *each) for number, each in enumerate([*START, *events])))


def test_an_available_index_only_grows() -> None:
    assert judged([index(1), index(3), index(3), index(65535), index(0)]) == [
        ("VIRTIO 1.4 §2.7.6.1", "available idx 65535 after 3", 1)
    ]
    assert judged([index(65534), index(65535), index(1), index(0x7FFF)]) == []


def test_descriptors_of_a_buffer_in_flight_stay_as_they_are() -> None:
    chain = [descriptor(0, 0x8000, 1, 1), descriptor(1, 0x9000)]
    changed = [*chain, taken(0), descriptor(1, 0xA000), descriptor(1, 0xB000)]
    assert judged(changed) == [
        ("VIRTIO 1.4 §3.3.1", "descriptor 1 was changed while its buffer was with the device", 1)
    ]
    given_back: Event = ("e0", EventKind.USED, (0, 0, 0))
    assert judged([*chain, taken(0), given_back, descriptor(1, 0xA000)]) == []


def test_descriptors_of_a_buffer_in_flight_are_not_another_ones() -> None:
    events = [descriptor(0, 0x8000, 1, 1), descriptor(1, 0x9000), taken(0)]
    events += [descriptor(2, 0x8000, 1, 1), descriptor(1, 0x9000), taken(2)]
    assert judged(events) == [
        ("VIRTIO 1.4 §3.3.1", "descriptor 1 belongs to head 0, which is with the device", 1)
    ]


# --- sessions


def violation(summary: str, place: str = "e0 queue 0 head 1") -> Event:
    return "violations", EventKind.VIOLATION, ("C 1", place, summary, b"\x01")


RESET: Event = ("e0", EventKind.RESET, (-1,))


def sessions_of(events: Sequence[Event]) -> list[Session]:
    return lint(TraceEvent(number, 1000 * number, *each) for number, each in enumerate(events))


def test_each_driver_has_its_own_session_and_nobody_has_none() -> None:
    firmware, system = sessions_of(
        [
            RESET,
            *START,
            violation("too long by 3"),
            RESET,
            ("e0", EventKind.FEATURES, (VERSION_1,)),
            RESET,
            *START,
            violation("too long by 4"),
            violation("too long by 55"),
            violation("too short"),
        ]
    )
    assert (firmware.number, firmware.first, firmware.last) == (1, 1, 4)
    assert [(each.summary, each.count, each.event) for each in firmware.findings.values()] == [
        ("too long by 3", 1, 3)
    ]
    assert (system.number, system.first) == (2, 7)
    assert [(each.summary, each.count, each.event) for each in system.findings.values()] == [
        ("too long by 4", 2, 9),
        ("too short", 1, 11),
    ]
    assert all(each.level is Level.MUST for each in system.findings.values())


def test_a_driver_whose_machine_paused_is_the_same_one() -> None:
    again = [START[0], ("e0", EventKind.QUEUE, (0, 4, 0x1000, 0x2000, 0x3000, 7, 7))]
    (session,) = sessions_of([*START, violation("a"), RESET, *again, violation("a")])
    assert [(each.summary, each.count) for each in session.findings.values()] == [("a", 2)]


def test_a_storm_of_resets_is_not_kept() -> None:
    sessions = sessions_of([*START, RESET] * 1000)
    assert len(sessions) == 64
    assert sum(session.times for session in sessions) == 1000


# --- the command


def test_findings_are_told_with_their_first_place(tmp_path: Path) -> None:
    path = one_of_each(tmp_path / "disk.trace")
    result = run(path)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("vd0 session 1: events 199 to ")
    assert "BLK_F_FLUSH" in lines[1]
    assert (
        "1 queue (split, 256 entries); 2 IN, 1 OUT, 1 FLUSH, 1 GET_ID, 1 DISCARD, 1 WRITE_ZEROES" in lines[1]
    )
    header = "00 00 00 00 00 00 00 00 00 08 00 00 00 00 00 00"
    assert lines[2] == (
        f"  must   VIRTIO 1.4 §5.2.6.1  1×  READ of 512 bytes at sector 2048 of 2048 [{header}]"
    )
    assert lines[3].endswith("vd0 queue 0 head 6")
    assert lines[4] == "1 finding, 0 remarks in 1 session"


def test_findings_as_json(tmp_path: Path) -> None:
    result = run(one_of_each(tmp_path / "disk.trace"), "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["findings"], report["strict"], report["cut"]) == (1, True, False)
    ((session,),) = [report["sessions"]]
    assert session["requests"]["IN"] == 2
    assert session["queues"] == [{"queue": 0, "size": 256, "packed": False}]
    ((finding,),) = [session["findings"]]
    assert finding["clause"] == "VIRTIO 1.4 §5.2.6.1"
    assert finding["place"] == "vd0 queue 0 head 6"
    assert finding["data"] == "00000000000000000008000000000000"


def test_a_lenient_device_is_said_to_have_been_one(tmp_path: Path) -> None:
    path = written(tmp_path / "t.trace", START, strict=False)
    result = run(path)
    assert result.exit_code == 0
    assert "recorded without --strict" in result.stdout


def test_what_is_no_trace_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("hello")
    result = run(tmp_path / "t")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


@given(
    st.lists(
        st.sampled_from(EventKind).flatmap(lambda kind: st.tuples(st.just(kind), _details(kind))), max_size=30
    )
)
def test_any_trace_can_be_judged(events: list[tuple[EventKind, tuple[int | str | bytes, ...]]]) -> None:
    sessions = sessions_of([*START, *(("e0", *each) for each in events)])
    assert all(session.is_any for session in sessions)


def _details(kind: EventKind) -> st.SearchStrategy[tuple[int | str | bytes, ...]]:
    from devmodels.traceshapes import SHAPES

    parts = {
        int: st.integers(-1, 5) | st.sampled_from([0x1000, 0x2000, 0x2002, 0x3000]),
        str: st.text(max_size=5),
        bytes: st.binary(max_size=40),
    }
    shape = SHAPES[kind]
    return st.integers(0, 3).flatmap(
        lambda count: st.tuples(*(parts[each] for _, each in shape.fields + count * shape.repeated))
    )


def test_a_trace_that_is_cut_before_any_driver_began(tmp_path: Path) -> None:
    """Nobody knows what was in the rest, so that nothing found in what is there says nothing."""
    whole = one_of_each(tmp_path / "disk.trace").read_bytes()
    path = tmp_path / "cut.trace"
    path.write_bytes(whole[:1000])
    for options in ([], ["--json"]):
        result = run(path, *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert (
            result.stderr
            == f"{path}: the trace is cut short before any driver's session, expected more of it\n"
        )


def test_a_trace_without_a_driver_that_is_whole(tmp_path: Path) -> None:
    result = run(written(tmp_path / "e.trace", []))
    assert (result.exit_code, result.stdout) == (0, "0 findings, 0 remarks in 0 sessions\n")

"""`guestsim lint` and drivers of SCSI hosts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devmodels.tracefile import TraceReader
from guestsim.cli import app
from guestsim.drivers import cdb
from guestsim.drivers.scsi_layouts import COMMAND, EVENT_QUEUE, lun_bytes
from guestsim.drivers.virtio_scsi import VirtioScsi
from guestsim.lint.run import lint
from guestsim.lint.sessions import Level, Session
from guestsim.memory import Segment
from tests.unit.guestsim.show.traces import scsi
from tests.unit.recording.scsistory import US, ScsiStory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scsi.trace"


def judged(path: Path) -> list[Session]:
    with TraceReader(path) as reader:
        return lint(reader)


def findings(path: Path) -> list[tuple[str, Level, str]]:
    return [
        (each.clause, each.level, each.summary)
        for session in judged(path)
        for each in session.findings.values()
    ]


def driver_of(story: ScsiStory) -> VirtioScsi:
    driver = story.probe()
    story.attend()
    return driver


def test_a_driver_that_does_nothing_wrong(path: Path) -> None:
    (session,) = judged(scsi(path))
    assert session.device == "s0"
    assert session.requests == {
        "TEST UNIT READY": 1,
        "INQUIRY": 2,
        "WRITE (10)": 1,
        "READ (16)": 1,
        "READ (10)": 1,
        "MODE SENSE (6)": 1,
        "LOGICAL UNIT RESET": 1,
        "event": 1,
    }
    (finding,) = session.findings.values()
    assert (finding.clause, finding.place) == ("SBC-4 §4.5", "u0 LUN 3"), (
        "the unit's word is its host's driver's"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((2, 0, 0), "task_attr 2 HEAD_OF_QUEUE, prio 0, crn 0"),
        ((0, 1, 0), "task_attr 0 SIMPLE, prio 1, crn 0"),
        ((0, 0, 7), "task_attr 0 SIMPLE, prio 0, crn 7"),
    ],
)
def test_task_attributes_are_to_be_zero(path: Path, fields: tuple[int, int, int], words: str) -> None:
    story = ScsiStory(path)
    driver = driver_of(story)
    command = driver.command(lun_bytes(0, 0), cdb.test_unit_ready().data)
    readable = bytearray(command.readable)
    readable[COMMAND.size - 3 : COMMAND.size] = bytes(fields)
    story.guest.run(driver.execute(replace(command, readable=bytes(readable))))
    story.close()
    assert findings(path) == [("VIRTIO 1.4 §5.6.6.1", Level.SHOULD, f"{words}, which are to be 0")]


def test_event_buffers_that_are_not_there_when_needed(path: Path) -> None:
    story = ScsiStory(path)
    driver = story.driver = story.probe()
    story.guest.run(driver.reset())
    story.guest.run(driver.probe(events=0))
    story.assembly.context.run(story.assembly.remove_device("u1"))
    driver.offer_event_buffers(1)
    story.guest.run(story.guest.settle())
    story.close()
    assert findings(path) == [
        ("VIRTIO 1.4 §5.6.6.3", Level.SHOULD, "events were lost: the event queue had no buffers")
    ]


def test_event_buffers_that_cannot_be_written(path: Path) -> None:
    story = ScsiStory(path)
    driver = story.probe()
    story.guest.run(driver.reset())
    story.guest.run(driver.probe(events=0))
    ring = driver.device.queues[EVENT_QUEUE]
    place = Segment(story.guest.memory.allocate(16), 16)
    ring.add([place], [place], lambda _used: None)
    ring.publish()
    ring.kick()
    story.assembly.context.run(story.assembly.remove_device("u1"))
    story.close()
    assert findings(path)[0] == (
        "VIRTIO 1.4 §5.6.6.3",
        Level.MUST,
        "an event buffer with 16 bytes that the device cannot write",
    )


def test_more_commands_than_a_unit_is_to_have(path: Path) -> None:
    story = ScsiStory(path, latency_ns=20 * US)
    driver_of(story)
    story.submit([story.command(cdb.test_unit_ready().data) for _ in range(3)])
    story.submit([story.command(cdb.read_10(lba=n, blocks=1).data, room=512) for n in range(129)])
    story.guest.run(story.guest.settle())
    story.close()
    assert findings(path) == [
        ("VIRTIO 1.4 §5.6.4.1", Level.REMARK, "more than cmd_per_lun (128) commands with 0:0")
    ]


def test_configuration_that_is_always_there_may_be_read(path: Path) -> None:
    """Fields of virtio-blk's with the same names have features."""
    story = ScsiStory(path)
    driver = driver_of(story)
    assert driver.config["seg_max"]
    story.close()
    assert findings(path) == []


def test_other_places_are_for_virtio_blk(path: Path) -> None:
    scsi(path)
    for options in ([], ["--device", "u0"], ["--device", "s0"]):
        run = CliRunner().invoke(app, ["replay", str(path), "--target", "devmodels", *options])
        assert run.exit_code == 2
        (line,) = run.output.splitlines()
        assert "it can be replayed elsewhere for virtio-blk devices only, and" in line

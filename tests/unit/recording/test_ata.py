"""Hosts of ATA devices are recorded with their disks and drives, in machines of ours and in others'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devmodels.ata.disk import AtaDisk
from devmodels.ata.packet import AtapiDevice
from devmodels.recording import Recorder
from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts, TraceReader
from guestsim.drivers import ahci, ata
from guestsim.drivers.ahci import Ahci
from guestsim.drivers.ahci_layouts import PortIs
from guestsim.drivers.ide import IdeController, probe
from guestsim.drivers.ide_layouts import AtaCommand
from guestsim.drivers.ide_task import Task, Way
from guestsim.drivers.transport import Interrupts
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.ahci.stories import STORIES, boot
from tests.unit.ahci.test_stories import DISK, DRIVE, HBA
from tests.unit.exports.vfio.served import Served
from tests.unit.guestsim.replay.anywhere import goes_on, goes_on_anywhere
from tests.unit.recording.atastory import US, AhciStory, IdeStory
from tests.unit.recording.scsistory import does_it_again


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.trace"


def facts(events: list[TraceEvent]) -> list[dict[str, object]]:
    return [json.loads(str(event.detail[0])) for event in events if event.kind is EventKind.DEVICE]


@pytest.mark.long
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("story", STORIES)
def test_stories_of_an_hba(path: Path, story: str, shared: bool) -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK], shared=shared) as target:
        target.record(path)
        guest, _, port = boot(target)
        guest.run(STORIES[story](port))
    events = does_it_again(path)
    announced = facts(events)
    assert [(each["name"], each.get("host")) for each in announced] == [("sata0", None), ("hd0", "sata0")]


@pytest.mark.parametrize("before", [False, True])
def test_a_disk_that_keeps_its_password_in_a_file(path: Path, tmp_path: Path, before: bool) -> None:
    secret = bytes(2) + b"secret".ljust(510, b"\0")
    for _ in range(1 + before):
        disk = {**DISK, "state": str(tmp_path / "state.json")}
        with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, disk]) as target:
            target.record(path)
            guest, _, port = boot(target)
            guest.run(port.do(ata.AtaCommand(0xF2, out=secret)))
            guest.run(port.clear_errors())
            assert guest.run(port.do(ata.AtaCommand(0xF1, out=secret))).ok
            assert guest.run(port.identify()).words[128] & 7 == 3
    does_it_again(path)


def test_a_disk_with_a_password_is_plugged(path: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"user": "61" * 32}))
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA]) as target:
        target.record(path)
        target.plug({**DISK, "state": str(state)})
        guest, _, port = boot(target)
        assert guest.run(port.identify()).words[128] & 7 == 7
        assert guest.run(port.do(ata.AtaCommand(0xF2, out=bytes(2) + b"a" * 510))).ok
        assert guest.run(port.do(ata.AtaCommand(0xF6, out=bytes(2) + b"a" * 510))).ok
    assert json.loads(state.read_text())["user"] is None
    does_it_again(path)


def test_disks_that_come_and_go(path: Path) -> None:
    story = AhciStory(path, latency_ns=20 * US)
    try:
        story.send(0, [ata.write_queued(n, b"a" * 512) for n in range(4)])
        story.unplug("hd0")
        story.settle()
        story.plug("hd0")
        story.settle()
        story.recover(0)
        assert story.guest.run(story.port.do(ata.read_dma_ext(0, 4))).ok
    finally:
        story.close()
    events = does_it_again(path)
    assert [each["name"] for each in facts(events)] == ["sata0", "hd0", "cd0", "hd0"]


def test_a_disk_that_knew_something_before(path: Path) -> None:
    """A recording begins with a disk in use as little as with one that nobody has set anything in."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        disk = target.assembly.ata_units["hd0"].device
        assert isinstance(disk, AtaDisk)
        disk.multiple, disk.power_mode = 16, 0
        disk.security.user = b"secret".ljust(32, b"\0")
        target.record(path)
        guest, _, port = boot(target)
        identity = guest.run(port.identify())
        assert identity.words[59] & 0xFF == 16
        assert identity.words[128] & 2
    does_it_again(path)


def test_what_a_drives_user_does(path: Path) -> None:
    story = AhciStory(path)
    try:
        device = story.assembly.ata_units["cd0"].device
        assert isinstance(device, AtapiDevice)
        ready = ata.AtaCommand(0xA0, packet=bytes(12))

        def key() -> int:
            (pending,) = story.send(1, [ready])
            story.settle()
            assert pending.answer is not None
            return pending.answer.error >> 4

        assert [key() for _ in range(2)] == [6, 0], "UNIT ATTENTION"
        for act in (1, 0, 2, 3):
            device.drive.tray.user_does(act)
            assert bool(key()) is (act in (0, 1)), act
    finally:
        story.close()
    events = does_it_again(path)
    tray = [event.detail[0] for event in events if event.kind is EventKind.TRAY]
    assert tray == [1, 0, 2, 3]


@pytest.mark.parametrize("interrupts", [Interrupts.MSIX, Interrupts.INTX])
def test_an_hba_of_anothers_machine(tmp_path: Path, path: Path, interrupts: Interrupts) -> None:
    devices = [
        {"driver": "ich9-ahci", "id": "sata0"},
        {"driver": "ide-hd", "id": "hd0", "bus": "sata0.0", "drive": "d0"},
    ]
    with Served(tmp_path, devices, record=path, latency_ns=20 * US) as served:
        for _ in range(2):
            guest = served.guest
            (function,) = ahci.find(guest)
            hba = Ahci(guest, function)
            guest.run(hba.probe(interrupts=interrupts))
            port = hba.ports[0]
            pending = port.submit(*(ata.write_queued(n, bytes([n]) * 512) for n in range(8)))
            assert all(guest.run(port.wait(each)).ok for each in pending)
            port.submit(ata.read_queued(0, 8))
            served.another()
    events = does_it_again(path)
    assert {each["kind"] for each in facts(events)} == {"function"}
    assert {"sata0.regions", "sata0.memory"} <= {event.source for event in events}


@pytest.mark.parametrize("native", [True, False])
def test_a_channel_with_a_disk_and_a_drive(path: Path, native: bool) -> None:
    story = IdeStory(path, latency_ns=20 * US, native=native)
    try:
        story.clear()
        for dma in (False, True):
            story.transfer(100, 3, dma=dma, out=True)
            story.transfer(100, 3, dma=dma, out=False)
            story.packet(2, 2, 2048, dma=dma)
    finally:
        story.close()
    events = does_it_again(path)
    assert {event.source for event in events if event.kind is EventKind.DISPATCH} == {"hd0", "cd0"}


def test_a_channel_of_anothers_machine(tmp_path: Path, path: Path) -> None:
    devices: list[dict[str, object]] = [
        {"driver": "piix4-ide", "id": "ide0", "native": True},
        {"driver": "ide-hd", "id": "hd0", "bus": "ide0.0", "drive": "d0"},
        {"driver": "ide-cd", "id": "cd0", "bus": "ide0.0"},
    ]
    with Served(tmp_path, devices, record=path) as served:
        for _ in range(2):
            guest = served.guest
            ide = IdeController(guest, served.function(4)).channels[0]
            assert guest.run(probe(ide)) == {0: "ata", 1: "atapi"}
            task = Task(AtaCommand.READ_DMA, count=4, way=Way.DMA_IN, length=2048)
            assert guest.run(ide.do(0, task)).ok
            assert guest.run(ide.packet(1, bytes(12))).sense_key == 6
            served.another()
    assert "ide0.regions" in {event.source for event in does_it_again(path)}


def test_what_the_guest_does_wrong_is_part_of_it(path: Path) -> None:
    story = AhciStory(path)
    try:
        story.broken(5, 1, 1 << 40)
        story.settle()
        assert story.port.failed & PortIs.HBFS
    finally:
        story.close()
    assert EventKind.VIOLATION in {event.kind for event in does_it_again(path)}


def test_errors_of_a_log_have_their_times(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes on while the disk is announced, of which a recording does not know."""
    announce = Recorder._announce

    def slowly(recorder: Recorder, what: DeviceFacts) -> None:
        target.assembly.context.run(target.assembly.context.sleep(7_500_000))
        announce(recorder, what)
        target.assembly.context.run(target.assembly.context.sleep(8_700_000))

    monkeypatch.setattr(Recorder, "_announce", slowly)
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        target.record(path)
        guest, _, port = boot(target)
        uncorrectable = ata.AtaCommand(0x45, features=0x55, count=1, lba=5, device=0x40)
        assert guest.run(port.do(uncorrectable)).ok
        assert not guest.run(port.do(ata.read_dma_ext(5, 1))).ok
        guest.run(port.clear_errors())
        assert guest.run(port.do(ata.read_log(0x03))).data[500] == 1, "errors"
    does_it_again(path)


def test_a_replay_goes_on_from_between_any_commands(path: Path) -> None:
    story = AhciStory(path, latency_ns=20 * US)
    try:
        for number in range(3):
            story.send(0, [ata.write_queued(8 * number, b"a" * 512), ata.read_queued(0, 2)])
            story.send(1, [ata.AtaCommand(0xA0, packet=bytes(12))])
            story.settle()
        story.unplug("hd0")
        story.settle()
        story.plug("hd0")
        story.settle()
        story.send(0, [ata.read_dma_ext(1 << 30, 1)])
        story.settle()
        story.machine_reset()
        story.probe()
        story.send(0, [ata.read_queued(0, 2)])
        story.settle()
    finally:
        story.close()
    assert goes_on_anywhere(path, 3) > 500


@pytest.mark.long
@pytest.mark.parametrize("native", [True, False])
def test_a_replay_of_a_controller_goes_on_from_between_any_commands(path: Path, native: bool) -> None:
    story = IdeStory(path, latency_ns=20 * US, native=native)
    try:
        story.clear()
        for dma in (False, True):
            story.transfer(100, 1, dma=dma, out=True)
            story.packet(2, 1, 2048, dma=dma)
    finally:
        story.close()
    assert goes_on_anywhere(path, 2) > 500


def test_a_replay_in_the_middle_of_a_command_goes_on_to_its_end(path: Path, tmp_path: Path) -> None:
    story = AhciStory(path, latency_ns=20 * US)
    try:
        story.send(0, [ata.write_queued(8, b"a" * 512), ata.read_queued(0, 2)])
        story.settle()
    finally:
        story.close()
    with TraceReader(path) as reader:
        kinds = [event.kind for event in reader]
    first, last = kinds.index(EventKind.REQUEST), len(kinds) - kinds[::-1].index(EventKind.COMPLETION)
    assert goes_on(path, first + 1, tmp_path / "snapshot") >= last


def test_a_recording_that_is_not_the_first_guest(path: Path) -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, _, port = boot(target)
        guest.run(port.do(ata.write_dma_ext(0, b"x" * 512)))
        target.assembly.machine.reset()
        guest.close()
        target.assembly.machine.run_until_idle()
        target.record(path)
        _, _, port = boot(target)
    does_it_again(path)

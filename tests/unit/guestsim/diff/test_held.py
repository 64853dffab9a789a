"""Requests that are held at a break point on both sides while other things are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from guestsim.diff.access import Held, Late, Loose, Resume, Step, Wait, Write, lines, parse
from guestsim.diff.arena import ARENA, ARENA_SIZE
from guestsim.diff.grammar import Action, virtio_blk, virtio_rings, virtio_scsi
from guestsim.diff.grammar.virtio import BringUp, Ended, InFlight, ResetQueue, Submit, common
from guestsim.diff.grammar.virtio_chains import Chain
from guestsim.diff.known import known
from guestsim.diff.play import Difference, Player
from guestsim.diff.sides import OurSide
from guestsim.diff.virtio_devices import VIRTIO_BLK, VIRTIO_SCSI
from guestsim.drivers.layouts import Feature
from guestsim.drivers.scsi_layouts import COMMAND, CONTROL_QUEUE, ScsiResponse, Tmf, lun_bytes

from .machines import with_twin

UP = BringUp(virtio_blk.ALL, (16, 16), None)


def chain(kind: virtio_blk.Kind) -> Chain:
    """A request that does not depend on chance, in the disk's first zone."""
    from random import Random

    return kind(Random(3), 0)


def held(*meanwhile: Action) -> list[Step]:
    """A read that is held."""
    read = Submit(0, (chain(virtio_blk.read),), 0)
    return VIRTIO_BLK.grammar.lower([UP, InFlight("read_aio", read, meanwhile)])


def play(player: Player, steps: Sequence[Step]) -> Difference | None:
    """Through its file form."""
    return player.play(parse("\n".join(lines("virtio-blk", steps)), "file")[1])


def test_a_request_is_held_on_both_while_another_one_is_done(tmp_path: Path) -> None:
    other = Submit(0, (chain(virtio_blk.write),), 0)
    with with_twin(tmp_path)() as player:
        assert play(player, held(other)) is None
        assert player.counts.held == 1


def test_what_is_done_meanwhile_is_compared(tmp_path: Path) -> None:
    identity = Submit(1, (chain(virtio_blk.get_id),), 1)
    with with_twin(tmp_path, serial="of-another-device")() as player:
        found = play(player, held(identity))
        assert found is not None
        assert (found.kind, found.place) == ("memory", "buffers")
        assert {"in-flight", "held:read_aio", "in", "get-id"} <= found.now


def test_nothing_is_held_any_more_after_a_difference(tmp_path: Path) -> None:
    identity = Submit(1, (chain(virtio_blk.get_id),), 1)
    with with_twin(tmp_path, serial="of-another-device")() as player:
        assert play(player, held(identity)) is not None
        assert not player.ours.holds("A")
        assert play(player, held()) is None
        assert player.counts.held == 2


def test_a_request_that_only_ours_holds_is_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = OurSide.holds
    monkeypatch.setattr(
        OurSide, "holds", lambda side, tag: side.name == "ours" and holds(side, tag), raising=True
    )
    with with_twin(tmp_path)() as player:
        found = play(player, held())
        assert found is not None
        assert found.signature == ("held", "A")


def test_a_break_point_to_which_nothing_comes_goes_with_its_resume(tmp_path: Path) -> None:
    flush = Submit(0, (chain(virtio_blk.flush),), 0)
    read = Submit(0, (chain(virtio_blk.read),), 0)
    steps = VIRTIO_BLK.grammar.lower([UP, InFlight("write_aio", flush, ()), read])
    with with_twin(tmp_path)() as player:
        assert play(player, steps) is None
        assert player.counts.held == 0


def test_the_held_request_ends_with_its_resume() -> None:
    last = held()[-1].accesses
    at = [number for number, one in enumerate(last) if isinstance(one, Held | Resume | Wait)]
    assert [type(last[number]) for number in at] == [Held, Wait, Resume, Wait]


@pytest.mark.parametrize(
    ("function", "same", "response"),
    [
        (Tmf.QUERY_TASK, True, ScsiResponse.FUNCTION_SUCCEEDED),
        (Tmf.QUERY_TASK, False, ScsiResponse.OK),
        (Tmf.QUERY_TASK_SET, False, ScsiResponse.FUNCTION_SUCCEEDED),
        (Tmf.ABORT_TASK, False, ScsiResponse.OK),
    ],
)
def test_tasks_are_managed_while_one_is_held(
    tmp_path: Path, function: Tmf, *, same: bool, response: ScsiResponse
) -> None:
    from random import Random

    read = virtio_scsi.read(Random(3), 0)
    head = read.pieces[0].data
    assert head is not None
    _, tag, *_ = COMMAND.unpack_from(head)
    managed = virtio_scsi.task(function, lun_bytes(0, 0), tag if same else 1 << 32)
    actions: list[Action] = [
        BringUp(virtio_scsi.ALL, (16,) * virtio_scsi.QUEUES, None),
        # The first command after a reset ends with an attention.
        Submit(2, (virtio_scsi.flush(Random(1), 0),), 2),
        InFlight("read_aio", Submit(2, (read,), 2), (managed,)),
    ]
    with with_twin(tmp_path, VIRTIO_SCSI)() as player:
        assert player.play(VIRTIO_SCSI.grammar.lower(actions)) is None
        assert player.counts.held == 1
        memory = player.ours.memory[:ARENA_SIZE]
    request = managed.chains[0].pieces[0].data
    assert request is not None
    assert memory[memory.index(request) + len(request)] == response


def test_some_ask_for_the_task_that_is_held() -> None:
    from random import Random

    asked = 0
    for seed in range(80):
        action = virtio_scsi.in_flight(Random(seed))
        head = action.submit.chains[0].pieces[0].data
        assert head is not None
        _, tag, *_ = COMMAND.unpack_from(head)
        control = [one for one in action.meanwhile if isinstance(one, Submit) and one.queue == CONTROL_QUEUE]
        asked += any(tag.to_bytes(8, "little") in (one.chains[0].pieces[0].data or b"") for one in control)
    assert 8 < asked < 60


@pytest.mark.parametrize(
    ("theirs", "excused"),
    [("05 00", False), ("06 00", True), ("07 00", True), ("08 00", False), ("04 00", False)],
)
def test_no_more_are_ahead_of_an_ordered_command_than_there_are(theirs: str, *, excused: bool) -> None:
    from random import Random

    read = virtio_scsi.read(Random(3), 0)
    other = Submit(3, (replace(read, traits=("not-simple",)),), 3)
    managed = virtio_scsi.task(Tmf.QUERY_TASK, lun_bytes(0, 0), 1)
    actions: list[Action] = [
        BringUp(virtio_scsi.ALL, (16,) * virtio_scsi.QUEUES, None),
        InFlight("read_aio", Submit(2, (read,), 2), (other, managed, other)),
    ]
    step = VIRTIO_SCSI.grammar.lower(actions)[-1]
    found = Difference("memory", "queue 3 used index", "05 00", theirs, 1, step.name, step.tags, step.tags)
    assert (known("virtio-scsi", found) is not None) is excused


@pytest.mark.parametrize("function", virtio_scsi.ENDS)
def test_task_management_ends_what_is_held(tmp_path: Path, function: Tmf) -> None:
    from random import Random

    read = virtio_scsi.read(Random(3), 0)
    head = read.pieces[0].data
    assert head is not None
    _, tag, *_ = COMMAND.unpack_from(head)
    actions: list[Action] = [
        BringUp(virtio_scsi.ALL, (16,) * virtio_scsi.QUEUES, None),
        # The first command after a reset ends with an attention.
        Submit(2, (virtio_scsi.flush(Random(1), 0),), 2),
        Ended("read_aio", Submit(2, (read,), 2), virtio_scsi.task(function, lun_bytes(0, 0), tag)),
    ]
    steps = VIRTIO_SCSI.grammar.lower(actions)
    with with_twin(tmp_path, VIRTIO_SCSI)() as player:
        assert player.play(steps) is None
        assert player.counts.held == 1
        memory = player.ours.memory[:ARENA_SIZE]
    last = steps[-1].accesses
    (masked,) = {one.address for one in last if isinstance(one, Loose) and one.reason == "residual"}
    assert memory[masked - 4 - ARENA + 11] == ScsiResponse.ABORTED
    assert any(isinstance(one, Write) for one in last[: last.index(Resume("A"))])


def dropped(by: BringUp | ResetQueue, kind: virtio_blk.Kind, event: str, features: int) -> list[Step]:
    """A request that is held when its device, or its queue, is reset; it is made again."""
    submit = Submit(0, (chain(kind),), 0)
    up = BringUp(features, (16, 16), None)
    return VIRTIO_BLK.grammar.lower([up, Ended(event, submit, by, (submit,))])


PACKED = virtio_blk.ALL | 1 << Feature.RING_PACKED


@pytest.mark.parametrize("features", [virtio_blk.ALL, PACKED])
@pytest.mark.parametrize("by", [BringUp(PACKED, (16, 16), None), ResetQueue(0, again=True)])
@pytest.mark.parametrize(
    ("kind", "event"), [(virtio_blk.read, "read_aio"), (virtio_blk.write, "pwritev_done")]
)
def test_what_is_held_ends_with_a_reset(
    tmp_path: Path, by: BringUp | ResetQueue, kind: virtio_blk.Kind, event: str, features: int
) -> None:
    steps = dropped(by, kind, event, features)
    with with_twin(tmp_path)() as player:
        assert play(player, steps) is None
        assert player.counts.held == 1
    assert {"in-flight", "ended", f"held:{event}"} <= steps[-1].tags


@pytest.mark.parametrize("late", [True, False])
def test_only_a_reset_of_the_device_waits_in_qemu(*, late: bool) -> None:
    by = BringUp(PACKED, (16, 16), None) if late else ResetQueue(0, again=True)
    last = dropped(by, virtio_blk.read, "read_aio", virtio_blk.ALL)[-1].accesses
    reset = (
        Write("common", *common("device_status"), 0) if late else Write("common", *common("queue_reset"), 1)
    )
    assert last.index(reset) < last.index(Resume("A"))
    assert (Late("A") in last[: last.index(reset)]) is late


def test_a_used_buffer_of_a_queue_that_was_reset_is_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = OurSide.resume

    def used(side: OurSide, tag: str) -> None:
        resume(side, tag)
        if side.name == "twin":
            side.memory[virtio_rings.RINGS + virtio_rings.USED_AT + 2 - ARENA] = 1

    monkeypatch.setattr(OurSide, "resume", used)
    with with_twin(tmp_path)() as player:
        found = play(player, dropped(ResetQueue(0, again=True), virtio_blk.read, "read_aio", virtio_blk.ALL))
        assert found is not None
        assert found.place == "queue 0 used index"

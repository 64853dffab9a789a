"""A device is broken on purpose, and a trace of the good one finds it, at the place and in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devmodels.blockbackend import BlockBackend
from devmodels.blockbackend.request import Op, Request
from devmodels.trace import EventKind
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio_blk.device import VirtioBlk
from guestsim.cli import app
from guestsim.disk import boot
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from guestsim.replay import replay

MIB = 1 << 20
Break = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "good.trace"
    with disk_machine(MIB) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        disk.write(4096, b"\xa5" * 511 + b"\x5a")
        disk.read(4096, 512)
        disk.flush()
    return path


def used_length_is_one_too_long(patch: pytest.MonkeyPatch) -> None:
    finish = VirtQueue.finish

    def broken(queue: VirtQueue, used: Sequence[tuple[Chain, int]]) -> None:
        finish(queue, [(chain, written + 1) for chain, written in used])

    patch.setattr(VirtQueue, "finish", broken)


def driver_is_not_notified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(VirtioDevice, "notify_used", lambda device, queue: None)


def status_is_written_after_the_used_ring(patch: pytest.MonkeyPatch) -> None:
    def broken(device: VirtioBlk, request: Request) -> None:
        chain = request.chain  # type: ignore[attr-defined]
        request.queue.finish(((chain, chain.writable_bytes),))  # type: ignore[attr-defined]
        request.dma.unmap(0)  # type: ignore[attr-defined]
        device.memory.write_byte(request.status_address, 0)  # type: ignore[attr-defined]

    patch.setattr(VirtioBlk, "io_done", broken)


def data_is_written_back_to_front(patch: pytest.MonkeyPatch) -> None:
    submit = BlockBackend.submit

    def broken(backend: BlockBackend, request: Request) -> None:
        if request.op is Op.WRITE:
            request.vectors = [memoryview(b"".join(request.vectors)[::-1])]
        submit(backend, request)

    patch.setattr(BlockBackend, "submit", broken)


def header_is_read_twice(patch: pytest.MonkeyPatch) -> None:
    handle = VirtioBlk.handle

    def broken(device: VirtioBlk, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        for chain in chains:
            device.memory.read(*chain.readable[0])
        handle(device, queue, chains)

    patch.setattr(VirtioBlk, "handle", broken)


def every_answer_is_ioerr(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("devmodels.virtio_blk.device.S_OK", 1)


def buffers_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(VirtioBlk, "handle", lambda device, queue, chains: None)


def it_raises(patch: pytest.MonkeyPatch) -> None:
    def broken(device: VirtioBlk, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        raise LookupError("no such thing")

    patch.setattr(VirtioBlk, "handle", broken)


@pytest.mark.long
@pytest.mark.parametrize(
    ("breakage", "expected", "got"),
    [
        (used_length_is_one_too_long, EventKind.USED, "queue 0 head 0: 2 written"),
        (driver_is_not_notified, EventKind.NOTIFY, "memory dma-read  2 bytes at "),
        (status_is_written_after_the_used_ring, EventKind.DMA_WRITE, "used"),
        (
            data_is_written_back_to_front,
            EventKind.DISPATCH,
            "vd0 dispatch  dispatch 0: other data than head 0 has, from byte 0 of 512 on: 5a a5 a5",
        ),
        (header_is_read_twice, EventKind.DMA_READ, "16 bytes at "),
        (every_answer_is_ioerr, EventKind.DMA_WRITE, "status 1 IOERR"),
        (buffers_are_forgotten, EventKind.DMA_READ, "memory dma-write  vd0 queue 0 used: avail_event 1"),
        (it_raises, EventKind.DMA_READ, "LookupError: no such thing"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_it_is_found(
    trace: Path, monkeypatch: pytest.MonkeyPatch, breakage: Break, expected: EventKind, got: str
) -> None:
    assert replay(trace).difference is None
    breakage(monkeypatch)
    difference = replay(trace).difference
    assert difference is not None
    assert difference.expected.kind is expected
    assert got in difference.words().got
    assert [event.kind for event in difference.inputs][-1] is EventKind.ACCESS_WRITE


def test_a_difference_says_where_what_and_after_which_inputs(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_length_is_one_too_long(monkeypatch)
    run = CliRunner().invoke(app, ["replay", str(trace)])
    assert run.exit_code == 1
    difference = replay(trace).difference
    assert difference is not None
    assert run.stdout.splitlines()[1:5] == [
        f"DIFFERENCE at event {difference.number}, 0.000000 s, vd0",
        "  expected: vd0 used  #0 queue 0 head 0: 1 written (OUT 512 bytes at sector 8)",
        "  got:      vd0 used  #0 queue 0 head 0: 2 written (OUT 512 bytes at sector 8)",
        "the last inputs before it:",
    ]
    assert str(difference) in run.stdout
    assert "access-write  vd0 notify[0] = " in run.stdout


def test_the_difference_as_json(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver_is_not_notified(monkeypatch)
    run = CliRunner().invoke(app, ["replay", "--json", str(trace)])
    assert run.exit_code == 1
    report = json.loads(run.stdout)
    assert (report["ok"], report["differences"]) == (False, 1)
    assert report["difference"]["got"].startswith("memory dma-read")
    assert report["difference"]["expected"].startswith("vd0 notify")
    assert len(report["difference"]["inputs"]) == 8


def test_what_a_device_raises_is_shown_with_its_traceback_where_that_is_asked_for(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it_raises(monkeypatch)
    assert "Traceback" not in CliRunner().invoke(app, ["replay", str(trace)]).output
    run = CliRunner().invoke(app, ["replay", "--traceback", str(trace)])
    assert run.exit_code == 1
    assert "Traceback" in run.stderr
    assert "no such thing" in run.stderr

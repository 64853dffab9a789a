"""A live QEMU as a process: how it starts, ends, dies and refuses."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from guestsim.targets import TargetError, process
from guestsim.targets.qemu import QemuTarget

from .by_hand import Pci, VirtioBlk
from .machines import disk, machine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]


def is_gone(pid: int) -> bool:
    """Whether no such process is left, not even to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files, with a name too long for a socket's address."""
    folder = tmp_path / ("temporary, " * 10)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_guest_memory_keeps_what_is_written() -> None:
    data = random.Random(1).randbytes(1_000_003)
    with QemuTarget() as target:
        target.ram_write(0x10_0001, data)
        assert target.ram_read(0x10_0001, len(data)) == data


def test_all_of_the_ram_told_is_ram() -> None:
    with QemuTarget() as target:
        (ram,) = target.layout.ram
        for address in (ram.base, ram.end - 8):
            target.ram_write(address, b"qemu ram")
            assert target.ram_read(address, 8) == b"qemu ram"


def test_messages_are_words_outside_the_guests_ram() -> None:
    with QemuTarget() as target:
        for vector in (0, 2047):
            address, data = target.message(vector)
            assert not any(window.base - 4 < address < window.end for window in target.layout.ram)
            target.write(address, 4, data)
        assert target.take_messages() == {0: 1, 2047: 1}


def test_there_are_2048_vectors() -> None:
    with QemuTarget() as target, pytest.raises(ValueError, match="vector 2048: expected 0 to 2047"):
        target.message(2048)


def test_a_pin_that_no_slot_has() -> None:
    with (
        QemuTarget() as target,
        pytest.raises(ValueError, match="slot 4, pin 0: expected slot 0 to 31 and pin"),
    ):
        target.intx_level(4, 0)


def test_the_machine_runs_and_says_what_it_is() -> None:
    with QemuTarget() as target:
        assert target.name == "qemu"
        assert target.qmp("query-status") == {"status": "running", "singlestep": False, "running": True}


def test_registers_are_little_endian_at_every_size() -> None:
    with QemuTarget() as target:
        target.write(0x10_0000, 8, 0x8877665544332211)
        values = [target.read(0x10_0000, size) for size in (1, 2, 4, 8)]
        assert values == [0x11, 0x2211, 0x44332211, 0x8877665544332211]


def test_what_the_protocol_cannot_carry_is_refused_before_qemu_sees_it() -> None:
    with QemuTarget() as target:
        with pytest.raises(ValueError, match="size 8: expected one of 1, 2, 4 bytes"):
            target.io_read(0xCFC, 8)
        with pytest.raises(ValueError, match="address 0x10000: expected 0 to 0xffff"):
            target.io_write(0x1_0000, 1, 0)
        with pytest.raises(ValueError, match="value 0x100: expected 0 to 0xff for 1 bytes"):
            target.write(0x10_0000, 1, 0x100)
        assert target.io_read(0xCF8, 4) == 0x8000_0060, "QEMU lives on"


def test_closing_leaves_no_process_and_no_file(temporary: Path) -> None:
    target = QemuTarget()
    target.qmp("query-status")
    pid = target.pid
    target.close()
    target.close()
    assert is_gone(pid)
    assert list(temporary.iterdir()) == []


def test_a_closed_machine_says_so() -> None:
    target = QemuTarget()
    target.close()
    with pytest.raises(TargetError, match="the machine has been closed"):
        target.read(0, 4)
    with pytest.raises(TargetError, match="the machine has been closed"):
        target.advance()
    with pytest.raises(TargetError, match="the machine has been closed"):
        target.qmp("query-status")


def test_a_forgotten_machine_ends() -> None:
    target = QemuTarget()
    pid = target.pid
    del target
    gc.collect()
    assert is_gone(pid)


def test_a_machine_ends_with_the_interpreter(temporary: Path) -> None:
    program = (
        "from guestsim.targets.qemu import QemuTarget\n"
        "target = QemuTarget()\n"
        "target.qmp('query-status')\n"
        "print(target.pid)\n"
    )
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert is_gone(int(result.stdout))
    assert (result.stderr, list(temporary.iterdir())) == ("", [])


def test_a_killed_qemu_is_reported(image: Path) -> None:
    with machine(image) as target:
        device = VirtioBlk(Pci(target, 4))
        device.start(vector=0)
        device.submit_read(sector=0)
        os.kill(target.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(TargetError, match=r"^QEMU was ended by signal 9 \(Killed\)$"):
                target.ram_read(0x10_0000, 1 << 20)
        with pytest.raises(TargetError, match="signal 9"):
            target.resize("d0", 1 << 20)


def test_a_qemu_killed_under_its_monitor_is_reported() -> None:
    with QemuTarget() as target:
        target.qmp("query-status")
        os.kill(target.pid, signal.SIGKILL)
        with pytest.raises(TargetError, match=r"^query-status: QEMU was ended by signal 9 \(Killed\)$"):
            target.qmp("query-status")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({"driver": "virtio-blk-pci", "drvie": "d0"}, "Property 'virtio-blk-pci.drvie' not found"),
        (
            {"driver": "virtio-blk-pci", "drive": "d1"},
            "Property 'virtio-blk-device.drive' can't find value 'd1'",
        ),
        ({"drive": "d0"}, "Parameter 'driver' is missing"),
    ],
)
def test_a_device_that_qemu_refuses(image: Path, temporary: Path, device: dict[str, str], words: str) -> None:
    with pytest.raises(TargetError) as error:
        QemuTarget(blockdevs=[disk(image)], devices=[device])
    message = str(error.value)
    assert message.startswith("QEMU exited with status 1: ")
    assert message.endswith(words)
    assert "\n" not in message
    assert list(temporary.iterdir()) == []


def test_a_qemu_that_is_not_there() -> None:
    with pytest.raises(TargetError, match=r"^no-such-qemu not found: expected QEMU's system emulator"):
        QemuTarget(binary="no-such-qemu")


def test_a_program_that_is_no_qemu() -> None:
    with pytest.raises(TargetError, match=r"^QEMU exited with status 1$"):
        QemuTarget(binary="false")


def test_a_qemu_that_does_not_end_by_itself_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_END_TIMEOUT", 0.05)
    target = QemuTarget()
    os.kill(target.pid, signal.SIGSTOP)
    target.close()
    assert is_gone(target.pid)


def test_a_program_that_never_connects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_START_TIMEOUT", 0.05)
    program = tmp_path / "not-qemu"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    with pytest.raises(TargetError, match=r"^QEMU didn't connect within 0\.05 s$"):
        QemuTarget(binary=str(program))


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    program = tmp_path / "not-a-program"
    program.write_text("nothing to run\n")
    program.chmod(0o755)
    with pytest.raises(TargetError, match=r"not-a-program can't be started: Exec format error$"):
        QemuTarget(binary=str(program))


def test_a_refused_monitor_command_keeps_qemus_words(image: Path) -> None:
    with machine(image) as target:
        with pytest.raises(TargetError, match=r"^block_resize: Cannot find device='' nor node-name='d9'$"):
            target.resize("d9", 512)
        with pytest.raises(TargetError, match=r"^query-blockstats names no device 'v9'$"):
            target.statistics("v9")
        target.resize("d0", 1 << 20)


def test_relative_image_names_are_the_callers(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image.parent)
    with QemuTarget(blockdevs=[{"driver": "file", "filename": image.name, "node-name": "d0"}]):
        pass

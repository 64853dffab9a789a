"""The program over its two sockets, as a qtest client starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from devmodels.qtest.hotplug import DOWN, EJECT, HOTPLUG_PORT, UP
from guestsim.targets import TargetError
from guestsim.targets.qemu import QemuTarget
from guestsim.targets.qmp import Json


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The console script, also where the package is not installed."""
    path: Path = tmp_path_factory.mktemp("bin") / "devmodels-system-x86_64"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m devmodels.qtest "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_the_target_for_qemu_has_it_for_a_machine(binary: str) -> None:
    with QemuTarget(
        binary=binary,
        blockdevs=[{"driver": "null-co", "node-name": "d0", "size": 1 << 20}],
        devices=[{"driver": "ide-hd", "drive": "d0", "bus": "ide.0", "id": "disk"}],
    ) as target:
        assert target.read(0xB00F_A000, 4) == 0x2922_8086
        target.ram_write(1 << 20, b"memory" * 50_000)
        assert target.ram_read(1 << 20, 300_000) == b"memory" * 50_000
        assert target.qmp("query-status") == {"running": True, "singlestep": False, "status": "running"}
        assert target.statistics("disk")["rd_operations"] == 0
        target.stop()
        assert [name for name, _ in target.take_events()] == ["STOP"]


def _ran(*arguments: str, requests: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devmodels.qtest", *arguments],
        input=requests,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_requests_at_standard_input() -> None:
    ended = _ran(
        "-M",
        "q35,accel=qtest",
        "-qtest",
        "stdio",
        requests="outl 0xcf8 0x8000fa00\ninl 0xcfc\nclock_step 5\n",
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "OK\nOK 0x29228086\nOK 5\n", "")


def test_a_client_at_standard_input_that_says_nothing_more_keeps_nobody_waiting() -> None:
    command = [sys.executable, "-m", "devmodels.qtest", "-M", "none", "-qtest", "stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"endianness\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"OK little\n"
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.long
def test_what_is_wrong_is_one_line(binary: str) -> None:
    ended = _ran("-device", "virtio-blk-pci,drive=nothing")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "no drive 'nothing'" in ended.stderr
    with pytest.raises(TargetError, match="exited with status 1"):
        QemuTarget(binary=binary, devices=json.loads('[{"driver": "e1000"}]'))


@pytest.mark.long
def test_what_a_board_holds_beside_its_devices_migrates_to_another_process(
    binary: str, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    node: dict[str, Json] = {"driver": "null-co", "node-name": "d0", "size": 1 << 20}
    disk: dict[str, Json] = {"driver": "virtio-blk-pci", "drive": "d0", "addr": "6", "id": "disk"}

    def machine(*words: str) -> QemuTarget:
        return QemuTarget(
            binary=binary, accel="qtest", board="pc", blockdevs=[node], devices=[disk], arguments=words
        )

    with machine() as source, machine("-incoming", f"unix:{here}") as target:
        source._qtest.clock_step(5_000_000)
        target._qtest.clock_step(1_000_000)
        source._qtest.requests([b"set_irq_in ioapic unnamed-gpio-in 5 1\n"])
        source.qmp("device_del", {"id": "disk"})
        source.qmp("migrate", {"uri": f"unix:{here}"})
        while source.qmp("query-migrate") != {"status": "completed"}:
            pass
        while target.qmp("query-migrate") != {"status": "completed"}:
            pass
        assert target._qtest.clock_step(1_000_000) == 6_000_000
        assert target.irq_level(5)
        assert target.io_read(HOTPLUG_PORT + UP, 4) == 0
        assert target.io_read(HOTPLUG_PORT + DOWN, 4) == 1 << 6
        target.take_events()
        target.io_write(HOTPLUG_PORT + EJECT, 4, 1 << 6)
        target.qmp("query-status")
        gone = [members for name, members in target.take_events() if name == "DEVICE_DELETED"]
        assert gone[-1] == {"device": "disk", "path": "/machine/peripheral/disk"}

"""The program over its two sockets, as a qtest client starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from guestsim.targets import TargetError
from guestsim.targets.qemu import QemuTarget


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


def test_what_is_wrong_is_one_line(binary: str) -> None:
    ended = _ran("-device", "virtio-blk-pci,drive=nothing")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "no drive 'nothing'" in ended.stderr
    with pytest.raises(TargetError, match="exited with status 1"):
        QemuTarget(binary=binary, devices=json.loads('[{"driver": "e1000"}]'))

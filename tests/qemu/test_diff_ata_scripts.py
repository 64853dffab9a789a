"""Scripts of ATA hosts on our machine and a live QEMU's at once: what is different there is found, and where."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devmodels.ahci import delivery, fis
from guestsim.diff.script_judge import Judge
from guestsim.diff.scripts import ScriptDiff, compare_script
from guestsim.drivers.ahci_layouts import PortIs, PortReg
from guestsim.script.perform import StepReport
from guestsim.script.run import YamlScript, read_scripts
from guestsim.targets.qemu import QemuTarget

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

SCRIPT = """
name: reads
drives: [{driver: file, node-name: d0, size: 1M, content: {pattern: 0x11}}]
devices: [{driver: HOST, id: host}, {driver: ide-hd, bus: host.0, drive: d0}]
steps:
  - ata-probe: {}
  - ata: {command: read-sectors, lba: 5, count: 2}
  - ata: {command: read-dma, lba: 5, count: 2}
  - ata: {command: write-dma, lba: 100, count: 8, data: {pattern: 7}}
  - ata: {command: read-dma, lba: 100000, count: 2}
    expect: {registers: {status: 0x51, error: 0x10}}
    on qemu: {registers: {status: 0x41, error: 4}, because: DSC is obsolete}
  - ata: {command: flush-cache}
"""
HOSTS = ("ich9-ahci", "piix3-ide")


def _compare(folder: Path, host: str) -> ScriptDiff:
    path = folder / "reads.guest.yaml"
    path.write_text(SCRIPT.replace("HOST", host))
    (runnable,) = read_scripts(path)
    assert isinstance(runnable, YamlScript)
    return compare_script(runnable)


@pytest.mark.parametrize("host", HOSTS)
def test_nothing_is_different(tmp_path: Path, host: str) -> None:
    report = _compare(tmp_path, host)
    assert (report.place, str(report.unexplained or ""), report.failures) == ("", "", [])
    assert report.steps == 6
    assert report.compared >= 6


@pytest.mark.parametrize(("host", "place"), [("ich9-ahci", "buffers"), ("piix3-ide", "ide.DATA")])
def test_data_that_are_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, place: str
) -> None:
    start = QemuTarget.__init__

    def other(self: QemuTarget, **options: object) -> None:
        options["blockdevs"] = [
            {"driver": "null-co", "node-name": "d0", "size": 1 << 20, "read-zeroes": True}
        ]
        start(self, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(QemuTarget, "__init__", other)
    report = _compare(tmp_path, host)
    assert report.unexplained is not None
    assert report.unexplained.place == place
    assert report.place.endswith(": steps[1]")
    assert report.unexplained.ours.startswith(("11 11", "0x1111"))


@pytest.mark.parametrize("at", [0x40, 0x42, 0x43, 0x24, 0x5C], ids=hex)
def test_a_fis_that_says_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    after = Judge.after

    def changed(self: Judge, report: StepReport) -> None:
        if report.path == "steps[2]":
            assert self._ata is not None
            received = min(self._ata._received)
            _, there = self._both.memories.sides(received + at, 1)
            self._both.memories.put_there(received + at, bytes([there[0] ^ 0x02]))
        after(self, report)

    monkeypatch.setattr(Judge, "after", changed)
    report = _compare(tmp_path, "ich9-ahci")
    assert report.unexplained is not None
    assert report.unexplained.place == "received FISes"
    assert report.place.endswith(": steps[2]")


QUEUED = """
name: queued reads
drives: [{driver: file, node-name: d0, size: 1M, content: {pattern: 0x11}}]
devices: [{driver: ich9-ahci, id: host}, {driver: ide-hd, bus: host.0, drive: d0}]
steps:
  - ata-probe: {}
  - ata: {command: read-sectors, lba: 5, count: 2}
  - ata: {command: read-fpdma-queued, lba: 5, count: 2}
"""


@pytest.mark.parametrize(
    ("step", "where", "at"),
    [
        (1, "devmodels.ahci.pio.pio_setup", 4),
        (1, "devmodels.ahci.pio.pio_setup", 12),
        (1, "devmodels.ahci.pio.pio_setup", 16),
        (2, "devmodels.ahci.delivery.dma_setup", 1),
        (2, "devmodels.ahci.delivery.dma_setup", 4),
        (2, "devmodels.ahci.delivery.dma_setup", 20),
        (2, "devmodels.ahci.delivery.register_d2h", 4),
        (2, "devmodels.ahci.delivery.register_d2h", 12),
    ],
)
def test_a_defect_of_ours_in_a_fis_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, where: str, at: int
) -> None:
    module, _, name = where.rpartition(".")
    right: Callable[..., bytes] = getattr(importlib.import_module(module), name)
    steps: list[str] = []
    after = Judge.after

    def wrong(*fields: Any, **more: Any) -> bytes:
        fis = bytearray(right(*fields, **more))
        fis[at] ^= 0x10 * (len(steps) == step)
        return bytes(fis)

    def counted(self: Judge, report: StepReport) -> None:
        after(self, report)
        steps.append(report.path)

    monkeypatch.setattr(where, wrong)
    monkeypatch.setattr(Judge, "after", counted)
    path = tmp_path / "queued.guest.yaml"
    path.write_text(QUEUED)
    (runnable,) = read_scripts(path)
    assert isinstance(runnable, YamlScript)
    report = compare_script(runnable)
    assert report.unexplained is not None
    assert report.unexplained.place == "received FISes"
    assert report.place.endswith(f": steps[{step}]")


PARTLY = """
name: partly beyond the end
drives: [{driver: file, node-name: d0, size: 1M, content: {pattern: 0x11}}]
devices: [{driver: piix3-ide, id: host}, {driver: ide-hd, bus: host.0, drive: d0}]
steps:
  - ata-probe: {}
  - ata: {command: read-sectors, lba: 2046, count: 4}
    expect: {registers: {status: 0x51, error: 0x10}}
    on qemu: {registers: {status: 0x41, error: 4}, because: it reads what there is}
  - ata: {command: read-verify-sectors, lba: 2046, count: 4}
    expect: {registers: {status: 0x51, error: 0x10}}
    on qemu: {registers: {status: STATUS, error: ERROR}, because: it verifies nothing}
  - ata: {command: read-sectors, lba: 2046, count: 2}
"""


@pytest.mark.parametrize(("status", "error", "ok"), [(0x50, 0, True), (0x40, 0, False), (0x50, 4, False)])
def test_a_status_that_is_not_the_one_said_is_found(
    tmp_path: Path, status: int, error: int, *, ok: bool
) -> None:
    path = tmp_path / "partly.guest.yaml"
    path.write_text(PARTLY.replace("STATUS", hex(status)).replace("ERROR", hex(error)))
    (runnable,) = read_scripts(path)
    assert isinstance(runnable, YamlScript)
    report = compare_script(runnable)
    assert report.ok is ok, report.unexplained
    assert report.place.endswith("" if ok else ": steps[2]")


def test_a_write_behind_a_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after = Judge.after

    def changed(self: Judge, report: StepReport) -> None:
        if report.path == "steps[2]":
            assert self._ata is not None
            ((start, length),) = self._ata.issued[-1].regions
            self._both.memories.put_there(start + length, b"\x77")
        after(self, report)

    monkeypatch.setattr(Judge, "after", changed)
    report = _compare(tmp_path, "piix3-ide")
    assert report.unexplained is not None
    assert report.unexplained.place == "memory that no device may write"


NOT_READY = """
name: a drive that has no unit attention condition there
drives: [{driver: file, node-name: c0, size: 64k, read-only: true, content: {pattern: 5}}]
devices: [{driver: ich9-ahci, id: host}, {driver: ide-cd, bus: host.0, drive: c0}]
steps:
  - ata-probe: {}
  - packet: {cdb: test-unit-ready}
    expect: {registers: {sense-key: 6}}
    on qemu: {registers: {sense-key: 0}, because: QEMU's drive has none}
  - packet: {cdb: read-10 lba=3 blocks=1 block=2048, dma: true}
"""


def _not_ready(folder: Path) -> ScriptDiff:
    path = folder / "not-ready.guest.yaml"
    path.write_text(NOT_READY)
    (runnable,) = read_scripts(path)
    assert isinstance(runnable, YamlScript)
    return compare_script(runnable)


def test_what_follows_from_a_sense_key_that_is_said_is_explained(tmp_path: Path) -> None:
    report = _not_ready(tmp_path)
    assert (report.place, str(report.unexplained or ""), report.failures) == ("", "", [])
    assert report.said["QEMU's drive has none"] > 0


@pytest.mark.parametrize(("at", "bits"), [(2, 0x04), (4, 0x10), (5, 0x10), (7, 0x10), (12, 0x04)])
def test_a_register_of_ours_that_the_script_does_not_name_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, bits: int
) -> None:
    right: Callable[..., bytes] = fis.register_d2h
    steps: list[str] = []
    after = Judge.after

    def wrong(*fields: Any, **more: Any) -> bytes:
        sent = bytearray(right(*fields, **more))
        sent[at] ^= bits * (len(steps) == 1)
        return bytes(sent)

    def counted(self: Judge, report: StepReport) -> None:
        after(self, report)
        steps.append(report.path)

    monkeypatch.setattr(delivery, "register_d2h", wrong)
    monkeypatch.setattr(Judge, "after", counted)
    report = _not_ready(tmp_path)
    assert report.unexplained is not None
    assert report.unexplained.place == "received FISes"
    assert report.place.endswith(": steps[1]")


@pytest.mark.parametrize(
    ("register", "bits"),
    [
        (PortReg.IS, PortIs.SDBS),
        (PortReg.SERR, 1 << 26),
        (PortReg.SACT, 1),
        (PortReg.TFD, 0x04),
        (PortReg.TFD, 1 << 16),
    ],
)
def test_what_the_script_does_not_say_of_the_registers_of_an_hba_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, register: PortReg, bits: int
) -> None:
    after = Judge.after

    def looked(self: Judge, report: StepReport) -> None:
        if report.path == "steps[1]":
            assert self._ata is not None
            at = min(self._ata._received.values()) + register
            right: Callable[[int, int], int] = self._both.ours.read
            assert self._both.rest()
            with monkeypatch.context() as wrong:
                wrong.setattr(
                    self._both.ours, "read", lambda where, size: right(where, size) | bits * (where == at)
                )
                self._both.read(at, 4)
        after(self, report)

    monkeypatch.setattr(Judge, "after", looked)
    report = _not_ready(tmp_path)
    assert report.unexplained is not None
    assert report.unexplained.place == f"Px{register.name}"
    assert report.place.endswith(": steps[1]")

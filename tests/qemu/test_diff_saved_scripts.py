"""Unexplained differences of scripts: what the guest did is saved, shrunk, and shows them when it is played again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devmodels.ata.command import AtaCommand
from devmodels.ata.device import AtaDevice
from devmodels.virtio_blk import others
from devmodels.virtio_blk.device import VirtioBlk
from devmodels.virtio_blk.request import BlkRequest
from guestsim.cli import app
from guestsim.diff import shrink
from guestsim.diff.profiles import PROFILES, Profile
from guestsim.diff.script_judge import Judge
from guestsim.diff.scripts import ScriptDiff, compare_script
from guestsim.script.perform import StepReport
from guestsim.script.run import YamlScript, read_scripts

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

DISK = """
name: who are you
drives: [{driver: file, node-name: here, size: 1M, content: {pattern: 0x11}}]
devices: [{driver: virtio-blk-pci, drive: here, serial: "of  #both", addr: "7"}]
steps:
  - probe
  - write: {at: 4k, length: 512, pattern: 3}
  - read: {at: 4k, length: 512}
  - get-id
  - flush
"""
ATA = """
name: reads
drives: [{driver: file, node-name: here, size: 1M, content: {pattern: 0x11}}]
devices: [{driver: HOST, id: host}, {driver: ide-hd, bus: host.0, drive: here}]
steps:
  - ata-probe: {}
  - ata: {command: read-sectors, lba: 5, count: 2}
  - ata: {command: read-dma, lba: 5, count: 2}
  - ata: {command: flush-cache}
"""


def other_identifier(patch: pytest.MonkeyPatch) -> None:
    answer = others.answer

    def broken(
        device: VirtioBlk, request: BlkRequest, data_in: list[tuple[int, int]], payload: bytes
    ) -> None:
        answer(device, request, data_in, bytes((payload[0] ^ 1,)) + payload[1:])

    patch.setattr(others, "answer", broken)


def other_address(patch: pytest.MonkeyPatch) -> None:
    finish = AtaDevice.finish

    def broken(device: AtaDevice, command: AtaCommand) -> None:
        if not command.dropped:
            command.taskfile.lba ^= 1
        finish(device, command)

    patch.setattr(AtaDevice, "finish", broken)


CASES = [
    pytest.param(DISK, other_identifier, id="virtio-blk"),
    pytest.param(ATA.replace("HOST", "ich9-ahci"), other_address, id="ahci"),
    pytest.param(ATA.replace("HOST", "piix3-ide"), other_address, id="ide"),
]


def _compare(folder: Path, text: str, profile: Profile = "strict") -> ScriptDiff:
    path = folder / "here.guest.yaml"
    path.write_text(text)
    (runnable,) = read_scripts(path)
    assert isinstance(runnable, YamlScript)
    return compare_script(runnable, profile, folder)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("text", "defect"), CASES)
def test_a_defect_is_found_saved_shrunk_and_shows_when_it_is_played_again(
    tmp_path: Path, text: str, defect: Callable[[pytest.MonkeyPatch], None], profile: Profile
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        defect(patch)
        patch.setattr(shrink, "MOST_SECONDS", 4.0)
        report = _compare(tmp_path, text, profile)
        assert report.unexplained is not None
        assert report.saved is not None
        assert report.saved.again
        command = ["diff", "--profile", profile, str(report.saved.path)]
        shown = CliRunner().invoke(app, command)
        assert (shown.exit_code, shown.output.splitlines()[-1]) == (1, "unexplained differences: 1")
    content = report.saved.path.read_text()
    assert "flush" not in content
    told = content.splitlines()[0].removeprefix("# ")
    assert told in shown.output
    assert told not in CliRunner().invoke(app, command).output


def test_what_does_not_show_again_is_saved_whole_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = Judge.after

    def changed(self: Judge, report: StepReport) -> None:
        if report.path == "steps[2]":
            self._both.memories.put_there(0x101_0000, b"\x01")
        after(self, report)

    monkeypatch.setattr(Judge, "after", changed)
    path = tmp_path / "here.guest.yaml"
    path.write_text(DISK)
    ran = CliRunner().invoke(app, ["diff", "--output", str(tmp_path), str(path)])
    (saved,) = tmp_path.glob("*.accesses")
    assert ran.exit_code == 1
    assert f"not seen again when the accesses were played alone; all of them: {saved}\n" in ran.output
    assert ran.output.endswith(f"again: guestsim diff {saved}\n")
    content = saved.read_text()
    assert "# Not seen again.\n" in content
    assert content.count("\nstep write ") == 1
    ran = CliRunner().invoke(app, ["diff", str(saved)])
    assert (ran.exit_code, ran.output.splitlines()[-1]) == (0, "unexplained differences: 0")

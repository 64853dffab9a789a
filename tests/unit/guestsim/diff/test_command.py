"""`guestsim diff`, as far as it goes without QEMU."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console
from typer.testing import CliRunner

from guestsim.cli import app
from guestsim.diff.command import show, to_json
from guestsim.diff.run import Report
from guestsim.diff.script_command import show as show_scripts
from guestsim.diff.scripts import ScriptDiff
from guestsim.diff.virtio_devices import VIRTIO_BLK


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected either a FILE or --random with --device"),
        (["--random", "--device", "floppy"], "--device: floppy is given, expected one of virtio-blk"),
        (
            ["--random", "--device", "virtio-blk", "--output", "/nowhere"],
            "--output: there is no folder /nowhere",
        ),
        (
            ["--random", "--device", "virtio-blk", "--profile", "vmware"],
            "--profile: vmware is given, expected one of strict, qemu",
        ),
        (["/nowhere"], "/nowhere: No such file or directory"),
        (["a.yaml", "--device", "ide-cd"], "--device: ide-cd is given, expected none with a.yaml"),
        (["a.accesses", "--seed", "0"], "--seed: 0 is given, expected none with a.accesses"),
        (["a.accesses", "--steps", "5"], "--steps: 5 is given, expected none with a.accesses"),
    ],
)
def test_wrong_options_are_told_in_one_line(arguments: list[str], expected: str) -> None:
    result = CliRunner().invoke(app, ["diff", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"guestsim diff: {expected}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "drive",
    [
        "{driver: memory, node-name: d0, size: 1M}",
        "{driver: raw, node-name: d0, file: {driver: memory, size: 1M}}",
    ],
)
def test_a_script_with_a_drive_that_qemu_has_not_is_refused(drive: str, tmp_path: Path) -> None:
    script = tmp_path / "ours.guest.yaml"
    script.write_text(
        f"name: ours\ndrives: [{drive}]\ndevices: [{{driver: virtio-blk-pci, drive: d0}}]\nsteps: [probe]\n"
    )
    result = CliRunner().invoke(app, ["diff", str(script)])
    why = "needs a drive of the driver memory, which QEMU has not"
    assert (result.exit_code, result.stderr) == (2, f"guestsim diff: {script}: ours: {why}\n")
    result = CliRunner().invoke(app, ["run", str(script), "--target", "qemu"])
    assert f"skip {script}: {why}" in result.stdout


def test_a_file_for_a_device_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "some.accesses"
    path.write_text("device floppy\nread common+0 1\n")
    result = CliRunner().invoke(app, ["diff", str(path)])
    assert result.exit_code == 2
    assert "device floppy: expected one of" in result.stderr


def test_the_result_is_above_and_below_and_masks_that_hid_nothing_are_in_json_alone() -> None:
    report = Report(VIRTIO_BLK, 0)
    report.counts.masked["order"] = 3
    text = StringIO()
    show(report, Console(file=text, width=80))
    first, _, *between, last = text.getvalue().splitlines()
    assert first == last == "unexplained differences: 0"
    assert [line.split()[:3] for line in between] == [["masked", "3×", "order"]]
    assert len(cast("list[object]", to_json(report)["masks"])) > 1


def test_the_result_of_scripts_is_above_and_below() -> None:
    text = StringIO()
    show_scripts([ScriptDiff("a.yaml", "a")], Console(file=text, width=80))
    first, _, last = text.getvalue().splitlines()
    assert first == last == "unexplained differences: 0"

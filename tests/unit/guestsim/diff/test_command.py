"""`guestsim diff`, as far as it goes without QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from guestsim.cli import app


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
    ],
)
def test_wrong_options_are_told_in_one_line(arguments: list[str], expected: str) -> None:
    result = CliRunner().invoke(app, ["diff", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"guestsim diff: {expected}")
    assert result.stderr.count("\n") == 1


def test_a_file_for_a_device_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "some.accesses"
    path.write_text("device floppy\nread common+0 1\n")
    result = CliRunner().invoke(app, ["diff", str(path)])
    assert result.exit_code == 2
    assert "device floppy: expected one of" in result.stderr

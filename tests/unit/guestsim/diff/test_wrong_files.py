"""`guestsim diff FILE`: whatever the file holds, there is a report, or one line that says what is wrong, and where."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from typer.testing import CliRunner, Result

from guestsim.cli import app
from guestsim.diff.device import Device

from .machines import with_twin
from .mutated import mutated, whole


def diff(content: bytes) -> tuple[Path, Result]:
    """What the command does with a file, where the other machine is another one of ours."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setattr(Device, "with_qemu", lambda self: with_twin(folder, self)())
        path = folder / "some.accesses"
        path.write_bytes(content)
        return path, CliRunner().invoke(app, ["diff", str(path)])


@pytest.mark.long
@settings(
    max_examples=3 * settings().max_examples // 2, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(mutated(("virtio-blk", "virtio-scsi", "ahci-disk", "ide-cd")))
@example(b"")
@example(b"device virtio-blk\nstep x\n")
def test_a_changed_file_is_played_or_refused_in_one_line(content: bytes) -> None:
    path, result = diff(content)
    assert result.exception is None or isinstance(result.exception, SystemExit), content
    if result.exit_code == 2:
        assert re.fullmatch(rf"guestsim diff: {path}:\d+: .*expected .+\n", result.stderr), result.stderr
        number = int(result.stderr[len(f"guestsim diff: {path}:") :].split(":")[0])
        assert 1 <= number <= content.count(b"\n") + 1
    else:
        assert "unexplained differences: " in result.stdout
        assert result.exit_code == ("unexplained differences: 0" not in result.stdout)


@pytest.mark.parametrize("device", ["virtio-blk", "virtio-blk-transitional", "ahci-cd", "ide-disk"])
def test_a_file_as_it_is_saved_is_played(device: str) -> None:
    _, result = diff(whole(device, 1))
    assert result.exit_code == 0, result.output
    assert "unexplained differences: 0" in result.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("read floppy+0 1", "floppy: expected a window of the device's: cap-common, cap-device,"),
        ("rest hba+0x138 4", "hba: expected a window of the device's"),
        ("write common+0xfff 2 0", "2 bytes at 0xfff: expected some of the 0x1000 bytes of common"),
        ("read legacy+0x0 8", "size 8: expected 1, 2 or 4 at a port"),
        (
            "loose nothing 0x1000000 4",
            "nothing: expected a mask of the device's: ISR status of a broken device,",
        ),
        ("loose order 0x103ffff 2", "2 bytes at 0x103ffff: expected memory from 0x1000000 to 0x103ffff"),
        ("loose order 0x1000000 2 0x0", "1 bytes at 0x0: expected memory"),
        ("wait 0 0x1000000", "expected records of at least 1 byte"),
        ("wait 0x1000 0x103f001", "expected memory from"),
        ("step", "expected step NAME"),
        ("device virtio-scsi", "expected one device"),
        ("held a", "break point a: expected a line 'break EVENT a' before it"),
        ("late b", "break point b: expected a line 'break EVENT b' before it"),
        ("resume c", "break point c: expected a line 'break EVENT c' before it"),
    ],
)
def test_what_the_device_does_not_have(line: str, expected: str) -> None:
    path, result = diff(f"device virtio-blk\nread common+0 1\n\n{line}\n".encode())
    assert result.exit_code == 2
    assert result.stderr.startswith(f"guestsim diff: {path}:4: {line!r}: ")
    assert expected in result.stderr


@pytest.mark.parametrize(
    ("content", "place", "expected"),
    [
        (b"device floppy\nread common+0 1\n", 1, "device floppy: expected one of virtio-blk,"),
        (b"\nread common+0 1\n", 2, "expected a line 'device NAME' before it"),
        (b"device virtio-blk\n# \xff\n", 2, "byte 0xff, expected text in UTF-8"),
        (b"device virtio-blk\nstep x", 2, "the file ends here, expected an access"),
    ],
)
def test_files_that_are_none(content: bytes, place: int, expected: str) -> None:
    path, result = diff(content)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"guestsim diff: {path}:{place}: ")
    assert expected in result.stderr

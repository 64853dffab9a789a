"""`guestsim convert` as its users meet it: output and exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from guestsim.cli import app
from guestsim.disk import boot
from guestsim.guest import Guest
from guestsim.quick import disk_machine

COMMANDS = "write -P 0x7 0 4k\nread 0 512\nflush\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "in.qemu-io"
    path.write_text(COMMANDS)
    return path


def convert(*arguments: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)], input=text)


def test_the_end_of_a_name_says_the_format(log: Path, tmp_path: Path) -> None:
    result = convert(log, tmp_path / "out.iolog")
    assert result.exit_code == 0
    assert result.stderr == "not kept: 1 × write whose data is not kept\n"
    assert (tmp_path / "out.iolog").read_text().splitlines() == [
        "fio version 3 iolog",
        "0 disk add",
        "0 disk open",
        "0 disk write 0 4096",
        "0 disk read 0 512",
        "0 disk datasync 0 0",
        "0 disk close",
    ]


def test_standard_input_and_output(log: Path) -> None:
    result = convert("-", "-", "--to", "qemu-io", text=COMMANDS)
    assert result.stdout == COMMANDS


def test_a_trace_with_its_data_in_files(tmp_path: Path) -> None:
    with disk_machine() as machine:
        machine.record(tmp_path / "a.trace")
        disk = boot(Guest(machine))
        disk.write(0, bytes(range(256)) * 2)
        disk.write(512, b"\7" * 512)
    result = convert(tmp_path / "a.trace", tmp_path / "out.qemu-io", "--data", tmp_path / "data")
    assert (result.exit_code, result.stderr) == (0, "")
    kept = tmp_path / "data" / "00000000"
    assert (tmp_path / "out.qemu-io").read_text() == f"write -s {kept} 0 512\nwrite -P 0x7 512 512\n"
    assert kept.read_bytes() == bytes(range(256)) * 2


def test_times_may_be_left_out() -> None:
    text = "fio version 3 iolog\n0 f add\n0 f open\n0 f read 0 512\n2000000 f read 0 512\n"
    assert convert("-", "-", "--to", "qemu-io", text=text).stdout == "read 0 512\nsleep 2000\nread 0 512\n"
    result = convert("-", "-", "--to", "qemu-io", "--no-times", text=text)
    assert result.stdout == "read 0 512\nread 0 512\n"


def test_one_disk_of_several() -> None:
    text = "fio version 2 iolog\na add\na open\nb add\nb open\na read 0 512\nb read 1024 512\n"
    result = convert("-", "-", "--to", "qemu-io", text=text)
    assert result.stdout == "read 0 512\n"
    assert result.stderr == "not kept: 1 × request of b, and this is of a (--only chooses)\n"
    assert convert("-", "-", "--to", "qemu-io", "--only", "b", text=text).stdout == "read 1k 512\n"
    result = convert("-", "-", "--to", "qemu-io", "--only", "c", text=text)
    assert result.exit_code == 2
    assert result.stderr == "standard input: expected requests of c, found are those of a, b\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["{log}", "out"],
            "guestsim convert: --to: missing, and out does not say: expected one of fio2, fio3,",
        ),
        (
            ["{log}", "-", "--to", "fio"],
            "guestsim convert: --to: 'fio' is given, expected one of fio2, fio3,",
        ),
        (
            ["{log}", "-", "--to", "fio2", "--from", "x"],
            "guestsim convert: --from: 'x' is given, expected one of",
        ),
        (["{log}", "-", "--to", "fio2", "--from", "fio2"], "{log}:1: expected 'fio version 2 iolog' or"),
        (["{log}", "-", "--to", "fio2", "--data", "d"], "guestsim convert: --data: expected with qemu-io"),
        (
            ["{log}", "-", "--to", "qemu-io", "--data", "a b"],
            "guestsim convert: --data: 'a b' is given, expected",
        ),
        (["/nowhere", "-", "--to", "fio2"], "/nowhere: No such file or directory"),
        (["{log}", "/nowhere/x", "--to", "fio2"], "/nowhere/x: No such file or directory"),
        (
            ["{log}", "{log}", "--to", "fio2"],
            "guestsim convert: {log}: expected another file than the one that is",
        ),
        (["-", "-", "--to", "fio2"], "standard input:1: expected a trace, fio's iolog, blkparse's text or"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str, log: Path) -> None:
    result = convert(*(each.format(log=log) for each in arguments), text="what is this\n")
    assert result.exit_code == 2
    assert result.stderr.startswith(message.format(log=log))
    assert result.stderr.count("\n") == 1


def test_blank_lines_are_no_log() -> None:
    result = convert("-", "-", "--to", "fio2", text="\n \n")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_a_damaged_trace_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    path.write_bytes(b"devmodels-trace\n\0\0\0\0\0\0\0\0")
    result = convert(path, "-", "--to", "fio2")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_a_log_that_is_wrong_in_the_middle_leaves_no_half(tmp_path: Path) -> None:
    result = convert("-", tmp_path / "out.iolog", text="read 0 512\nread nothing\n")
    assert (result.exit_code, result.stderr) == (
        2,
        "standard input:2: expected an offset and a length after read and its options\n",
    )
    assert not (tmp_path / "out.iolog").exists()


def test_a_trace_that_is_cut_short_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    with disk_machine() as machine:
        machine.record(path)
        boot(Guest(machine)).write(0, bytes(512))
    path.write_bytes(path.read_bytes()[:-1])
    result = convert(path, tmp_path / "out.iolog")
    assert result.exit_code == 0
    assert "not kept: 1 × rest of the trace, whose file is cut short\n" in result.stderr

"""The record of whole runs of `guestsim diff --random`, and its page."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from guestsim.diff.access import Step
from guestsim.diff.devices import DEVICES
from guestsim.diff.known import KNOWN
from guestsim.diff.play import Counts, Difference
from guestsim.diff.run import Report
from guestsim.diff.run import Unexplained as Found
from tools.diff_runs import page, records
from tools.diff_runs.__main__ import app
from tools.diff_runs.records import RECORD


def report(device: str = "virtio-blk", steps: int = 2003) -> Report:
    one = Report(DEVICES[device], 7, sequences=70, counts=Counts(steps, 9000, 2100, 31), seconds=12.5)
    entry = next(one for one in KNOWN if one.name == "long GET_ID")
    one.known[entry.name], one.entries[entry.name] = 4, entry
    one.counts.masked["order"] = 1234
    return one


def test_the_page_is_what_the_record_says() -> None:
    assert RECORD.with_suffix(".md").read_text() == page.page(records.read()), "python -m tools.diff_runs"


def test_a_run_has_its_figures_and_the_counts_of_what_was_excused(tmp_path: Path) -> None:
    runs = records.write(records.made(report(), "abc1234", 2000), tmp_path / "runs.json")
    assert records.read(tmp_path / "runs.json") == runs
    text = page.page(runs)
    assert "## Profile `strict`, seed 7, 2,000 steps" in text
    assert "| `virtio-blk` | abc1234 | 2,003 | 9,000 | 70 | 2,100 | 31 | 4 | 1,234 | 0 | 12 |" in text
    assert "| long GET_ID | 4 |" in text
    assert "| order | 1,234 |" in text
    assert "| status-nowhere | 0 |" in text


def test_what_is_unexplained_is_on_the_page() -> None:
    one = report()
    found = Difference("register", "isr+0x0", "0x0", "0x1", 3, "any", frozenset(), frozenset())
    one.unexplained.append(Found(found, 5, [Step("any", ())], count=2, again=False))
    text = page.page([records.made(one, "abc1234", 2000)])
    assert "- `virtio-blk`, sequence 5, 2×, not seen again: register isr+0x0: ours 0x0, 0x1 there\n" in text


def test_a_run_takes_the_place_of_the_one_before_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    for device, steps, asked in (("ide-cd", 9, 5), ("virtio-blk", 8, 5), ("ide-cd", 7, 5), ("ide-cd", 6, 4)):
        runs = records.write(records.made(report(device, steps), "abc1234", asked), path)
    assert [(one.device, one.asked, one.steps) for one in runs] == [
        ("virtio-blk", 5, 8),
        ("ide-cd", 5, 7),
        ("ide-cd", 4, 6),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--device", "floppy"), "--device: floppy is given, expected one of virtio-blk, "),
        (("--profile", "vmware"), "--profile: vmware is given, expected one of strict, qemu"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(arguments: tuple[str, ...], expected: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"diff_runs: {expected}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "name", "expected"),
    [
        ("--output", "file", "cannot be made: File exists"),
        ("--output", "file/deeper", "cannot be made: Not a directory"),
        ("--record", "", "cannot be written: Is a directory"),
        ("--record", "none/runs.json", "cannot be written: No such file or directory"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str, expected: str
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("tools.diff_runs.__main__.together", never)
    (tmp_path / "file").touch()
    places = {"--output": tmp_path / "found", "--record": tmp_path / "runs.json"} | {option: tmp_path / name}
    result = CliRunner().invoke(app, [str(part) for pair in places.items() for part in pair])
    assert result.exit_code == 2
    assert result.stderr == f"diff_runs: {option}: {tmp_path / name} {expected}\n"

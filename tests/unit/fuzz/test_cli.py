"""The command: what it lists, refuses, and does again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fuzz.__main__ import app
from fuzz.targets import TARGETS

PAGE = Path(__file__).parents[3] / "docs" / "fuzzing.md"


def test_targets_are_listed_and_on_the_page() -> None:
    listed = CliRunner().invoke(app, ["--list"])
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(TARGETS)
    assert set(TARGETS) <= set(re.findall(r"`([a-z-]+)`", PAGE.read_text()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "x"], "fuzz: no target 'x'; there are virtio-blk, "),
        (["--reproduce", "x"], "fuzz: --reproduce wants one --target"),
        (["--reproduce", "/none", "--target", "discs"], "fuzz: /none: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["file", "file/deeper"])
def test_a_place_for_inputs_that_is_no_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("fuzz.__main__.find_spec", lambda _: True)
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, ["--target", "discs", "--seconds", "1", "--work", str(tmp_path / name)])
    assert done.exit_code == 2
    assert done.stderr == f"fuzz: --work: {tmp_path / name} cannot be made: Not a directory\n"


def test_an_input_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "an.input"
    path.write_bytes(b"\0\0")
    arguments = ["--reproduce", str(path), "--target", "script-corpus"]
    assert CliRunner().invoke(app, arguments).stdout == "nothing went wrong\n"

    def wrong(_text: str, _file: str) -> None:
        raise KeyError("steps")

    monkeypatch.setattr("guestsim.script.load.parse_all", wrong)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "KeyError: 'steps'" in done.stdout

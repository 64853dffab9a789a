"""docs/replay.md says what there is."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from guestsim.cli import app
from guestsim.replay import replay

ROOT = Path(__file__).parents[4]
TEXT = (ROOT / "docs" / "replay.md").read_text()
TARGETS = ("devmodels", "qemu", "qemu-storage-daemon", "vhost-user", "vfio-user")
OTHERS = (ROOT / "docs" / "portable-replay.md").read_text()


def test_every_option_is_in_a_table() -> None:
    text = CliRunner().invoke(app, ["replay", "--help"], env={"COLUMNS": "200"}).stdout
    options = {word for line in text.splitlines() for word in re.findall(r"^│[ *]+(--[a-z-]+)", line)} - {
        "--help"
    }
    assert options
    missing = {option for option in options if f"`{option}" not in TEXT + OTHERS}
    assert not missing


def test_every_target_is_in_the_help() -> None:
    text = CliRunner().invoke(app, ["replay", "--help"], env={"COLUMNS": "200"}).stdout
    assert not {name for name in TARGETS if name not in text}
    (row,) = (line for line in OTHERS.splitlines() if line.startswith("| `--target`"))
    assert not {name for name in TARGETS if f"`{name}`" not in row}


def test_the_example_is_what_is_printed() -> None:
    first, *lines = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)[0].splitlines()
    words = first.removeprefix("$ guestsim ").split()
    run = CliRunner().invoke(app, [words[0], str(ROOT / words[1])])
    seconds = re.compile(r"in [0-9.]+ s$")
    assert [seconds.sub("", line) for line in run.stdout.splitlines()] == [
        seconds.sub("", line) for line in lines
    ]


def test_the_test_passes() -> None:
    (path,) = re.findall(r'replay\("(.*)"\)', TEXT)
    assert replay(ROOT / path).difference is None

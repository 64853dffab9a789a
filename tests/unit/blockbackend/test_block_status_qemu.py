"""`devmodels map` against `qemu-img map`: the same images are the same to both."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from devmodels.cli.main import main
from tests.unit.blockbackend.qemuio import need

pytestmark = pytest.mark.qemu

SIZE = 1 << 20


@pytest.fixture(autouse=True)
def _tools() -> None:
    need("qemu-img")


def ours(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["devmodels", "map", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    return capsys.readouterr().out


def theirs(arguments: list[str]) -> str:
    command = ["qemu-img", "map", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def images(directory: Path) -> list[Path]:
    """With holes at random, without any, with nothing else, and ending within a sector."""
    chance = random.Random(1)
    found = []
    for number, size in enumerate((SIZE, SIZE, 100_000, 1000)):
        path = directory / f"{number}.img"
        with path.open("wb") as file:
            file.truncate(size)
            for _ in range(0 if number == 1 else 12):
                at = chance.randrange(size)
                os.pwrite(file.fileno(), b"x" * min(chance.randrange(1, 60_000), size - at), at)
        found.append(path)
    (directory / "full.img").write_bytes(b"x" * SIZE)
    return [*found, directory / "full.img"]


@pytest.mark.parametrize("output", ["json", "human"])
def test_maps_are_qemu_imgs(
    tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        '{{"driver":"file","filename":"{}"}}',
        '{{"driver":"file","filename":"{}","cache":{{"direct":true}}}}',
        '{{"driver":"raw","offset":512,"file":{{"driver":"file","filename":"{}"}}}}',
        '{{"driver":"raw","size":512,"file":{{"driver":"file","filename":"{}"}}}}',
        '{{"driver":"throttle","throttle-group":"g0","file":{{"driver":"file","filename":"{}"}}}}',
        '{{"driver":"null-co","size":4096}}',
        '{{"driver":"null-co","size":4096,"read-zeroes":true}}',
    ]
    options = ["--object", "throttle-group,id=g0", "--output", output]
    for image in images(tmp_path):
        for node in nodes:
            arguments = [*options, "json:" + node.format(image)]
            if output == "human" and "null-co" in node:
                continue  # QEMU shows its options as the name.
            assert ours(arguments, monkeypatch, capsys) == theirs(arguments), arguments[-1]

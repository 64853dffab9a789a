"""`devmodels map`: what a user reads of an image."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from devmodels.cli.main import main


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 << 10)
        os.pwrite(file.fileno(), b"x" * 8192, 16 << 10)
    return path


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit status of `devmodels map …`."""
    monkeypatch.setattr(sys, "argv", ["devmodels", "map", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0


def test_json_is_qemu_imgs(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--output", "json", str(image)], monkeypatch) == 0
    parts = [(0, 16384, "true", "false"), (16384, 8192, "false", "true"), (24576, 40960, "true", "false")]
    lines = [
        f'{{ "start": {start}, "length": {length}, "depth": 0, "present": true, "zero": {zero}, "data": {data},'
        f' "offset": {start}}}'
        for start, length, zero, data in parts
    ]
    assert capsys.readouterr().out == "[" + ",\n".join(lines) + "]\n"


def test_a_table_tells_where_data_lies(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"driver=raw,offset=8k,file.driver=file,file.filename={image}"
    assert run(["--image-opts", options], monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Offset          Length          Mapped to       File",
        f"0x2000          0x2000          0x4000          {image}",
    ]


def test_what_lies_nowhere_known_has_no_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--output=json", 'json:{"driver":"null-co","size":1024}'], monkeypatch) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry == {"start": 0, "length": 1024, "depth": 0, "present": False, "zero": False, "data": False}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["/no/such"], "$.filename: cannot open '/no/such'"),
        (["json:{"], "expected a JSON object of block options"),
        (["--image-opts", "driver=none"], '$.driver: "none" is given; expected one of'),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, monkeypatch) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1

"""The page about what a Linux guest did on SCSI units: read as it is written, and no longer than the tests."""

from __future__ import annotations

from . import (
    test_linux_scsi,
    test_linux_scsi_cd,
    test_linux_scsi_errors,
    test_linux_scsi_hosts,
    test_linux_scsi_units,
    transcript,
)
from .vm import Result

MODULES = (
    test_linux_scsi,
    test_linux_scsi_cd,
    test_linux_scsi_errors,
    test_linux_scsi_hosts,
    test_linux_scsi_units,
)


def test_rows_are_read_as_they_were_written() -> None:
    rows = [
        transcript.row("One\n\n    Of two.\n    ", Result("a", True, 0.1, "x | y", ("run a | b", "run c"))),
        transcript.row("One\n\n    Of two.\n    ", Result("b", True, 0.1, "")),
        transcript.row("Two", Result("a", True, 0.1, "z")),
    ]
    text = transcript.page(rows, "nothing")
    assert transcript.rows_of(text) == rows
    assert "| a | `run a \\| b`<br>`run c` | x \\| y | ok |\n" in text


def test_the_page_has_the_items_of_the_tests() -> None:
    wanted = {
        (*transcript.row(test.__doc__, Result(item, True, 0, ""))[:2], item)
        for module in MODULES
        for name, test in vars(module).items()
        if name.startswith("test_") and test.__doc__
        for mark in getattr(test, "pytestmark", [])
        for item in mark.args[1]
    }
    found = {row[:3] for row in transcript.rows_of(transcript.PAGE.read_text())}
    assert found == wanted


def test_the_page_is_as_it_is_written() -> None:
    text = transcript.PAGE.read_text()
    made_with = text.split("was written with ", 1)[1].split(".\n", 1)[0]
    assert transcript.page(transcript.rows_of(text), made_with) == text

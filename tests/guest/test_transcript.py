"""The pages about what a Linux guest did: read as they are written, and no longer than the tests."""

from __future__ import annotations

import pytest

from . import (
    test_linux_ahci,
    test_linux_ide,
    test_linux_scsi,
    test_linux_scsi_cd,
    test_linux_scsi_errors,
    test_linux_scsi_hosts,
    test_linux_scsi_units,
    test_linux_vfio_user,
    transcript,
)
from .vm import Result

MODULES = (
    test_linux_ahci,
    test_linux_ide,
    test_linux_scsi,
    test_linux_scsi_cd,
    test_linux_scsi_errors,
    test_linux_scsi_hosts,
    test_linux_scsi_units,
    test_linux_vfio_user,
)
pages = pytest.mark.parametrize("page", transcript.PAGES.values(), ids=transcript.PAGES)


def test_rows_are_read_as_they_were_written() -> None:
    rows = [
        transcript.row("One\n\n    Of two.\n    ", Result("a", True, 0.1, "x | y", ("run a | b", "run c"))),
        transcript.row("One\n\n    Of two.\n    ", Result("b", True, 0.1, "")),
        transcript.row("Two", Result("a", True, 0.1, "z")),
    ]
    text = transcript.text_of(transcript.SCSI, rows, "nothing")
    assert transcript.rows_of(text) == rows
    assert "| a | `run a \\| b`<br>`run c` | x \\| y | ok |\n" in text


@pages
def test_the_page_has_the_items_of_the_tests(page: transcript.Page) -> None:
    wanted = {
        (*transcript.row(test.__doc__, Result(item, True, 0, ""))[:2], item)
        for module in MODULES
        if module.PAGE is page
        for name, test in vars(module).items()
        if name.startswith("test_") and test.__doc__
        for mark in getattr(test, "pytestmark", [])
        for item in mark.args[1]
    }
    found = {row[:3] for row in transcript.rows_of(page.path.read_text())}
    assert found == wanted


@pages
def test_the_page_is_as_it_is_written(page: transcript.Page) -> None:
    text = page.path.read_text()
    made_with = text.split("was written with ", 1)[1].split(".\n", 1)[0]
    assert transcript.text_of(page, transcript.rows_of(text), made_with) == text

"""QEMU itself takes and refuses the lines of options of which the stand-in's tests say so, and serves clients so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.unit.qtest.clients import check_clients_of_qtest
from tests.unit.qtest.lines import REFUSED, TAKEN

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

PROGRAM = ("qemu-system-x86_64", "-accel", "tcg", "-S")


def _said(line: str) -> tuple[int, str]:
    """Exit status and standard error; who takes the line is told to leave at once."""
    done = subprocess.run(
        [*PROGRAM, *("-M", "pc", "-nodefaults", "-display", "none", "-monitor", "stdio"), *line.split()],
        input="quit\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr.rstrip("\n")


@pytest.mark.parametrize("line", TAKEN)
def test_what_is_taken(line: str) -> None:
    status, said = _said(line)
    assert status == 0, said


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused(line: str) -> None:
    status, said = _said(line)
    assert status
    assert said.endswith(REFUSED[line])


@pytest.mark.parametrize("wait", ["on", "off"])
def test_clients_of_qtest_come_one_after_the_other(tmp_path: Path, wait: str) -> None:
    check_clients_of_qtest(PROGRAM, tmp_path, wait=wait)

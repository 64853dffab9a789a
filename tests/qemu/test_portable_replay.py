"""A trace's requests as qtest lines: what is sent to QEMU, kept in a file."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from guestsim.disk import boot
from guestsim.guest import Guest
from guestsim.portable.machine import Place
from guestsim.portable.run import replay
from guestsim.quick import disk_machine
from guestsim.script.needs import parse_target

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]


def test_what_is_sent_over_qtest_is_kept(tmp_path: Path) -> None:
    trace, log = tmp_path / "a.trace", tmp_path / "qtest.log"
    with disk_machine() as machine:
        machine.record(trace)
        boot(Guest(machine)).write(4096, b"\xa5" * 512)
    tally = replay(trace, Place(parse_target("qemu")), qtest_log=log).tally
    assert (tally.equal, tally.different) == (1, 0)
    lines = log.read_text().splitlines()
    assert lines[0].startswith("outl 0xcf8 ")
    (data,) = [line for line in lines if base64.b64encode(b"\xa5" * 512).decode() in line]
    assert data.startswith("b64write 0x")
    assert any(line.startswith("writew 0xe") for line in lines[lines.index(data) :])

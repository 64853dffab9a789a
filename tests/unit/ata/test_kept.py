"""What a disk keeps in a file over a restart of its daemon."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from devmodels.assembly import assemble
from devmodels.ata import Error, Reset
from devmodels.ata.disk.kept import KeptFile
from devmodels.options import OptionError
from devmodels.statefile import StateFileError
from tests.unit.ata.host import Host
from tests.unit.ata.test_feature_sets import OK, SMART_KEY, password, word


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hd0.json"


def host(path: Path) -> Host:
    return Host(state=str(path))


def test_a_disk_with_a_password_is_locked_after_a_restart(path: Path) -> None:
    with host(path) as first:
        assert first.do(0xF1, given=password("master", 1)).status == OK
        assert first.do(0xF1, given=password("secret", 0x100)).status == OK
        assert first.do(0xC8, count=1).status == OK
    with host(path) as second:
        assert word(second, 128) == 0x0127
        assert second.do(0xC8, count=1).error == Error.ABRT
        assert second.do(0xF2, given=password("master", 1)).error == Error.ABRT
        assert second.do(0xF2, given=password("secret")).status == OK
        assert second.do(0xC8, count=1).status == OK
    with host(path) as third:
        assert word(third, 128) == 0x0127
        third.do(0xF2, given=password("secret"))
        assert third.do(0xF6, given=password("secret")).status == OK
    with host(path) as fourth:
        assert word(fourth, 128) == 0x0021
        assert fourth.do(0xC8, count=1).status == OK


def test_an_erased_disk_is_not_locked_any_more(path: Path) -> None:
    with host(path) as first:
        first.do(0xF1, given=password("secret"))
    with host(path) as second:
        second.do(0xF3)
        assert second.do(0xF4, given=password("secret")).status == OK
    with host(path) as third:
        assert word(third, 128) == 0x0021


def test_what_is_hidden_or_switched_for_good_stays_so(path: Path) -> None:
    with host(path) as first:
        first.do(0x78, features=1, lba=999)
        first.do(0xEF, features=0x06)
        first.do(0xB0, features=0xD9, lba=SMART_KEY)
    with host(path) as second:
        assert (word(second, 100), word(second, 2), word(second, 85) & 1) == (1000, 0x738C, 0)
        assert second.do(0x78, features=1, lba=2047).status == OK
        second.do(0xEF, features=0x86)
        second.do(0xB0, features=0xD8, lba=SMART_KEY)
    with host(path) as third:
        assert (word(third, 100), word(third, 2), word(third, 85) & 1) == (2048, 0xC837, 1)


def test_what_cannot_be_kept_is_not_done(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_self: KeptFile, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with host(path) as first:
        first.do(0xF1, given=password("secret"))
        monkeypatch.setattr(KeptFile, "write_file", full)
        for opcode, fields in ((0xF6, {}), (0x78, {"features": 1, "lba": 5}), (0xEF, {"features": 6})):
            assert first.do(opcode, given=password("secret"), **fields).error == Error.ABRT
        assert first.do(0xB0, features=0xD9, lba=SMART_KEY).error == Error.ABRT
        assert (word(first, 128), word(first, 100), word(first, 85) & 1) == (0x23, 2048, 1)
        first.disk.reset(Reset.POWER_ON, lambda: None)
        assert (word(first, 128), word(first, 2)) == (0x27, 0xC837)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 2}', '{"nonsense": 1}', '{"user": "00"}', '{"accessible": 0}']
)
def test_a_damaged_file_is_one_line(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(StateFileError) as error:
        host(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_machine_says_whose_file_is_damaged(path: Path) -> None:
    path.write_text("{")
    for where in (path, path.parent):
        with pytest.raises(OptionError, match=r"device ide-hd: .*(hd0|directory)"):
            assemble(
                blockdevs=[{"driver": "null-co", "size": 1 << 20, "node-name": "d0"}],
                devices=[
                    {"driver": "ich9-ahci", "id": "sata0"},
                    {"driver": "ide-hd", "drive": "d0", "state": str(where)},
                ],
            )


def test_the_file_can_be_read(path: Path) -> None:
    with host(path) as first:
        first.do(0xF1, given=password("a"))
    found = json.loads(path.read_text())
    assert (found["version"], found["user"]) == (1, "61" + "00" * 31)

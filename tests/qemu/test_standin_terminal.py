"""The human monitor at standard input, the stand-in's and QEMU's: the same keys, the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.qemu.conftest import QEMU
from tests.unit.qtest.clients import free_port
from tests.unit.qtest.terminals import KEYS, chardevs, random_keys, said_to

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]
OURS = [sys.executable, "-m", "devmodels.qtest", "-M", "none"]
THEIRS = [QEMU, "-M", "none"]
KEYS_AT_RANDOM = [random_keys(seed, 1000) for seed in range(4)]


@pytest.mark.parametrize("keys", [b"\r".join(KEYS), *KEYS_AT_RANDOM], ids=["all", *"0123"])
def test_the_same_keys_show_the_same(keys: bytes) -> None:
    mine, other = (said_to(program, keys).split(b"\r\n") for program in (OURS, THEIRS))
    assert mine == other


def test_chardevs_have_the_same_names(tmp_path: Path) -> None:
    port = free_port()
    assert chardevs(OURS, tmp_path, port) == chardevs(THEIRS, tmp_path, port)

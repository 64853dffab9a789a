"""A stock Linux with its own ahci driver works on an HBA of ours, over vfio-user."""

from __future__ import annotations

import pytest

from .conftest import Check
from .scsi import items
from .test_linux_vfio_user import boot
from .vm import GuestRun

pytestmark = pytest.mark.guest

ITEMS = [*items("ahci.sh"), *items("ext4.sh"), "end"]


@pytest.fixture(scope="module")
def ahci(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    """One disk of 64 MiB at port 0."""
    folder = tmp_path_factory.mktemp("ahci")
    return boot(folder, "ahci.sh", "ich9-ahci,id=f0", "ide-hd,bus=f0.0,drive=d0,id=hd0,serial=SN-1")


@pytest.mark.parametrize("item", ITEMS)
def test_a_disk_is_found_read_and_written(ahci: GuestRun, check: Check, item: str) -> None:
    check(ahci, item)

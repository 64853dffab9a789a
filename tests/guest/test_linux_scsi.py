"""A stock Linux kernel works on SCSI disks of ours, over vhost-user-scsi: the kernel's own drivers, and sg3-utils."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import transcript
from .conftest import Check, needed
from .scsi import MIB, Unit, image, items, pattern, scsi_serve
from .vm import GuestRun, run_guest

pytestmark = pytest.mark.guest
PAGE = transcript.SCSI

# --- one disk --------------------------------------------------------------------------------------------------------

IDENTITY = "serial=SN-1,wwn=0x5000c500deadbeef"


def one_disk(
    folder: Path, script: str, *, block_size: int = 512, queues: int = 2, disk: str = ""
) -> GuestRun:
    content = pattern(1, 64 * MIB)
    files = {
        "expected": f"sectors={len(content) // 512}\nblock_size={block_size}\nqueues={queues}\n".encode(),
        "sector0.bin": content[:4096],
        "host.bin": content[4 * MIB : 8 * MIB],
    }
    options = f"{IDENTITY},logical-block-size={block_size}"
    unit = Unit(image(folder, "disk.img", content), options=options)
    with needed(), scsi_serve([unit], folder, queues) as backend:
        run = run_guest(script, backend, files=files, cpus=queues, queues=queues, disk=disk, timeout=240)
    assert backend.status == 0, backend.words()
    return run


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    return one_disk(tmp_path_factory.mktemp("disk"), "scsi.sh")


@pytest.mark.parametrize("item", items("scsi.sh"))
def test_a_scsi_disk_is_found_and_worked_on(disk: GuestRun, documented: Check, item: str) -> None:
    """A disk, and sg3-utils

    A disk of 64 MiB with `serial=SN-1,wwn=0x5000c500deadbeef`, two request queues.
    """
    documented(disk, item)


@pytest.fixture(scope="module")
def large_blocks(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    folder = tmp_path_factory.mktemp("blocks")
    return one_disk(folder, "scsi-4k.sh", block_size=4096, queues=1, disk="packed=on")


@pytest.mark.parametrize("item", items("scsi-4k.sh"))
def test_a_disk_of_4096_byte_blocks_over_a_packed_ring(
    large_blocks: GuestRun, documented: Check, item: str
) -> None:
    """Blocks of 4096 bytes, over packed rings"""
    documented(large_blocks, item)


@pytest.fixture(scope="module")
def queues(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    folder = tmp_path_factory.mktemp("queues")
    unit = Unit(image(folder, "disk.img", b"", 256 * MIB))
    files = {"expected": b"queues=4\npacked=0\nmodern=1\npart=2m\n", "host.bin": pattern(2, 4 * MIB)}
    with needed(), scsi_serve([unit], folder, queues=4) as backend:
        return run_guest("queues.sh", backend, files=files, cpus=4, queues=4, timeout=240)


QUEUES = [
    *("ring", "queue-count", "queue-0", "queue-1", "queue-2", "queue-3", "all-queues-at-once"),
    *("fio-randwrite-crc32c", "fio-randread-crc32c", "fio-mixed-sizes-crc32c"),
]


@pytest.mark.parametrize("item", QUEUES)
def test_four_request_queues_carry_verified_work(queues: GuestRun, documented: Check, item: str) -> None:
    """Four request queues"""
    documented(queues, item)


def occupied(unit: Unit) -> int:
    """Bytes of the host's file system that the unit's image occupies."""
    return 512 * unit.image.stat().st_blocks


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> tuple[GuestRun, int]:
    """The run, and how much the image occupies after it."""
    folder = tmp_path_factory.mktemp("ext4")
    unit = Unit(image(folder, "disk.img", b"", 64 * MIB))
    with needed(), scsi_serve([unit], folder) as backend:
        run = run_guest("ext4.sh", backend, files={"host.bin": pattern(4, 4 * MIB)})
    return run, occupied(unit)


@pytest.mark.parametrize("item", items("ext4.sh"))
def test_ext4_lives_on_a_scsi_disk(ext4: tuple[GuestRun, int], documented: Check, item: str) -> None:
    """A file system

    Of 21 MiB in files 4.5 MiB are left when `fstrim` runs; then the image occupies less than 12 MiB.
    """
    documented(ext4[0], item)


def test_what_was_trimmed_is_freed_on_the_host(ext4: tuple[GuestRun, int]) -> None:
    assert ext4[1] < 12 * MIB


@pytest.fixture(scope="module")
def discarded(tmp_path_factory: pytest.TempPathFactory) -> tuple[GuestRun, int]:
    """The run, and how many bytes of the host's file system became free."""
    folder = tmp_path_factory.mktemp("discard")
    content = pattern(3, 64 * MIB)
    unit = Unit(image(folder, "disk.img", content))
    before = occupied(unit)
    with needed(), scsi_serve([unit], folder) as backend:
        run = run_guest("discard.sh", backend, files={"host.bin": content[: 4 * MIB]})
    return run, before - occupied(unit)


@pytest.mark.parametrize("item", items("discard.sh"))
def test_blocks_are_unmapped_and_zeroed(
    discarded: tuple[GuestRun, int], documented: Check, item: str
) -> None:
    """Discards

    Afterwards the host sees that the image occupies less by what was discarded.
    """
    documented(discarded[0], item)


def test_unmapped_blocks_are_freed_on_the_host(discarded: tuple[GuestRun, int]) -> None:
    assert discarded[1] >= 16 * MIB - 64 * 1024

"""A stock Linux kernel works on a virtio-blk disk of ours, over vhost-user.

A few boots, each with one of the `scripts/`; the guest reports item by item, and the image is judged on the
host afterwards. `DEVMODELS_GUEST_BACKEND=qemu-storage-daemon` runs the same on QEMU's back end.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from .backends import OFFERS, chosen, devmodels_serve
from .conftest import Check, needed
from .host import tool
from .vm import GuestRun, run_guest

pytestmark = pytest.mark.guest

MIB = 1 << 20


def pattern(seed: int, length: int) -> bytes:
    """Bytes without a structure of their own, the same for the same seed."""
    return random.Random(seed).randbytes(length)


def allocated(image: Path) -> int:
    """Bytes of the host's file system that the image occupies."""
    return image.stat().st_blocks * 512


@dataclass(frozen=True, slots=True)
class Story:
    """A boot that is over: what the guest reported, the image as it left it, and as it found it."""

    run: GuestRun
    image: Path
    before: bytes
    allocated_before: int
    status: int | None
    words: str


def boot(
    folder: Path,
    script: str,
    *,
    content: bytes = b"",
    size: int = 64 * MIB,
    files: dict[str, bytes] | None = None,
    queues: int = 1,
    options: str = "",
    block_size: int = 512,
    disk: str = "",
    objects: Sequence[str] = (),
    part: str = "4m",
) -> Story:
    """Offer an image of `size` bytes that begins with `content`, boot a guest on it, wait for its end."""
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.write(content)
        file.truncate(size)
        os.fsync(file.fileno())
    before = allocated(image)
    packed, modern = int("packed=on" in disk), int("disable-modern=on" not in disk)
    expected = f"sectors={size // 512}\nblock_size={block_size}\nqueues={queues}\npacked={packed}\n"
    expected += f"modern={modern}\npart={part}\n"
    files = {"expected": expected.encode(), **(files or {})}
    with needed():
        offer = partial(devmodels_serve, more=objects) if objects else OFFERS[chosen()]
        with offer(image, folder, queues, options) as backend:
            run = run_guest(script, backend, files=files, cpus=queues, queues=queues, disk=disk)
        return Story(run, image, content, before, backend.status, backend.words())


# --- what the disk says of itself, reads, writes -------------------------------------------------------------------

HOST_AT, GUEST_AT, WRITTEN = 4 * MIB, 16 * MIB, 4 * MIB
GUEST_DATA = pattern(2, WRITTEN)


def boot_basics(folder: Path, block_size: int, options: str = "") -> Story:
    content = pattern(1, 64 * MIB)
    files = {
        "sector0.bin": content[:4096],
        "host.bin": content[HOST_AT : HOST_AT + WRITTEN],
        "guest.bin": GUEST_DATA,
    }
    return boot(folder, "basics.sh", content=content, files=files, block_size=block_size, options=options)


@pytest.fixture(scope="module")
def basics(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return boot_basics(tmp_path_factory.mktemp("basics"), 512)


BASICS = [
    "boot",
    "first-sector",
    "capacity",
    "serial",
    "geometry",
    "limits",
    "read-verified",
    "write-verified",
    "write-one-block",
    "last-block",
    "end",
]


@pytest.mark.parametrize("item", BASICS)
def test_disk_is_found_read_and_written(basics: Story, check: Check, item: str) -> None:
    check(basics.run, item)


def image_after_writes(story: Story, block_size: int) -> bytes:
    """What `basics.sh` should have left: the content from before with its three writes."""
    wanted = bytearray(story.before)
    block = GUEST_DATA[:block_size]
    for place, data in (
        (GUEST_AT, GUEST_DATA),
        (24 * MIB + block_size, block),
        (len(wanted) - block_size, block),
    ):
        wanted[place : place + len(data)] = data
    return bytes(wanted)


def test_image_holds_the_writes_and_no_other_change(basics: Story) -> None:
    assert basics.image.read_bytes() == image_after_writes(basics, 512)


def test_back_end_ends_in_peace(basics: Story) -> None:
    assert basics.status == 0, basics.words


@pytest.fixture(scope="module")
def large_blocks(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return boot_basics(tmp_path_factory.mktemp("blocks"), 4096, "logical-block-size=4096")


@pytest.mark.parametrize(
    "item", ["geometry", "limits", "read-verified", "write-verified", "write-one-block", "end"]
)
def test_disk_of_4096_byte_blocks(large_blocks: Story, check: Check, item: str) -> None:
    check(large_blocks.run, item)


def test_image_of_4096_byte_blocks_holds_the_writes(large_blocks: Story) -> None:
    assert large_blocks.image.read_bytes() == image_after_writes(large_blocks, 4096)


# --- the write-cache mode ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return boot(tmp_path_factory.mktemp("cache"), "cache.sh", files={"guest.bin": GUEST_DATA})


CACHE = [
    "cache-start",
    "cache-write-through",
    "cache-write-back",
    "cache-queue-write_cache",
    "cache-data",
    "end",
]


@pytest.mark.parametrize("item", CACHE)
def test_write_cache_is_switched(cache: Story, check: Check, item: str) -> None:
    check(cache.run, item)


# --- discard and write zeroes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def discard(tmp_path_factory: pytest.TempPathFactory) -> Story:
    content = pattern(3, 64 * MIB)
    files = {"host.bin": content[: 4 * MIB]}
    return boot(tmp_path_factory.mktemp("discard"), "discard.sh", content=content, files=files)


@pytest.mark.parametrize("item", ["blkdiscard", "blkdiscard-z", "blkdiscard-z-small", "neighbours", "end"])
def test_blocks_are_discarded_and_zeroed(discard: Story, check: Check, item: str) -> None:
    check(discard.run, item)


def test_discarded_blocks_are_freed_on_the_host(discard: Story) -> None:
    discard.run.check("blkdiscard")
    freed = discard.allocated_before - allocated(discard.image)
    # The host's file system may need a block or two of its own to write the hole down.
    assert freed >= 16 * MIB - 64 * 1024


def test_image_is_zero_where_zeroed_and_untouched_elsewhere(discard: Story) -> None:
    wanted = bytearray(discard.before)
    found = bytearray(discard.image.read_bytes())
    for place, length in ((40 * MIB, 8 * MIB), (52 * MIB + 1536, 1024)):
        wanted[place : place + length] = bytes(length)
    # What a discarded block reads as is the back end's affair.
    wanted[16 * MIB : 32 * MIB] = found[16 * MIB : 32 * MIB] = bytes(16 * MIB)
    assert found == wanted


# --- a filesystem --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return boot(tmp_path_factory.mktemp("ext4"), "ext4.sh", files={"host.bin": pattern(4, 4 * MIB)})


EXT4 = [
    "mkfs.ext4",
    "mount",
    "files-written",
    "unmount",
    "fsck",
    "files-read-back",
    "files-deleted-fstrim",
    "fsck-again",
    "end",
]


@pytest.mark.parametrize("item", EXT4)
def test_ext4_lives_on_the_disk(ext4: Story, check: Check, item: str) -> None:
    check(ext4.run, item)


def test_host_finds_the_filesystem_clean(ext4: Story) -> None:
    ext4.run.check("fsck-again")
    fsck = subprocess.run(
        [tool("e2fsck", "e2fsprogs"), "-f", "-n", ext4.image], capture_output=True, text=True, check=False
    )
    assert fsck.returncode == 0, fsck.stdout


# --- several queues ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def queues(tmp_path_factory: pytest.TempPathFactory) -> Story:
    files = {"host.bin": pattern(5, 4 * MIB)}
    return boot(tmp_path_factory.mktemp("queues"), "queues.sh", size=256 * MIB, files=files, queues=4)


QUEUES = [
    "ring",
    "queue-count",
    "queue-0",
    "queue-1",
    "queue-2",
    "queue-3",
    "all-queues-at-once",
    "fio-randwrite-crc32c",
    "fio-randread-crc32c",
    "fio-mixed-sizes-crc32c",
    "end",
]


@pytest.mark.parametrize("item", QUEUES)
def test_four_queues_carry_verified_work(queues: Story, check: Check, item: str) -> None:
    check(queues.run, item)


# --- packed rings --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Four packed rings; QEMU's own daemon has none to offer."""
    if chosen() != "devmodels":
        pytest.skip(f"{chosen()} has no packed rings")
    files = {"host.bin": pattern(6, 4 * MIB)}
    folder = tmp_path_factory.mktemp("packed")
    disk = "packed=on"
    return boot(folder, "queues.sh", size=256 * MIB, files=files, queues=4, disk=disk)


@pytest.mark.parametrize("item", QUEUES)
def test_four_packed_queues_carry_verified_work(packed: Story, check: Check, item: str) -> None:
    check(packed.run, item)


# --- queues on threads ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Four queues on two threads of the back end, which are no matter of the guest's."""
    if chosen() != "devmodels":
        pytest.skip("it is about threads of ours")
    folder = tmp_path_factory.mktemp("threads")
    mapping = "iothread-vq-mapping.0.iothread=t0,iothread-vq-mapping.1.iothread=t1"
    objects = ("--object", "iothread,id=t0", "--object", "iothread,id=t1")
    files = {"host.bin": pattern(8, 4 * MIB)}
    return boot(
        folder,
        "queues.sh",
        size=256 * MIB,
        files=files,
        queues=4,
        options=mapping,
        objects=objects,
        part="2m",
    )


@pytest.mark.parametrize("item", QUEUES)
def test_queues_on_threads_carry_verified_work(threads: Story, check: Check, item: str) -> None:
    check(threads.run, item)


def test_a_back_end_with_threads_ends_in_peace(threads: Story) -> None:
    assert threads.status == 0, threads.words
    assert "iothread" not in threads.words


# --- the legacy interface ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The legacy driver of the kernel: QEMU does the transport, the back end serves a driver without VERSION_1."""
    files = {"host.bin": pattern(7, 4 * MIB)}
    folder = tmp_path_factory.mktemp("legacy")
    disk = "disable-modern=on"
    return boot(folder, "queues.sh", size=256 * MIB, files=files, queues=4, disk=disk)


@pytest.mark.parametrize("item", QUEUES)
def test_a_legacy_driver_works_with_four_queues(legacy: Story, check: Check, item: str) -> None:
    check(legacy.run, item)

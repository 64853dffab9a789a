"""A stock Linux in a stock QEMU (10.1 or later) works on PCI functions of ours, over vfio-user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from . import transcript
from .backends import Backend
from .conftest import Check, needed
from .replayed import Recorded, done_again
from .scsi import MIB, image, items, pattern
from .several import FUNCTIONS, Function, several
from .test_linux_virtio_blk import BASICS
from .vfio import file_node, vfio_serve
from .vm import Guest, GuestRun, run_guest

pytestmark = pytest.mark.guest
PAGE = transcript.VIRTIO

SIZE = 64 * MIB
HOST_AT = 4 * MIB
BLK = "virtio-blk-pci,id=f0,drive=d0,serial=SN-1"


@cache
def content() -> bytes:
    """What a disk has at first; made when a guest boots, not where tests are looked for."""
    return pattern(1, SIZE)


def data_files(*, size: int, queues: int = 1, packed: bool = False, modern: bool = True) -> dict[str, bytes]:
    """What scripts expect to be told, and to find, on a disk of `size` bytes."""
    expected = f"sectors={size // 512}\nblock_size=512\nqueues={queues}\n"
    expected += f"packed={int(packed)}\nmodern={int(modern)}\npart=2m\n"
    return {
        "expected": expected.encode(),
        "sector0.bin": content()[:4096],
        "host.bin": content()[HOST_AT : HOST_AT + 4 * MIB],
        "guest.bin": pattern(2, 4 * MIB),
    }


def boot(
    folder: Path,
    script: str,
    *devices: str,
    size: int = SIZE,
    queues: int = 1,
    packed: bool = False,
    modern: bool = True,
    shared: bool = True,
    reboots: bool = False,
    more: tuple[str, ...] = (),
) -> GuestRun:
    """A guest at work on a function over a disk that begins with `content`."""
    files = data_files(size=size, queues=queues, packed=packed, modern=modern)
    disk = file_node(image(folder, "disk.img", content(), size))
    with needed(), vfio_serve(folder, [disk], devices or (BLK,), more) as backend:
        run = run_guest(
            script,
            backend,
            files=files,
            cpus=queues,
            queues=queues,
            shared=shared,
            reboots=reboots,
            timeout=240,
        )
    assert backend.status == 0, backend.words()
    assert "Traceback" not in backend.words()
    return run


# --- virtio-blk


@pytest.fixture(scope="module")
def basics(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    return boot(tmp_path_factory.mktemp("basics"), "basics.sh")


@pytest.mark.parametrize("item", BASICS)
def test_a_disk_is_found_read_and_written(basics: GuestRun, documented: Check, item: str) -> None:
    """virtio-blk: found, read and written

    `virtio-blk-pci` over 64 MiB, modern.
    """
    documented(basics, item)


QUEUES = [
    *("ring", "queue-count", "queue-0", "queue-1", "all-queues-at-once"),
    *("fio-randwrite-crc32c", "fio-randread-crc32c", "fio-mixed-sizes-crc32c", "end"),
]


@pytest.fixture(scope="module")
def queues(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    """Two queues, packed, and two CPUs."""
    device = f"{BLK},num-queues=2,packed=on"
    return boot(tmp_path_factory.mktemp("queues"), "queues.sh", device, size=128 * MIB, queues=2, packed=True)


@pytest.mark.parametrize("item", QUEUES)
def test_packed_queues_have_their_interrupts_and_are_used(
    queues: GuestRun, documented: Check, item: str
) -> None:
    """virtio-blk: two packed queues, two CPUs

    `virtio-blk-pci,num-queues=2,packed=on`; every queue has its MSI-X vector.
    """
    documented(queues, item)


EXT4 = [
    *("mkfs.ext4", "mount", "files-written", "unmount", "fsck", "files-read-back"),
    *("files-deleted-fstrim", "fsck-again", "end"),
]


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    """Through the legacy interface, interrupted by INTx."""
    return boot(tmp_path_factory.mktemp("ext4"), "ext4.sh", f"{BLK},disable-modern=on,vectors=0")


@pytest.mark.parametrize("item", EXT4)
def test_a_filesystem_lives_on_a_legacy_device_with_intx(
    ext4: GuestRun, documented: Check, item: str
) -> None:
    """virtio-blk: a filesystem, through the legacy interface and INTx

    `virtio-blk-pci,disable-modern=on,vectors=0`.
    """
    documented(ext4, item)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    """The guest's memory is QEMU's alone: rings and data are read and written by messages."""
    return boot(tmp_path_factory.mktemp("kept"), "basics.sh", shared=False)


@pytest.mark.parametrize("item", BASICS)
def test_a_guest_whose_memory_is_not_shared(kept: GuestRun, documented: Check, item: str) -> None:
    """virtio-blk: memory that is not shared

    The guest's memory is QEMU's alone: rings and data are read and written by messages.
    """
    documented(kept, item)


@pytest.fixture(scope="module")
def rebooted(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    return boot(tmp_path_factory.mktemp("rebooted"), "reboot.sh", reboots=True)


@pytest.mark.parametrize("item", ["before-the-reboot", "after-the-reboot", "end"])
def test_a_guest_boots_again(rebooted: GuestRun, documented: Check, item: str) -> None:
    """virtio-blk: a guest that boots again"""
    documented(rebooted, item)


# --- what happens to it


@dataclass(frozen=True, slots=True)
class Killed:
    """A guest that was killed at work, the one after it, and their server."""

    first: GuestRun
    second: GuestRun
    backend: Backend


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    disk = file_node(image(folder, "disk.img", content()))

    def kill(guest: Guest) -> None:
        guest.await_item("works")
        guest.qemu.kill()

    with needed(), vfio_serve(folder, [disk], [BLK]) as backend:
        files = data_files(size=SIZE)
        first = run_guest("busy.sh", backend, files=files, attend=kill)
        second = run_guest("basics.sh", backend, files=files, timeout=240)
    return Killed(first, second, backend)


@pytest.mark.parametrize("item", BASICS)
def test_a_guest_comes_after_one_that_was_killed(killed: Killed, check: Check, item: str) -> None:
    killed.first.check("works")
    check(killed.second, item)
    assert killed.backend.status == 0
    # The first one looked whether anybody listens.
    assert killed.backend.words().count("client disconnected") == 3


# --- several functions in one machine, modern and transitional, recorded


STEPS = ("interface", "queues", "fio", "grown", "shrunk")
SCSI_STEPS = ("unit-came", "unit-gone")


def steps(function: Function) -> list[str]:
    chosen = STEPS + (SCSI_STEPS if function.scsi else ())
    return [f"{function.name}-{step}" for step in chosen]


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("functions")
    trace = folder / "guest.trace"
    files = {"expected": b"queues=2\npart=2m\nlight=0\n", "host.bin": pattern(2, 4 * MIB)}
    with needed():
        run = several(folder, FUNCTIONS, files, ("--strict", "--record", str(trace)))
    return Recorded.without_images(run, trace, "d*", "n*")


@pytest.mark.parametrize("item", [*(item for each in FUNCTIONS for item in steps(each)), "end"])
def test_modern_and_transitional_functions_in_one_machine(
    functions: Recorded, documented: Check, item: str
) -> None:
    """Four functions in one machine: virtio-blk and virtio-scsi, modern and transitional

    Two queues each, transitional ones driven by their legacy interface. Their host lets the disks grow and shrink
    (`block_resize`), and adds and takes away units (`device_add`, `device_del`). All of it is recorded, and replayed
    without the guest and its images.
    """
    documented(functions.run, item)


def test_what_they_did_is_done_again_without_the_guest(
    functions: Recorded, record_property: Callable[[str, object], None]
) -> None:
    done_again(functions, record_property, 4000)


# --- virtio-scsi


@pytest.fixture(scope="module")
def scsi(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    return boot(
        tmp_path_factory.mktemp("scsi"),
        "scsi.sh",
        "virtio-scsi-pci,id=f0,num_queues=2",
        "scsi-hd,bus=f0.0,drive=d0,serial=SN-1,wwn=0x5000c500deadbeef",
        queues=2,
    )


@pytest.mark.parametrize("item", items("scsi.sh"))
def test_a_scsi_disk_is_found_and_worked_on(scsi: GuestRun, documented: Check, item: str) -> None:
    """virtio-scsi: a disk, and sg3-utils

    `virtio-scsi-pci,num_queues=2` with `scsi-hd,serial=SN-1,wwn=0x5000c500deadbeef`.
    """
    documented(scsi, item)

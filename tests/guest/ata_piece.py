"""A guest's short time with ATA devices of ours, which is `ata-piece.sh`, and what their host does to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guestsim.targets.qmp import Json

from .cd import iso
from .scsi import MIB, all_items, image, monitor
from .vfio import file_node, vfio_serve
from .vm import Guest, GuestRun, run_guest

SECOND = 10**9  # ns
BAD = 43
ITEMS = all_items("ata-piece.sh")


@dataclass(frozen=True, slots=True)
class Host:
    """A controller, the devices on it, and what the script is told of them.

    `slow` are the requests that are held up, by a name of the delay node's; `other` comes and goes, if at all.
    """

    devices: tuple[str, ...]
    expected: str
    slow: str
    other: dict[str, Json] | None = None


AHCI = Host(
    (
        "ich9-ahci,id=f0,ports=3",
        "ide-hd,bus=f0.0,drive=d0,id=hd0",
        "ide-hd,bus=f0.1,drive=d1,id=hd1",
        "ide-cd,bus=f0.2,drive=c0,id=cd0",
    ),
    "driver=ahci\none=1\nother=2\ncd=3\ntaken_back='hard resetting link'\n"
    "hangs='dd if=/dev/disk1 of=/tmp/late iflag=direct bs=512 count=8'\n",
    "read-ns",
    {"driver": "ide-hd", "bus": "f0.1", "drive": "d1", "id": "hd1"},
)
IDE = Host(
    (
        "piix4-ide,id=f0,native=on",
        "ide-hd,bus=f0.0,unit=0,drive=d0,id=hd0",
        "ide-cd,bus=f0.0,unit=1,drive=c0,id=cd0",
        "ide-hd,bus=f0.1,unit=0,drive=d1,id=hd1",
    ),
    "driver=piix\none=1\nother=2\ncd=1\ntaken_back='soft resetting link'\n"
    # A read would do as well, but libata reads what it takes for the rest of it from the data register, word by word.
    "hangs='dd if=/host.bin of=/dev/disk1 bs=512 count=8 conv=fsync'\n",
    "flush-ns",
)


def ata(folder: Path, host: Host, more: Sequence[str]) -> GuestRun:
    """The guest's whole time."""
    bad: dict[str, object] = {
        "driver": "blkdebug",
        "node-name": "b1",
        "image": file_node(image(folder, "bad.img", b"bad", 64 << 10), "f1"),
        "inject-error": [{"event": "none", "errno": 5, "sector": BAD}],
    }
    nodes = [
        file_node(image(folder, "disk.img", b"", 4 * MIB)),
        {"driver": "delay", "node-name": "d1", host.slow: 0, "file": bad},
        {**file_node(iso(folder / "cd.iso", {"small.txt": b"small\n"}), "c0"), "read-only": True},
    ]

    def attend(guest: Guest) -> None:
        guest.await_item("media-error")
        with monitor(folder) as client:

            def slow_by(ns: int) -> None:
                options: Json = {"driver": "delay", "node-name": "d1", "file": "b1", host.slow: ns}
                client.execute("blockdev-reopen", {"options": [options]})

            slow_by(5 * SECOND)
            guest.tell("go")
            # What it asks for anew is not slow.
            guest.await_item("hung-once")
            slow_by(0)
            guest.await_item("hung")
            if host.other is not None:
                client.execute("device_del", {"id": "hd1"})
                guest.await_item("unplugged")
                client.execute("device_add", host.other)

    files = {"expected": host.expected.encode(), "host.bin": bytes(range(256)) * 64}
    with vfio_serve(folder, nodes, host.devices, more) as backend:
        run = run_guest("ata-piece.sh", backend, files=files, timeout=120, attend=attend)
    assert backend.status == 0, backend.words()
    return run

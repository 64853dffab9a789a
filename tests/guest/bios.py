"""A machine that starts from its vhost-user-blk disk: SeaBIOS runs a boot sector of ours, which calls its services.

Documents: Phoenix, BIOS Enhanced Disk Drive Specification 1.1 (INT 13h functions 42h and 43h, disk address packet).
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .backends import Backend
from .host import tool
from .vm import GuestFailure

SECTOR = 512
BOOT_SECONDS = 30.0
READ, WRITE = 0x42, 0x43
MEMORY = "64M"

_CODE = bytes.fromhex(
    "fa 31c0 8ed8 8ec0 8ed0 bc007c fb"  # cli; ds = es = ss = 0; sp = 7C00h; sti
    "be807c"  # si = the calls
    "ac 08c0 7417 88c4"  # next: ah = the function, 0 ends
    "b280 56 cd13 5e"  # dl = the first disk; int 13h (ah, dl, ds:si)
    "b02b 7302 b02d"  # al = '+', with carry '-'
    "baf802 ee"  # told at the second serial port: at the first one SeaBIOS shows its screen, when it gets to it
    "83c610 ebe4"  # si = the next call
    "ba0406 b80020 ef f4 ebfd"  # off: SLP_EN into the PM1a control register; hlt
)
_CALLS_AT = 0x80
_SIGNATURE = b"\x55\xaa"


class Call(NamedTuple):
    """A disk service: `function`, how many sectors, the segment of the buffer, and at which sector of the disk."""

    function: int
    sectors: int
    segment: int
    lba: int


def boot_sector(calls: Sequence[Call]) -> bytes:
    """A sector that makes the calls, says of each `+` or `-` at a serial port, and switches the machine off."""
    table = b"".join(
        struct.pack("<BBBHHHQ", call.function, 16, 0, call.sectors, 0, call.segment, call.lba)
        for call in calls
    )
    sector = (_CODE.ljust(_CALLS_AT, b"\0") + table + b"\0").ljust(SECTOR - len(_SIGNATURE), b"\0")
    assert len(sector) == SECTOR - len(_SIGNATURE)
    return sector + _SIGNATURE


def start_from_disk(backend: Backend, folder: Path) -> str:
    """Start a machine from the disk, wait until it is off, and return what the boot sector said.

    GuestFailure where it does not end; `Unavailable` without QEMU.
    """
    serial = folder / "serial"
    command = [
        str(tool("qemu-system-x86_64", "qemu-system-x86")),
        *("-nodefaults", "-nographic", "-no-reboot", "-accel", "tcg", "-m", MEMORY),
        *("-object", f"memory-backend-memfd,id=mem,size={MEMORY},share=on"),
        *("-machine", "q35,memory-backend=mem", "-serial", "null", "-serial", f"file:{serial}"),
        *("-chardev", f"socket,id=disk,path={backend.socket}"),
        *("-device", "vhost-user-blk-pci,chardev=disk,num-queues=1,bootindex=0"),
    ]
    try:
        run = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        text = serial.read_text(errors="replace") if serial.exists() else ""
        raise GuestFailure(f"the boot sector did not end; it said {text!r}\n{backend.words()}") from None
    if run.returncode:
        raise GuestFailure(f"QEMU ended with status {run.returncode}: {run.stderr.decode(errors='replace')}")
    return serial.read_text()

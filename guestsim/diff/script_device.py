"""A device of the table with the options that a script gives it, so that what its guest did can be played again.

In a file of accesses the machine is JSON behind the device's name: `{"devices": […], "sizes": […], "drive": {…}}`,
options as a script has them, the sizes of the drives `d0`, `d1`, … in bytes, and options of all of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from guestsim.diff.access import Access, FormError, Rest, Step, Write
from guestsim.diff.masks import EXPLAINED
from guestsim.diff.script_masks import ATA_OWN, OWN
from guestsim.diff.sides import Lines
from guestsim.drivers.ahci_layouts import PORT_STRIDE, PORTS_OFFSET, Ghc, Hba, PortReg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guestsim.diff.device import Device, Options

MOST_SIZE = 16 << 20
"""Larger drives are cut to this."""
_SLOT = 4
_MOST_DRIVES = 32
_HBA_RESET: tuple[Access, ...] = (
    Write("hba", Hba.GHC, 4, Ghc.AE),
    Write("hba", Hba.GHC, 4, Ghc.AE | Ghc.HR),
    Rest(),
    *(
        Write("hba", PORTS_OFFSET + PORT_STRIDE * port + register, 4, 0)
        for port in range(6)
        for register in (PortReg.CLB, PortReg.CLBU, PortReg.FB, PortReg.FBU)
    ),
)
"""What a reset leaves of a port is where its lists lie (AHCI 1.3.1 §3.3)."""


class Machine(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    """What a script has instead of what the table has."""

    devices: list[dict[str, object]]
    sizes: list[int]
    drive: dict[str, str | bool] = {}
    """Options of all drives: `read-only`, `discard`."""


def of_script(device: Device, machine: str) -> Device:
    """The same device with a machine's options; `FormError` where that is none."""
    try:
        given = msgspec.json.decode(machine, type=Machine)
    except msgspec.DecodeError as error:
        raise FormError(f"the machine of a device: {error}") from None
    if not given.devices or len(given.sizes) > _MOST_DRIVES:
        raise FormError(f"the machine of a device: expected devices, and at most {_MOST_DRIVES} sizes")
    if any(not 0 < size <= MOST_SIZE or size % 512 for size in given.sizes):
        raise FormError(f"the machine of a device: expected sizes of sectors, up to {MOST_SIZE} bytes")
    first, *others = cast("list[Options]", given.devices)
    is_ahci = device.name.startswith("ahci")
    if unknown := given.drive.keys() - {*_DRIVE}:
        raise FormError(
            f"the machine of a device: {min(unknown)}: expected {' or '.join(_DRIVE)} of its drives"
        )
    return replace(
        device,
        options=[{**first, "addr": f"{_SLOT:x}"}, *others],
        ours={name: value for name, value in device.ours.items() if name not in first},
        lines=Lines(slots=(_SLOT,), irqs=(14, 15)),
        prologue=tuple(_reset(step) for step in device.prologue) if is_ahci else device.prologue,
        observe=(),
        areas=(),
        masks=(*device.masks, *OWN, *ATA_OWN, EXPLAINED),
        drive={**given.drive},
        sizes=tuple(given.sizes),
    )


def _reset(step: Step) -> Step:
    """A step that ends with the reset of the HBA: the script's guest goes on."""
    return replace(step, accesses=(*(one for one in step.accesses[:2]), *_HBA_RESET))


def machine_text(drives: Sequence[Mapping[str, object]], devices: Sequence[Mapping[str, object]]) -> str:
    """The machine of these options, in one word."""
    names = {str(drive.get("node-name")): f"d{number}" for number, drive in enumerate(drives)}
    given = Machine(
        devices=[
            {**one, "drive": names.get(str(one["drive"]), one["drive"])} if "drive" in one else {**one}
            for one in msgspec.to_builtins(devices)
        ],
        sizes=[min(_size(drive, drives), MOST_SIZE) & -512 or 512 for drive in drives],
        drive={
            name: value
            for drive in drives
            for name in _DRIVE
            if isinstance(value := drive.get(name), str | bool)
        },
    )
    text = msgspec.json.encode(given).decode()
    return text.replace(" ", "\\u0020").replace("#", "\\u0023")


_DRIVE = ("read-only", "discard")
_DEFAULT = 1 << 20
_QCOW2 = b"QFI\xfb"


def _size(drive: object, drives: Sequence[Mapping[str, object]]) -> int:
    """How large a drive is, in bytes."""
    if isinstance(drive, str):
        drive = next((one for one in drives if one.get("node-name") == drive), {})
    if not isinstance(drive, dict):
        return _DEFAULT
    for below in ("file", "image"):
        if below in drive:
            return _size(drive[below], drives)
    if "filename" not in drive:
        size = drive.get("size")
        return size if isinstance(size, int) else _DEFAULT
    path = Path(str(drive["filename"]))
    if not path.is_file():
        return _DEFAULT
    with path.open("rb") as file:
        head = file.read(32)
    return int.from_bytes(head[24:32], "big") if head[:4] == _QCOW2 else path.stat().st_size

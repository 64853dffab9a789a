"""The names of ATA commands, and what each has in its registers and does with data (ACS-3 §7, ATA8-ACS)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WayName = Literal["non-data", "pio-in", "pio-out", "dma-in", "dma-out"]

SMART = 0xC2_4F00
"""LBA of SMART commands."""


@dataclass(frozen=True, slots=True)
class Form:
    """A command: `way` of its data, `wide` where its registers have two bytes each.

    `blocks`: its data has `count` sectors; else one of 512 bytes.  `queued`: it has its count in Features and a tag.
    `features` and `lba` are those of the command where it is told from others by them.
    """

    opcode: int
    way: WayName = "non-data"
    wide: bool = False
    blocks: bool = True
    queued: bool = False
    features: int = 0
    lba: int = 0


def _smart(features: int, way: WayName = "non-data", *, blocks: bool = False) -> Form:
    return Form(0xB0, way, blocks=blocks, features=features, lba=SMART)


FORMS: dict[str, Form] = {
    "nop": Form(0x00),
    "data-set-management": Form(0x06, "dma-out", wide=True, features=1),
    "device-reset": Form(0x08),
    "recalibrate": Form(0x10),
    "read-sectors": Form(0x20, "pio-in"),
    "read-sectors-without-retry": Form(0x21, "pio-in"),
    "read-sectors-ext": Form(0x24, "pio-in", wide=True),
    "read-dma-ext": Form(0x25, "dma-in", wide=True),
    "read-native-max-address-ext": Form(0x27, wide=True),
    "read-multiple-ext": Form(0x29, "pio-in", wide=True),
    "read-log-ext": Form(0x2F, "pio-in", wide=True),
    "write-sectors": Form(0x30, "pio-out"),
    "write-sectors-without-retry": Form(0x31, "pio-out"),
    "write-sectors-ext": Form(0x34, "pio-out", wide=True),
    "write-dma-ext": Form(0x35, "dma-out", wide=True),
    "write-multiple-ext": Form(0x39, "pio-out", wide=True),
    "write-dma-fua-ext": Form(0x3D, "dma-out", wide=True),
    "write-log-ext": Form(0x3F, "pio-out", wide=True),
    "read-verify-sectors": Form(0x40),
    "read-verify-sectors-without-retry": Form(0x41),
    "read-verify-sectors-ext": Form(0x42, wide=True),
    "write-uncorrectable-ext": Form(0x45, wide=True, features=0x55),
    "read-log-dma-ext": Form(0x47, "dma-in", wide=True),
    "write-log-dma-ext": Form(0x57, "dma-out", wide=True),
    "read-fpdma-queued": Form(0x60, "dma-in", wide=True, queued=True),
    "write-fpdma-queued": Form(0x61, "dma-out", wide=True, queued=True),
    "ncq-non-data": Form(0x63, wide=True, queued=True),
    "send-fpdma-queued": Form(0x64, "dma-out", wide=True, queued=True),
    "receive-fpdma-queued": Form(0x65, "dma-in", wide=True, queued=True),
    "seek": Form(0x70),
    "get-native-max-address-ext": Form(0x78, wide=True),
    "set-accessible-max-address-ext": Form(0x78, wide=True, features=1),
    "freeze-accessible-max-address-ext": Form(0x78, wide=True, features=2),
    "execute-device-diagnostic": Form(0x90),
    "initialize-device-parameters": Form(0x91),
    "packet": Form(0xA0),
    "identify-packet-device": Form(0xA1, "pio-in", blocks=False),
    "smart-read-data": _smart(0xD0, "pio-in"),
    "smart-read-thresholds": _smart(0xD1, "pio-in"),
    "smart-attribute-autosave": _smart(0xD2),
    "smart-execute-off-line": _smart(0xD4),
    "smart-read-log": _smart(0xD5, "pio-in", blocks=True),
    "smart-write-log": _smart(0xD6, "pio-out", blocks=True),
    "smart-enable": _smart(0xD8),
    "smart-disable": _smart(0xD9),
    "smart-return-status": _smart(0xDA),
    "read-multiple": Form(0xC4, "pio-in"),
    "write-multiple": Form(0xC5, "pio-out"),
    "set-multiple-mode": Form(0xC6),
    "read-dma": Form(0xC8, "dma-in"),
    "read-dma-without-retry": Form(0xC9, "dma-in"),
    "write-dma": Form(0xCA, "dma-out"),
    "write-dma-without-retry": Form(0xCB, "dma-out"),
    "write-multiple-fua-ext": Form(0xCE, "pio-out", wide=True),
    "standby-immediate": Form(0xE0),
    "idle-immediate": Form(0xE1),
    "standby": Form(0xE2),
    "idle": Form(0xE3),
    "read-buffer": Form(0xE4, "pio-in", blocks=False),
    "check-power-mode": Form(0xE5),
    "sleep": Form(0xE6),
    "flush-cache": Form(0xE7),
    "write-buffer": Form(0xE8, "pio-out", blocks=False),
    "read-buffer-dma": Form(0xE9, "dma-in", blocks=False),
    "flush-cache-ext": Form(0xEA, wide=True),
    "write-buffer-dma": Form(0xEB, "dma-out", blocks=False),
    "identify-device": Form(0xEC, "pio-in", blocks=False),
    "set-features": Form(0xEF),
    "security-set-password": Form(0xF1, "pio-out", blocks=False),
    "security-unlock": Form(0xF2, "pio-out", blocks=False),
    "security-erase-prepare": Form(0xF3),
    "security-erase-unit": Form(0xF4, "pio-out", blocks=False),
    "security-freeze-lock": Form(0xF5),
    "security-disable-password": Form(0xF6, "pio-out", blocks=False),
    "read-native-max-address": Form(0xF8),
}
"""Commands by the names that scripts have for them."""

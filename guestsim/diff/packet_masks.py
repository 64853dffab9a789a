"""What is not compared of packets, command by command: both answers are in `grammar/answers/cd.txt`.

A mask hides nothing but these two answers, ours where it says ours, and QEMU's where it says QEMU's.
"""

from __future__ import annotations

from guestsim.diff.masks import Mask, of_memory, strict

_RESERVED = "QEMU does not look at bits that must be 0 (SPC-4 §4.2.1; right: ours)"
_NONE = "QEMU's drive does not have this command"

_REASONS = {
    "get-configuration": "QEMU has three profiles and two features, and gives all alone (MMC-6 §6.5)",
    "get-event-status-notification": "QEMU has the class of media alone; ours has two more (MMC-6 §6.6)",
    "get-performance": f"{_NONE} (MMC-6 §6.8)",
    "inquiry": f"Names, versions and pages are the unit's own (SPC-4 §6.6, §7.8). {_RESERVED}",
    "mechanism-status": "QEMU does not say where it has read last (MMC-6 §6.10; right: both)",
    "mode-select-10": f"{_NONE} (SPC-4 §6.12)",
    "mode-select-6": f"{_NONE} (SPC-4 §6.11)",
    "mode-sense-10": "QEMU has pages 1, 0Eh, 2Ah, current values alone; its 0Eh holds what its buffer did (MMC-6 §7)",
    "mode-sense-6": f"{_NONE} (SPC-4 §6.13)",
    "pause-resume": f"{_NONE} (MMC-3 PAUSE/RESUME)",
    "play-audio-10": f"{_NONE} (MMC-3 PLAY AUDIO (10))",
    "play-audio-12": f"{_NONE} (MMC-3 PLAY AUDIO (12))",
    "play-audio-msf": f"{_NONE} (MMC-3 PLAY AUDIO MSF)",
    "read-10": f"QEMU does not look at the address where there is nothing to read (MMC-6 §6.15). {_RESERVED}",
    "read-12": "QEMU does not look at the address where there is nothing to read (MMC-6 §6.16; right: ours)",
    "read-capacity": _RESERVED,
    "read-cd": "QEMU gives data alone or whole sectors, of any type, no sub-channels (MMC-6 §6.17)",
    "read-cd-msf": f"{_NONE} (MMC-6 §6.18)",
    "read-disc-information": "QEMU says 0 where a finished disc has no next session (MMC-6 §6.21; right: ours)",
    "read-disc-structure": "QEMU says that a medium is incompatible; it cannot be read so (MMC-6 §6.22)",
    "read-sub-channel": f"{_NONE} (MMC-3 READ SUB-CHANNEL)",
    "read-toc": "QEMU takes the format from byte 9, and has another lead-out (MMC-6 §6.25)",
    "read-track-information": f"{_NONE} (MMC-6 §6.26)",
    "report-luns": f"{_NONE} (SPC-4 §6.33)",
    "set-read-ahead": f"{_NONE} (MMC-6 §6.37)",
    "set-streaming": f"{_NONE} (MMC-6 §6.40)",
    "start-stop-unit": f"QEMU does not look at what is not there (MMC-6 §6.42). {_RESERVED}",
    "stop-play": f"{_NONE} (MMC-3 STOP PLAY/SCAN)",
    "synchronize-cache": f"{_NONE} (MMC-6 §6.41)",
    "test-unit-ready": _RESERVED,
}

PACKET_MASKS: tuple[Mask, ...] = strict(
    *(of_memory(f"packet:{name}", f"{reason}.") for name, reason in _REASONS.items()),
    of_memory(
        "sector-header",
        "A sector's address is BCD, with EDC and ECC (ECMA-130 §14); QEMU's is binary, with zeroes (right: ours).",
    ),
    of_memory(
        "kept-sense",
        "Sense data are of the last command (SPC-4 §4.5.1); QEMU's stay until others come (right: ours).",
    ),
    of_memory(
        "sense-detail",
        "Information and sense key specific bytes are optional (SPC-4 §4.5.3); QEMU's are 0, with the bit VALID.",
    ),
)

PIO_MASKS: tuple[Mask, ...] = strict(
    of_memory(
        "byte-count-limit",
        "Where data cannot be moved by PIO, a byte count limit of 0 or of 1 byte, ours aborts the command, with an "
        "interrupt; QEMU does so at 0, without one, and at 1 never ends (ATA/ATAPI-7 vol. 1 §6.24.4; right: ours).",
    ),
    of_memory(
        "odd-block",
        "A last block of an odd length ends with half a word (ATA/ATAPI-7 vol. 1 §6.24.4); QEMU's never ends (right: "
        "ours).",
    ),
)

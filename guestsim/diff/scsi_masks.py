"""What is not compared of SCSI commands over virtio, one by one: both answers are in `grammar/answers`.

A mask hides nothing but these two answers, ours where it says ours, and QEMU's where it says QEMU's.
"""

from __future__ import annotations

from guestsim.diff.masks import Mask, of_memory, strict

_NONE = "QEMU's disk does not have this command, which is optional"
_UNSEEN = "QEMU does not look at bits that must be 0 (SPC-4 §4.2.1; right: ours)"
_PADS = "QEMU's data go on with zeroes up to the allocation length (SPC-4 §4.2.5.6; right: ours)"
_OF_CD = "QEMU's disk has this command of a CD drive's, or refuses its fields; ours does not have it"

_REASONS = {
    "inquiry-version": "Which version of SPC a unit claims is its own (SPC-4 §6.6.2): ours 4, QEMU's 3",
    "inquiry-length": f"How much there is: QEMU says as much as is asked for (SPC-4 §6.6.2; right: ours). {_PADS}",
    "inquiry-third-party": "3PC says that a unit has third-party copies (SPC-4 §6.6.2): ours has them",
    "inquiry-sync": "SYNC is for parallel interfaces alone (SPC-4 §6.6.2, SPI-5); QEMU sets it (right: ours)",
    "inquiry-revision": "Text ends with spaces (SPC-4 §4.3.1); QEMU's revision ends with a zero (right: ours)",
    "inquiry-version-descriptors": "Which standards a unit claims is its own (SPC-4 §6.6.2): QEMU's says none",
    "inquiry-00": f"Which pages there are is the unit's own (SPC-4 §7.8.14). {_PADS}",
    "inquiry-80": _PADS,
    "inquiry-83": "Ours names itself with a T10 vendor identification, QEMU's in ASCII of its own (SPC-4 §7.8.6). "
    + _PADS,
    "inquiry-86": "QEMU does not have this page, which is optional (SPC-4 §7.8.7)",
    "inquiry-87": "QEMU does not have this page, which is optional (SPC-4 §7.8.9)",
    "inquiry-8f": "QEMU does not have this page, which is optional (SPC-4 §7.8.17)",
    "inquiry-b0": "Limits are the unit's own: COMPARE AND WRITE, UNMAP's descriptors, UGAVALID, WRITE SAME, atomic "
    f"writes (SBC-4 §6.6.4). {_PADS}",
    "inquiry-b1": f"Ours says by FUAB, WABEREQ and WACEREQ what it does (SBC-4 §6.6.2). {_PADS}",
    "inquiry-b2": "Ours has a threshold and says by LBPRZ that what is unmapped reads as zeroes (SBC-4 §6.6.5). "
    + _PADS,
    "mode-sense-01": "AWRE and ARRE are the unit's own (SBC-4 §6.5.8); block descriptors of changeable values are of "
    f"what can be changed (SPC-4 §7.5.6). {_PADS}",
    "mode-sense-04": "QEMU has the page of rigid disk geometry, obsolete (SBC-4 §6.5.1); ours does not",
    "mode-sense-05": "QEMU has the page of flexible disks, obsolete (SBC-4 §6.5.1); ours does not",
    "mode-sense-08": "Block descriptors of changeable values are of what can be changed (SPC-4 §7.5.6). "
    + _PADS,
    "mode-sense-0a": "QEMU does not have the control page (SPC-4 §7.5.8)",
    "mode-sense-1c": "QEMU does not have the page of informational exceptions (SBC-4 §6.5.7)",
    "mode-sense-3f": f"Which pages there are is the unit's own (SPC-4 §6.13). {_PADS}",
    "mode-sense-long": f"QEMU does not look at LLBAA, which asks for 16 bytes (SPC-4 §6.14; right: both). {_PADS}",
    "mode-sense-subpage": "QEMU does not look at the subpage code (SPC-4 §6.13; right: ours)",
    "read-capacity-10": _UNSEEN,
    "read-capacity-16": "Ours says by LBPRZ that what is unmapped reads as zeroes (SBC-4 READ CAPACITY (16))",
    "get-lba-status": f"{_NONE} (SBC-4 GET LBA STATUS (16))",
    "report-luns": "Ours has the well known unit; QEMU does not look for such (SPC-4 §6.33; right: ours)",
    "log-sense": f"{_NONE} (SPC-4 §6.8)",
    "release-10": "QEMU does not look at fields that it does not have (SPC-2 §7.17; right: ours)",
    "report-opcodes": f"{_NONE} (SPC-4 §6.35)",
    "report-task-functions": f"{_NONE} (SPC-4 §6.36)",
    "report-priority": f"{_NONE} (SPC-4 §6.34)",
    "maintenance-in": "An unknown service action: ours has the operation code, QEMU's not (SPC-4 §4.2.5.1)",
    "set-priority": f"{_NONE} (SPC-4 §6.44)",
    "maintenance-out": "An unknown service action: ours has the operation code, QEMU's not (SPC-4 §4.2.5.1)",
    "start-stop": "QEMU does not look at LOEJ, and at START, of a fixed disk (SBC-4 START STOP UNIT; right: ours)",
    "prevent-allow": "QEMU does not look at PREVENT's second bit, obsolete (SBC-4 §5.15; right: ours). "
    + _UNSEEN,
    "send-diagnostic": f"{_NONE} (SPC-4 §6.42)",
    "read-defect-data-10": f"{_NONE} (SBC-4 READ DEFECT DATA (10))",
    "read-defect-data-12": f"{_NONE} (SBC-4 READ DEFECT DATA (12))",
    "seek-10": "QEMU's disk has SEEK (10), obsolete (SBC-2 §5.41); ours does not",
    "format-unit": "QEMU's looks at no parameter list, and does nothing (SBC-4 FORMAT UNIT; right: ours)",
    "read-buffer": f"{_NONE} (SPC-4 §6.18)",
    "write-buffer": f"{_NONE} (SPC-4 §6.49)",
    "sanitize": f"{_NONE} (SBC-4 SANITIZE)",
    "extended-copy": f"{_NONE} (SPC-4 §6.5)",
    "receive-copy": f"{_NONE} (SPC-4 §6.22)",
    "mode-select-6": "QEMU does not look at block descriptors (SPC-4 §6.11, §7.5.6; right: ours)",
    **{
        f"verify-{size}": f"QEMU does not compare, and does not look at the address (SBC-4 VERIFY ({size}); "
        f"right: ours). {_UNSEEN}"
        for size in (10, 12, 16)
    },
    **{f"pre-fetch-{size}": f"{_NONE} (SBC-4 PRE-FETCH ({size}))" for size in (10, 16)},
    "synchronize-cache-10": "QEMU does not look at the address (SBC-4 SYNCHRONIZE CACHE (10); right: ours). "
    + _UNSEEN,
    "synchronize-cache-16": f"{_NONE} (SBC-4 SYNCHRONIZE CACHE (16))",
    "write-same-16": "QEMU does nothing, and looks at nothing, with NDOB (SBC-4 WRITE SAME (16); right: ours)",
    "unmap": "A block descriptor that is not whole is ignored (SBC-4 UNMAP); QEMU refuses it (right: ours)",
    "compare-and-write": f"{_NONE} (SBC-4 COMPARE AND WRITE)",
    "orwrite-16": f"{_NONE} (SBC-4 ORWRITE (16))",
    "write-atomic-16": f"{_NONE} (SBC-4 WRITE ATOMIC (16))",
    "read-toc": f"{_OF_CD} (MMC-6 §6.25; right: ours)",
    "get-configuration": f"{_OF_CD} (MMC-6 §6.5; right: ours)",
    "get-event-status": f"{_OF_CD} (MMC-6 §6.6; right: ours)",
    "read-disc-information": f"{_OF_CD} (MMC-6 §6.21; right: ours)",
    "mechanism-status": f"{_OF_CD} (MMC-6 §6.10; right: ours)",
    "test-unit-ready": _UNSEEN,
}

_NO_CD = "QEMU's drive does not have this command"
_NOT_OF_CD = "QEMU's drive has this command of a disk's; ours does not"

_OF_BOTH = (
    *("inquiry-version", "inquiry-length", "inquiry-sync", "inquiry-revision", "inquiry-version-descriptors"),
    *("inquiry-00", "inquiry-80", "inquiry-83", "report-luns", "mode-sense-3f", "mode-sense-subpage"),
)

_CD_REASONS = {
    **{name: reason for name, reason in _REASONS.items() if name in _OF_BOTH},
    "inquiry-b1": "QEMU has this page of a disk's, with zeroes (SBC-4 §6.6.2); ours does not",
    "inquiry-b2": "QEMU has this page of a disk's (SBC-4 §6.6.5); ours does not",
    "mode-sense-01": f"How errors are recovered from is the drive's own (MMC-6 §7.4). {_PADS}",
    "mode-sense-08": "QEMU has the page of caching of a disk's (SBC-4 §6.5.5); ours does not",
    "mode-sense-0d": "QEMU does not have the page of CD parameters, obsolete (MMC-3)",
    "mode-sense-0e": f"QEMU's page of audio control holds zeroes alone (MMC-6 §7.5; right: ours). {_PADS}",
    "mode-sense-1a": "QEMU does not have the page of power conditions (SPC-4 §7.5.13)",
    "mode-sense-1d": "QEMU does not have the page of time-out and protection (MMC-6 §7.6)",
    "mode-sense-2a": f"What a drive can do is its own (MMC-3 §5.5.10): QEMU's is said to write. {_PADS}",
    "read-capacity-16": f"{_NOT_OF_CD} (SBC-4 READ CAPACITY (16))",
    **{f"{name}-{size}": f"{_NOT_OF_CD} (SPC-2)" for name in ("reserve", "release") for size in (6, 10)},
    "start-stop": "QEMU does not look at power conditions (MMC-6 §6.42; right: ours)",
    "prevent-allow": _UNSEEN,
    "read-toc": f"QEMU takes no format from byte 9, and has another lead-out (MMC-6 §6.25). {_PADS}",
    "get-configuration": "QEMU has three profiles and five features, and gives all whatever is asked for (MMC-6 §6.5; "
    f"right: ours). {_PADS}",
    "get-event-status": "QEMU has the class of media alone, and says too little of the length; ours has two more "
    f"(MMC-6 §6.6; right: ours). {_PADS}",
    "read-disc-information": f"QEMU says 0 where there is no next session (MMC-6 §6.21; right: ours). {_PADS}",
    "read-track-information": f"{_NO_CD} (MMC-6 §6.26)",
    "read-disc-structure": "QEMU says that a medium is unknown; that of ours cannot be read so (MMC-6 §6.22)",
    "get-performance": f"{_NO_CD} (MMC-6 §6.8)",
    "set-cd-speed": f"{_NO_CD} (MMC-6 §6.36)",
    "set-read-ahead": f"{_NO_CD} (MMC-6 §6.37)",
    "stop-play": f"{_NO_CD} (MMC-3 STOP PLAY/SCAN)",
    "pause-resume": f"{_NO_CD} (MMC-3 PAUSE/RESUME)",
    "play-audio-10": f"{_NO_CD} (MMC-3 PLAY AUDIO (10))",
    "read-16": f"{_NOT_OF_CD} (SBC-4 READ (16))",
    "read-6": f"{_NOT_OF_CD} (SBC-4 READ (6))",
    "read-cd": f"{_NO_CD} (MMC-6 §6.17)",
    "write-10": "QEMU says that the medium is write protected; ours has no such command (MMC-6 §6.46; right: both)",
    "write-and-verify-10": "QEMU says that the medium is write protected; ours has no such command (MMC-6 §6.48)",
    "write-same-10": "QEMU says that the medium is write protected; ours has no such command (SBC-4 WRITE SAME (10))",
    "verify-10": "QEMU's drive has VERIFY (10), and does not look at the address (MMC-6 §6.45); ours does not",
    "format-unit": "QEMU's drive has FORMAT UNIT, which does nothing (MMC-6 §6.4; right: ours)",
    "test-unit-ready": _UNSEEN,
}


def _masks(reasons: dict[str, str], prefix: str) -> tuple[Mask, ...]:
    return strict(*(of_memory(f"scsi:{prefix}{name}", f"{reason}.") for name, reason in reasons.items()))


SCSI_MASKS = _masks(_REASONS, "")
SCSI_CD_MASKS = _masks(_CD_REASONS, "cd-")

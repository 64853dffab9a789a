"""What is not compared of any virtio function, of packed rings, and of requests of virtio-blk."""

from __future__ import annotations

from guestsim.diff.grammar import virtio_driver, virtio_packed
from guestsim.diff.masks import Mask, of_memory, strict
from guestsim.diff.profiles import STRICT
from guestsim.drivers.layouts import COMMON_CFG, LEGACY_CFG, Status

_UNSENT = (
    "A message waits while there is no bus mastering (PCI 3.0 §6.2.2, §6.8.3.4); QEMU forgets it, and that there was "
    "DRIVER_OK (right: ours)."
)

COMMON = (
    *strict(
        Mask(
            "parity errors",
            "Only a function that checks parity needs the bit that says what follows (PCI 3.0 §6.2.2).",
            "pci",
            4,
            8,
            bits=0x40,
        ),
        Mask(
            "length of notifications",
            "A structure's length may be more than is used (VIRTIO 1.4 §4.1.4): ours ends behind the last queue.",
            "cap-notify",
            12,
            16,
        ),
        Mask(
            "latency timer",
            "The latency timer may be read-only where bursts are short (PCI 3.0 §6.2.4); ours can be written.",
            "pci",
            0x0C,
            0x10,
            bits=0xFF00,
        ),
        Mask(
            "capabilities",
            "Where capabilities lie is the function's own affair (PCI 3.0 §6.7).",
            "pci",
            0x34,
            0x38,
            bits=0xFF,
        ),
    ),
    of_memory(
        "order",
        "Buffers that are made available together may come back in any order (VIRTIO 1.4 §2.7.14, no IN_ORDER): which "
        "one QEMU's threads have done first is a matter of time.",
    ),
    *strict(
        of_memory(
            "failed-data",
            "Ours zeroes what it says it has written; QEMU has written nothing (VIRTIO 1.4 §2.7.8.2; right: ours).",
        )
    ),
    *strict(
        of_memory(
            virtio_driver.RESET,
            "A request in flight at a reset may still be done before it (VIRTIO 1.4 §2.4.1): QEMU does, and tells of "
            "it.",
        ),
        of_memory(
            virtio_driver.RESET_QUEUE,
            "QEMU does what is in flight after its queue was reset, and writes buffers and ISR status then "
            "(VIRTIO 1.4 §2.6.1.1; right: ours).",
        ),
    ),
    *(
        Mask(
            virtio_driver.UNSENT,
            _UNSENT,
            window,
            at,
            at + 1,
            bits=Status.DRIVER_OK,
            tags=frozenset({"held-back:bus master"}),
            values=(Status.DRIVER_OK, 0),
            profiles=STRICT,
        )
        for window, at in (
            ("common", COMMON_CFG["device_status"].offset),
            ("legacy", LEGACY_CFG["device_status"].offset),
        )
    ),
    *strict(
        of_memory(
            "broken-hints",
            "What a device that needs a reset wants to be notified of is not said (VIRTIO 1.4 §2.1.2).",
        ),
    ),
)

PACKED = (
    *strict(
        of_memory(
            virtio_packed.MARK,
            "A used descriptor of QEMU's never says by WRITE that it was written (VIRTIO 1.4 §2.8.3; right: ours).",
        ),
    ),
    *strict(
        of_memory(
            virtio_packed.HINT,
            "Which first descriptor a device wants to be notified of (VIRTIO 1.4 §2.8.10): ours asks for it, QEMU for "
            "any.",
        ),
    ),
)

REQUESTS = (
    *strict(
        of_memory(
            "status-nowhere",
            "A status outside memory is not counted in used.len; QEMU counts it (VIRTIO 1.4 §2.7.8.2; right: ours).",
        ),
        of_memory(
            "segments",
            "More segments than max_discard_seg or max_write_zeroes_seg, or not whole ones, are an error of the "
            "driver's (VIRTIO 1.4 §5.2.6.1): ours says IOERR, QEMU UNSUPP.",
        ),
        of_memory(
            "flags-first",
            "A flag that may not be is UNSUPP whatever the range is (VIRTIO 1.4 §5.2.6.2); QEMU says IOERR where that "
            "is wrong, too (right: ours).",
        ),
    ),
)
"""Of requests, and of discards and write zeroes."""

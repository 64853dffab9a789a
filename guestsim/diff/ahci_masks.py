"""Masks of what an HBA's registers hold after writes of any values; sequences say which two values there may be."""

from __future__ import annotations

from dataclasses import replace

from guestsim.diff.masks import Mask, of_memory
from guestsim.drivers.ahci_layouts import Hba


def _exact(name: str, reason: str) -> Mask:
    """Sequences say where it holds, and both values that there must be."""
    return replace(of_memory(name, reason), exact=True)


ANY_REGISTERS = (
    _exact(
        "command-bits",
        "PxCMD.SUD and POD are 1, PMA, APSTE, ALPE and ASP 0 where there is nothing of that kind; CLO clears itself; "
        "FR is 1 while CR is (AHCI 1.3.1 §3.3.7, §10.3.2). QEMU's hold what is written, FR what FRE has (right: ours).",
    ),
    _exact(
        "control-bits",
        "Bits 31 to 12 of PxSCTL are 0 (AHCI 1.3.1 §3.3.11); QEMU's hold what is written (right: ours).",
    ),
    _exact(
        "address-bits",
        "Bits 9 to 0 of PxCLB and 7 to 0 of PxFB are 0 (AHCI 1.3.1 §3.3.1, §3.3.3); QEMU's hold what is written "
        "(right: ours).",
    ),
    _exact(
        "not-started",
        "PxCI and PxSACT take no bits while PxCMD.ST is 0 (AHCI 1.3.1 §3.3.13, §3.3.14); QEMU's do (right: ours).",
    ),
    _exact(
        "link",
        "PxSCTL.DET has the link go down and come up, PxCMD.ICC has it sleep, and PxSSTS, PxTFD, PxSIG, PxSERR and "
        "PxIS tell of that (AHCI 1.3.1 §3.3.5 to §3.3.12); QEMU's device is reset when DET 1 is over, and sends a FIS "
        "(right: ours).",
    ),
    _exact(
        "lanes",
        "A narrow write is of its bytes (AHCI 1.3.1 §3); QEMU's is of the whole register, or lost (right: ours).",
    ),
    Mask(
        "capabilities",
        "What an HBA can do is its own affair (AHCI 1.3.1 §3.1.1): ours has 6 Gbit/s, power states and PIO with "
        "several blocks, which QEMU's has not.",
        "hba",
        Hba.CAP,
        Hba.CAP + 4,
    ),
    Mask(
        "version",
        "The version of AHCI (AHCI 1.3.1 §3.1.5): ours is of 1.3.1, QEMU's of 1.0.",
        "hba",
        Hba.VS,
        Hba.VS + 4,
        values=(0x1_0301, 0x1_0000),
    ),
)

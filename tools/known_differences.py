"""Write docs/qemu-differences.md: what `guestsim diff` knows to be different in QEMU's devices, and what it leaves out.

python -m tools.known_differences
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from guestsim.diff.devices import DEVICES
from guestsim.diff.ends import ENDS
from guestsim.diff.known import KNOWN
from guestsim.diff.profiles import Profile
from guestsim.diff.script_masks import REASONS

PAGE = Path(__file__).parents[1] / "docs" / "qemu-differences.md"

HEAD = """# What QEMU's devices do otherwise

Written by `tools/known_differences.py` from the tables that `guestsim diff` runs with ([diff.md](diff.md)); the
reference is Debian's QEMU 7.2. Where QEMU departs from a specification, ours follows the specification under profile
`strict`, and does as QEMU's under profile `qemu`; the last column says what is still there then. Everything else is a
difference that nothing excuses. *Right* is who does as the clause says: *both* where it leaves that open. What ATA
commands do otherwise one by one is in
[ata-qemu-differences.md](ata-qemu-differences.md).

A difference of the first table ends the sequence in which it shows, and is counted; what a mask hides is counted, and
the sequence goes on.
"""


def page() -> str:
    """The page."""
    return "\n".join((HEAD, *_known(), "", *_ends(), "", *_masks(), "", *_of_scripts())) + "\n"


def _known() -> Iterator[str]:
    yield "## Known differences"
    yield ""
    yield "| | What QEMU does | Clause | Right | Devices | Profile `qemu` |"
    yield "|---|---|---|---|---|---|"
    rows: dict[tuple[str, str, str, str, tuple[str, ...], str], None] = {}
    for one in KNOWN:
        still = _still(one.profiles)
        rows[one.name, one.what, one.clause, one.right, one.devices, still] = None
    for name, what, clause, right, devices, still in rows:
        names = ", ".join(f"`{device}`" for device in devices if device in DEVICES)
        yield f"| {name} | {what} | {clause} | {right} | {names} | {still} |"


def _ends() -> Iterator[str]:
    yield "## What QEMU ends of, or never ends"
    yield ""
    yield "Ours goes on there. Sequences keep away from it."
    yield ""
    yield "| QEMU 7.2 | | Clause | Devices |"
    yield "|---|---|---|---|"
    for said, what, clause, devices in ENDS:
        yield f"| {said} | {what} | {clause} | {', '.join(f'`{device}`' for device in devices)} |"


def _masks() -> Iterator[str]:
    yield "## Masks"
    yield ""
    yield "| | Why it is not compared | Devices | Profile `qemu` |"
    yield "|---|---|---|---|"
    masks: defaultdict[tuple[str, str, str], dict[str, None]] = defaultdict(dict)
    for device in DEVICES.values():
        for mask in device.masks:
            masks[mask.name, mask.reason, _still(mask.profiles)][f"`{device.name}`"] = None
    for (name, reason, still), devices in masks.items():
        yield f"| {name} | {reason} | {', '.join(devices)} | {still} |"


def _still(profiles: frozenset[Profile]) -> str:
    return "still there" if "qemu" in profiles else "no"


def _of_scripts() -> Iterator[str]:
    yield "## Masks of scripts"
    yield ""
    yield "What `guestsim diff SCRIPT` leaves out besides, or for another reason, on `virtio-blk` and `virtio-scsi`."
    yield ""
    yield "| | Why it is not compared |"
    yield "|---|---|"
    for name, reason in REASONS.items():
        yield f"| {name} | {reason} |"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Pages of `docs/` that tell what a Linux guest did on devices of ours, item by item, as it reported it.

A page is held true by the run itself: an item whose row is not on the page fails.  With
`DEVMODELS_GUEST_TRANSCRIPT=write` the run writes its stories anew.  So a guest says the same in every run.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .host import output_of, tool
from .kernel import get_kernel
from .vm import Result

ANEW = "DEVMODELS_GUEST_TRANSCRIPT"
DOCS = Path(__file__).parents[2] / "docs"

WRITTEN = f"""
Written by the tests in `tests/guest`, and held true by them: a run that finds anything else fails, and with
`{ANEW}=write` it writes what it has found. """
COMMANDS = """Commands are the guest's, with the exit status of those that
are to fail; what came out is in its words, once the facts were looked for in all that they printed.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its file in `docs/`, what is above its stories, the packages that matter."""

    name: str
    head: str
    packages: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The file."""
        return DOCS / self.name


SCSI = Page(
    "linux-virtio-scsi.md",
    "# A Linux guest on SCSI units, item by item\n"
    + WRITTEN
    + """A stock kernel of Debian boots in QEMU on
`vhost-user-scsi-pci`, behind which is `devmodels serve`. """
    + COMMANDS
    + """
Over MMIO there is no such guest: QEMU's microvm has `vhost-user-scsi`, too, but Debian's kernel finds devices there by
ACPI only, and with ACPI it finds no timer on that machine where there is no KVM.
""",
    ("qemu-system-x86", "sg3-utils", "fio", "e2fsprogs", "util-linux"),
)
ATA = Page(
    "linux-ata.md",
    "# A Linux guest on AHCI and IDE, item by item\n"
    + WRITTEN
    + """A stock kernel of Debian boots in QEMU, and its
`ahci` and `ata_piix` drive functions of `vfio-user-pci`, behind which is
`devmodels serve`. """
    + COMMANDS,
    ("hdparm", "smartmontools", "sg3-utils", "fio", "e2fsprogs", "util-linux"),
)
VIRTIO = Page(
    "linux-virtio-pci.md",
    "# A Linux guest on virtio-pci functions, item by item\n"
    + WRITTEN
    + """A stock kernel of Debian boots in QEMU, and its
`virtio_blk` and `virtio_scsi` drive functions of `vfio-user-pci`, behind which is
`devmodels serve`. """
    + COMMANDS,
    SCSI.packages[1:],
)
PAGES = {page.name: page for page in (SCSI, ATA, VIRTIO)}

COLUMNS = "| item | what was run | what came out | |\n|---|---|---|---|\n"


class Row(NamedTuple):
    """An item: the title of its story and what is said below that, and its line in the story's table."""

    title: str
    about: str
    item: str
    line: str


def row(story: str, result: Result) -> Row:
    """The result as a row of its story's table; `story` is a docstring, whose first line is the title."""
    title, *about = inspect.cleandoc(story).splitlines() or [""]
    ran = "<br>".join(f"`{_cell(command)}`" for command in result.commands)
    line = f"| {result.item} | {ran} | {_cell(result.detail)} | {'ok' if result.ok else 'FAIL'} |"
    return Row(title, "\n".join(about).strip(), result.item, line)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def being_written() -> bool:
    """Whether this run writes the page."""
    return os.environ.get(ANEW) == "write"


def rows_of(text: str) -> list[Row]:
    """The rows of a page."""
    rows: list[Row] = []
    for story in text.split("\n## ")[1:]:
        head, _, table = story.partition(COLUMNS)
        title, _, about = head.partition("\n")
        items = [(found[1], found[0]) for found in re.finditer(r"^\| (\S+) \| .*$", table, re.MULTILINE)]
        rows += [Row(title, about.strip(), *item) for item in items]
    return rows


def text_of(page: Page, rows: Iterable[Row], made_with: str) -> str:
    """The page with these rows, story by story."""
    stories: dict[tuple[str, str], list[str]] = {}
    for each in rows:
        stories.setdefault((each.title, each.about), []).append(each.line)
    tables = (
        f"\n## {title}\n\n"
        + (f"{about}\n\n" if about else "")
        + COLUMNS
        + "".join(f"{line}\n" for line in lines)
        for (title, about), lines in stories.items()
    )
    return f"{page.head}\nThis one was written with {made_with}.\n" + "".join(tables)


def write(page: Page, rows: list[Row]) -> None:
    """Put these rows onto the page, in place of those that their stories had."""
    new: dict[str, list[Row]] = {}
    for each in rows:
        new.setdefault(each.title, []).append(each)
    old = rows_of(page.path.read_text()) if page.path.exists() else []
    titles = dict.fromkeys([each.title for each in old] + list(new))
    kept = {title: new.get(title) or [each for each in old if each.title == title] for title in titles}
    text = text_of(page, (each for story in kept.values() for each in story), _made_with(page))
    page.path.write_text(text)


def _made_with(page: Page) -> str:
    """The guest's kernel, and the packages that matter."""
    kernel = get_kernel().key.replace("_", " ")
    shown = output_of(tool("dpkg-query", "dpkg"), "-W", "-f=, ${Package} ${Version}", *page.packages)
    return kernel + shown

"""`docs/linux-virtio-scsi.md`: what a Linux guest did on SCSI units of ours, item by item, as it reported it.

The page is held true by the run itself: an item whose row is not on the page fails.  With
`DEVMODELS_GUEST_TRANSCRIPT=write` the run writes its stories anew.  So a guest says the same in every run.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .host import output_of, tool
from .kernel import get_kernel
from .vm import Result

PAGE = Path(__file__).parents[2] / "docs" / "linux-virtio-scsi.md"
ANEW = "DEVMODELS_GUEST_TRANSCRIPT"
PACKAGES = ("qemu-system-x86", "sg3-utils", "fio", "e2fsprogs", "util-linux")

HEAD = f"""# A Linux guest on SCSI units, item by item

Written by the tests in `tests/guest`, and held true by them: a run that finds anything else fails, and with
`{ANEW}=write` it writes what it has found. A stock kernel of Debian boots in QEMU on
`vhost-user-scsi-pci`, behind which is `devmodels serve`. Commands are the guest's, with the exit status of those that
are to fail; what came out is in its words, once the facts were looked for in all that they printed.

Over MMIO there is no such guest: QEMU's microvm has `vhost-user-scsi`, too, but Debian's kernel finds devices there by
ACPI only, and with ACPI it finds no timer on that machine where there is no KVM.
"""
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


def page(rows: Iterable[Row], made_with: str) -> str:
    """A page with these rows, story by story."""
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
    return f"{HEAD}\nThis one was written with {made_with}.\n" + "".join(tables)


def write(rows: list[Row]) -> None:
    """Put these rows onto the page, in place of those that their stories had."""
    new: dict[str, list[Row]] = {}
    for each in rows:
        new.setdefault(each.title, []).append(each)
    old = rows_of(PAGE.read_text()) if PAGE.exists() else []
    titles = dict.fromkeys([each.title for each in old] + list(new))
    kept = {title: new.get(title) or [each for each in old if each.title == title] for title in titles}
    PAGE.write_text(page((each for story in kept.values() for each in story), _made_with()))


def _made_with() -> str:
    """The guest's kernel, and the packages that matter."""
    kernel = get_kernel().key.replace("_", " ")
    shown = output_of(tool("dpkg-query", "dpkg"), "-W", "-f=, ${Package} ${Version}", *PACKAGES)
    return kernel + shown

"""`python -m tests.scripts.defects NAME`: put it in, and tell as JSON what scripts say then, and innocent drivers.

Each script runs in a process of its own that has so much CPU time.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable

import msgspec

from tests.scripts.defects.table import FOLDER, Defect, defects
from tools.replaced import Replaced

SECONDS = 20
"""Of CPU time, for a script."""
WANTED = (
    "construct",
    "devmodels.assembly.ahci_devices",
    "devmodels.assembly.ata_disks",
    "devmodels.assembly.ata_drives",
    "devmodels.assembly.blk_devices",
    "devmodels.assembly.piix_devices",
    "devmodels.assembly.scsi_devices",
    "devmodels.assembly.scsi_units",
    "devmodels.blockbackend.drivers.blkdebug",
    "devmodels.blockbackend.drivers.delay",
    "devmodels.blockbackend.drivers.file",
    "devmodels.pci.msix",
    "devmodels.scsi.disk.commands",
    "devmodels.scsi.mmc.commands",
    "guestsim.targets.inprocess",
    "hashlib",
)
"""What the first script would import: each of them is the first one of its process."""


class Verdicts(msgspec.Struct, frozen=True):
    """The first thing that each script found not to be as expected, or nothing; and what innocent drivers found."""

    scripts: dict[str, str]
    innocent: list[str]


def verdicts(defect: Defect) -> Verdicts:
    """What comes of the scripts that must see it, and of drivers who do nothing out of the ordinary."""
    sources = defect.sources()
    sys.meta_path.insert(0, Replaced(sources))
    for path in sources:
        importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for name in WANTED:
        importlib.import_module(name)
    from guestsim.script.load import parse_all
    from guestsim.script.run import Options, Runnable, YamlScript, read_scripts
    from tests.scripts.defects.innocent import INNOCENT

    def first(scripts: list[Runnable]) -> str:
        reports = (script.run(Options(memory=defect.memory)) for script in scripts)
        return next((failure for report in reports for failure in report.failures), "")

    def hostile(name: str) -> Callable[[], str]:
        return lambda: first(list(read_scripts(FOLDER.parent / "hostile" / f"{name}.guest.yaml")))

    def innocent(text: str) -> Callable[[], str]:
        return lambda: first([YamlScript(*each) for each in parse_all(text, "innocent")])

    return Verdicts(
        {name: _apart(hostile(name)) for name in defect.seen_by},
        [found for text in INNOCENT if (found := _apart(innocent(text)))],
    )


def _apart(run: Callable[[], str]) -> str:
    """Its answer, from a process that ends with it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        os.write(writing, run().encode()[:1024])
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as answer:
        said = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGXCPU:
        return "does not come to an end"
    return said if not status else f"its process ended with {status}"


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(verdicts(defects()[sys.argv[1]])).decode() + "\n")

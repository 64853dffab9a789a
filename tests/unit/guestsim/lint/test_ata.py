"""`guestsim lint` of hosts of ATA devices: what it has looked at is said, whether it found anything or not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from typer.testing import CliRunner, Result

from devmodels.trace import EventKind
from devmodels.tracefile import TraceReader
from guestsim.cli import app
from guestsim.drivers import ahci, ata
from guestsim.drivers.ahci_layouts import PortReg
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

DISK = {"driver": "memory", "size": 1 << 20, "node-name": "d0"}
DRIVE = {"driver": "memory", "size": 1 << 20, "node-name": "c0", "read-only": True}
DEVICES: list[dict[str, object]] = [
    {"driver": "ich9-ahci", "id": "sata0", "addr": "4"},
    {"driver": "ide-hd", "bus": "sata0.0", "drive": "d0", "id": "hd0"},
    {"driver": "ide-cd", "bus": "sata0.1", "drive": "c0", "id": "cd0"},
]
TEST_UNIT_READY = bytes(12)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["lint", *map(str, arguments)])


def recorded(trace: Path, *, wrong: bool = False) -> int:
    """A driver that brings up both devices, reads and asks the drive; the number of its register accesses."""
    with InProcessTarget(blockdevs=[DISK, DRIVE], devices=DEVICES) as target:
        guest = Guest(target)
        (function,) = ahci.find(guest)
        target.record(trace)
        hba = ahci.Ahci(guest, function)
        guest.run(hba.probe(interrupts=Interrupts.POLLING, identify_all=False))
        guest.run(hba.ports[0].do(ata.read_dma_ext(0, 1)))
        guest.run(hba.ports[0].do(ata.read_queued(0, 1)))
        guest.run(hba.ports[1].do(ata.packet(TEST_UNIT_READY)))
        if wrong:
            AhciPort(hba, 2).write(PortReg.CI, 1)
    with TraceReader(trace) as reader:
        kinds = Counter(event.kind for event in reader)
    return kinds[EventKind.ACCESS_VALUE] + kinds[EventKind.ACCESS_WRITE]


def test_it_says_how_much_it_has_looked_at(tmp_path: Path) -> None:
    trace = tmp_path / "ahci.trace"
    accesses = recorded(trace)
    result = run(trace)
    assert result.exit_code == 0
    title, facts, nothing, last = result.output.splitlines()
    assert title.startswith("sata0 session 1: events ")
    assert facts == f"  3 commands, 1 of them by packet; registers accessed {accesses}×"
    assert nothing == "  ✓ nothing"
    assert last == "0 findings, 0 remarks in 1 session"


def test_what_is_found_stands_with_it(tmp_path: Path) -> None:
    trace = tmp_path / "ahci.trace"
    accesses = recorded(trace, wrong=True)
    result = run(trace, "--json")
    assert result.exit_code == 1
    (session,) = json.loads(result.output)["sessions"]
    assert [finding["clause"] for finding in session["findings"]] == ["AHCI 1.3.1 §3.3.14"]
    assert session["ata"] == {"commands": 3, "packets": 1, "register-accesses": accesses}


def test_a_report_without_bytes_has_those_of_the_access_before_it() -> None:
    result = run(Path("tests/data/linux-ahci.trace"))
    assert "PxCMD.ST was set where no device is [17 40 00 00]" in result.output

"""`python -m benchmarks.qtest`: the stand-in beside QEMU, start to the first reply, round trip of a register read.

Both are started with the same line, but that Debian's QEMU needs a firmware that halts its CPU.  Rounds go in turn.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.startup import QEMU, accept, halting_firmware

TIMEOUT = 30.0
READS = 5000
STAND_IN = "devmodels-system-x86_64"
DISK = ["-drive", "if=none,id=d0,file=null-co://,format=raw"]
HOST = ["-device", "virtio-scsi-pci,addr=4.0"]
DEVICES = {
    "pc, IDE disk": ["-machine", "pc", "-device", "ide-hd,drive=d0,bus=ide.0"],
    "pc, IDE CD": ["-machine", "pc", "-device", "ide-cd,drive=d0,bus=ide.0"],
    "q35, AHCI disk": ["-machine", "q35", "-device", "ide-hd,drive=d0,bus=ide.0"],
    "q35, AHCI CD": ["-machine", "q35", "-device", "ide-cd,drive=d0,bus=ide.0"],
    "pc, virtio-blk": ["-machine", "pc", "-device", "virtio-blk-pci,drive=d0,addr=4.0"],
    "pc, virtio-scsi disk": ["-machine", "pc", *HOST, "-device", "scsi-hd,drive=d0"],
    "pc, virtio-scsi CD": ["-machine", "pc", *HOST, "-device", "scsi-cd,drive=d0"],
}
MACHINES = {name: ["-nodefaults", *DISK, *line] for name, line in DEVICES.items()}
REGISTER = b"inl 0xcfc\n"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(slots=True)
class Figures:
    """Of one program and machine, in seconds."""

    starts: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)


def once(command: list[str], machine: list[str], figures: Figures) -> None:
    """Start, first reply, reads of a register."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "qtest"
        (Path(folder) / "bios").write_bytes(halting_firmware())
        listener.bind(str(path))
        listener.listen(1)
        extra = ["-accel", "tcg", "-bios", f"{folder}/bios"] if command[0] == QEMU else ["-accel", "qtest"]
        line = [
            *command,
            *machine,
            "-display",
            "none",
            *extra,
            "-qtest",
            f"unix:{path}",
            "-qtest-log",
            "/dev/null",
        ]
        start = time.perf_counter()
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            with accept(process, listener, start + TIMEOUT) as connection:
                connection.settimeout(None)
                connection.sendall(b"outl 0xcf8 0x80000000\n")
                connection.recv(4096)
                figures.starts.append(time.perf_counter() - start)
                start = time.perf_counter()
                for _ in range(READS):
                    connection.sendall(REGISTER)
                    connection.recv(4096)
                figures.round_trips.append((time.perf_counter() - start) / READS)
        finally:
            process.kill()
            process.wait()


def measure(rounds: int) -> dict[str, dict[str, Figures]]:
    """By machine, then by program; a first round is not counted (cold files, byte code)."""
    programs = {STAND_IN: [str(Path(sys.executable).with_name(STAND_IN))], QEMU: [QEMU]}
    results = {name: {program: Figures() for program in programs} for name in MACHINES}
    for number in range(rounds + 1):
        for name, machine in MACHINES.items():
            for program, command in programs.items():
                once(command, machine, results[name][program] if number else Figures())
    return results


@app.command()
def main(rounds: Annotated[int, typer.Option(min=1)] = 9) -> None:
    """Print medians, and how many times as long the stand-in takes."""
    load = os.getloadavg()[0]
    table = Table(title=f"medians of {rounds} rounds; load average {load:.1f} before", title_justify="left")
    for heading in (
        "machine",
        "program",
        "first reply, ms",
        "times QEMU's",
        "register read, µs",
        "times QEMU's",
    ):
        table.add_column(heading, justify="right" if heading[0] in "ftr" else "left")
    for name, programs in measure(rounds).items():
        start, trip = (
            {program: statistics.median(getattr(each, of)) for program, each in programs.items()}
            for of in ("starts", "round_trips")
        )
        for program in programs:
            ratios = [f"{figures[program] / figures[QEMU]:.2f}" for figures in (start, trip)]
            shown = f"{start[program] * 1e3:.0f}", ratios[0], f"{trip[program] * 1e6:.1f}", ratios[1]
            table.add_row(name, program, *shown)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    app()

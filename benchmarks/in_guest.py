"""`python -m benchmarks.in_guest`: disks of ours in a real guest, beside QEMU's own.

One stock Linux in one QEMU (TCG) has the same image in several ways and runs fio on them in turn: vhost-user-scsi and
vhost-user-blk from `devmodels serve`, and QEMU's virtio-scsi-pci with scsi-hd; then ich9-ahci with ide-hd, ours over
vfio-user, as it is and with a vector for each port, and QEMU's.  Ratios are formed within a round.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.compare import Spread, cached_image
from tests.guest.backends import Backend
from tests.guest.host import Unavailable
from tests.guest.scsi import Unit, scsi_serve
from tests.guest.vfio import file_node, vfio_serve
from tests.guest.vm import GuestRun, run_guest

SCRIPT = Path(__file__).with_name("in_guest.sh")
QUEUES = 1
LOADS = {
    "4k-randread-depth-1": "--rw=randread --bs=4k --iodepth=1",
    "4k-randread-depth-32": "--rw=randread --bs=4k --iodepth=32",
    "4k-randwrite-depth-1": "--rw=randwrite --bs=4k --iodepth=1",
    "4k-randwrite-depth-32": "--rw=randwrite --bs=4k --iodepth=32",
    "1M-read-depth-4": "--rw=read --bs=1M --iodepth=4",
    "1M-write-depth-4": "--rw=write --bs=1M --iodepth=4",
}


class Hosts(StrEnum):
    """What is compared."""

    SCSI = "scsi"
    AHCI = "ahci"


WAYS = {
    Hosts.SCSI: {
        "vhost-user-scsi": "DEVMODEL",
        "qemu-virtio-scsi-pci": "QEMU",
        "vhost-user-blk": "virtio-blk",
    },
    Hosts.AHCI: {"vfio-user-ich9-ahci": "DEVMODEL", "with-msix": "MSIX", "qemu-ich9-ahci": "QEMU"},
}
"""How each is called, ours first, and by what the guest knows it: its vendor, or how the name of its model begins."""

COMPARED = {Hosts.SCSI: ("vhost-user-scsi",), Hosts.AHCI: ("vfio-user-ich9-ahci", "with-msix")}
"""What the others are compared with."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each measurement takes.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is repeated, in turn.")] = 5,
    hosts: Annotated[list[Hosts] | None, typer.Option(help="What is compared; without it, all.")] = None,
) -> None:
    """Compare disks of ours in a guest with QEMU's own."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    for each in hosts or list(Hosts):
        try:
            run = measure(each, seconds, rounds)
        except Unavailable as missing:
            sys.exit(f"benchmarks: {missing}")
        if run.failure is not None:
            sys.exit(f"benchmarks: {run.failure}")
        for load in LOADS:
            console.print(table(load, run, COMPARED[each]))


def measure(hosts: Hosts, seconds: float, rounds: int) -> GuestRun:
    """Boot, run everything, power off; Unavailable where a tool is missing."""
    ways = WAYS[hosts]
    files = {
        "expected": f"seconds={seconds:g}\nrounds={rounds}\nhosts={hosts}\n".encode(),
        "ways": "".join(f"{name} {known_as}\n" for name, known_as in ways.items()).encode(),
        "loads": "".join(f"{name} {options}\n" for name, options in LOADS.items()).encode(),
    }
    timeout = 60 + 2 * (seconds + 1) * rounds * len(ways) * len(LOADS)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        backend, arguments = (_scsi if hosts is Hosts.SCSI else _ahci)(Path(name), stack)
        return run_guest(str(SCRIPT), backend, files=files, timeout=timeout, arguments=arguments, cpus=1)


def _qemus_drive() -> list[str]:
    """A node of QEMU's over a copy of the image."""
    return ["-blockdev", f"driver=file,filename={cached_image(2)},node-name=q,aio=threads,discard=unmap"]


def _scsi(folder: Path, stack: ExitStack) -> tuple[Backend, list[str]]:
    blk = folder / "blk.sock"
    node = {"driver": "file", "filename": str(cached_image(1)), "node-name": "blk"}
    export = f"type=vhost-user-blk,id=blk,node-name=blk,writable=on,addr.type=unix,addr.path={blk}"
    more = ["--blockdev", json.dumps(node), "--export", export]
    backend = stack.enter_context(scsi_serve([Unit(cached_image(0))], folder, QUEUES, more))
    return backend, [
        *("-chardev", f"socket,id=blk,path={blk}", "-device", "vhost-user-blk-pci,chardev=blk"),
        *_qemus_drive(),
        *("-device", f"virtio-scsi-pci,id=q,num_queues={QUEUES}", "-device", "scsi-hd,bus=q.0,drive=q"),
    ]


def _ahci(folder: Path, stack: ExitStack) -> tuple[Backend, list[str]]:
    """Ours, and the machine's own HBA."""
    devices = ["ich9-ahci,id=f0", "ide-hd,bus=f0.0,drive=d0"]
    devices += ["ich9-ahci,id=f1,msix=on", "ide-hd,bus=f1.0,drive=d1,model=MSIX"]
    nodes = [file_node(cached_image(0)), file_node(cached_image(1), "d1")]
    backend = stack.enter_context(vfio_serve(folder, nodes, devices))
    return backend, [*_qemus_drive(), "-device", "ide-hd,bus=ide.0,drive=q"]


def table(load: str, run: GuestRun, compared: Sequence[str]) -> Table:
    """One load: medians of requests a second, and what of ours is compared in relation to each."""
    rates: dict[str, list[float]] = defaultdict(list)
    for result in run.results.values():
        name, _, rest = result.item.partition("/")
        if name == load:
            rates[rest.partition("/")[0]].append(float(result.detail))
    rounds = len(rates[compared[0]])
    shown = Table(title=f"in a guest, {load}: medians (ranges) of {rounds} rounds", title_justify="left")
    headings = ["ours/this"] if len(compared) == 1 else [f"{name}/this" for name in compared]
    for heading in ("disk", "requests/s", *headings):
        shown.add_column(heading, justify="left" if heading == "disk" else "right", no_wrap=True)
    for way, found in rates.items():
        own = Spread.of(found)
        ratios = [
            Spread.of([mine / theirs for mine, theirs in zip(rates[name], found, strict=True)])
            for name in compared
        ]
        shown.add_row(
            way,
            f"{own.median:,.0f} ({own.low:,.0f}–{own.high:,.0f})",
            *(
                "" if way == name else f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"
                for name, ratio in zip(compared, ratios, strict=True)
            ),
        )
    shown.caption = f"{os.cpu_count()} CPUs; load average {os.getloadavg()[0]:.1f} afterwards"
    return shown


if __name__ == "__main__":
    app()

"""`guestsim demo`: a guest drives two disks, and one sees what it did and what the devices answered."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from guestsim import workload
from guestsim.disk import Disk, boot
from guestsim.drivers import pci, virtio_blk
from guestsim.drivers.layouts import BlkFeature
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
ROUNDS = 20
REQUESTS = 100
DEPTH = 16
SECTOR_OF_TEST = 64 * 512


def demo(console: Console) -> None:
    """Make a machine with a disk in a temporary file and one in memory, and drive both."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "disk.img")
        image.write_bytes(b"Hello from sector 0, in a file.".ljust(512, b".") + bytes(16 * MIB - 512))
        started = time.perf_counter()
        machine = InProcessTarget(
            blockdevs=[
                {"driver": "file", "filename": str(image), "node-name": "in-file", "discard": "unmap"},
                {"driver": "memory", "size": 8 * MIB, "node-name": "in-memory"},
            ],
            devices=[
                {
                    "driver": "virtio-blk-pci",
                    "id": "vd0",
                    "drive": "in-file",
                    "serial": "DEMO-0",
                    "num-queues": 4,
                },
                {"driver": "virtio-blk-pci", "id": "vd1", "drive": "in-memory", "serial": "DEMO-1"},
            ],
        )
        with machine:
            guest = Guest(machine)
            disks = [boot(guest, index) for index in range(2)]
            built = time.perf_counter() - started
            _show_machine(console, guest, disks, built)
            _show_steps(console, machine, guest, disks[0])
            _show_mistake(console, machine, guest, disks[1])
            seconds = _random_work(console, guest, disks)
            _show_statistics(console, machine, seconds)


def _show_machine(console: Console, guest: Guest, disks: list[Disk], built: float) -> None:
    table = Table(title="the guest scanned the PCI bus and brought up two disks", title_justify="left")
    for name in ("function", "id", "serial", "capacity", "queues", "features negotiated"):
        table.add_column(name, overflow="fold")
    functions = [f for f in pci.scan(guest) if f.vendor == 0x1AF4]
    for function, disk in zip(functions, disks, strict=True):
        names = [feature.name for feature in BlkFeature if feature in disk.features]
        table.add_row(
            str(function),
            f"{function.vendor:04x}:{function.device:04x}",
            disk.get_id(),
            f"{disk.capacity // MIB} MiB",
            str(len(disk.driver.queues)),
            " ".join(names),
        )
    console.print(table)
    console.print(f"machine made, probed and negotiated in {built * 1e3:.1f} ms\n")


def _show_steps(console: Console, machine: InProcessTarget, guest: Guest, disk: Disk) -> None:
    table = Table(title="what the guest did, and what the device answered", title_justify="left")
    for name in ("guest", "device", "interrupts"):
        table.add_column(name)
    table.add_column("µs", justify="right")

    def step(name: str, action: Callable[[], str]) -> None:
        before, start = disk.interrupts, time.perf_counter()
        answer = action()
        spent = time.perf_counter() - start
        table.add_row(name, answer, str(disk.interrupts - before), f"{spent * 1e6:.0f}")

    def request(operation: virtio_blk.Operation) -> Callable[[], str]:
        def run() -> str:
            answer = disk.request(operation)
            return f"{answer.status_name}, used length {answer.used_length}"

        return run

    def resize() -> str:
        machine.resize("in-file", 24 * MIB)
        guest.run(guest.settle())
        return f"config interrupt, capacity now {disk.capacity // MIB} MiB"

    def cache(*, on: bool) -> Callable[[], str]:
        def run() -> str:
            disk.set_write_cache(on=on)
            return f"writeback reads {disk.config['writeback']}"

        return run

    pattern = bytes(range(256)) * 256
    step("read sector 0", lambda: repr(disk.read(0, 512)[:31].decode()))
    step("write 64 KiB from 16 buffers", request(virtio_blk.write(MIB, pattern, scatter=16)))
    step("read them back", lambda: "the same bytes" if disk.read(MIB, 65536) == pattern else "WRONG")
    step("flush", request(virtio_blk.flush()))
    step("discard 1 MiB", request(virtio_blk.discard([(MIB, MIB)])))
    step("write zeroes, may unmap", request(virtio_blk.write_zeroes([(0, 4096)], unmap=True)))
    step("write cache off", cache(on=False))
    step("write 4 KiB, made stable at once", request(virtio_blk.write(8192, pattern[:4096])))
    step("write cache on", cache(on=True))
    step("read beyond the end", request(virtio_blk.read(disk.capacity, 512)))
    step("host resizes the disk", resize)
    step("read there again", request(virtio_blk.read(16 * MIB, 512)))
    console.print(table)
    console.print()


def _show_mistake(console: Console, machine: InProcessTarget, guest: Guest, disk: Disk) -> None:
    """A driver's mistake: an entry of the available ring names a descriptor that is not there."""
    queue = disk.driver.queues[0]
    before = len(machine.violations() or [])
    queue.expose_raw(0xFFFF)
    queue.publish()
    queue.notify()
    guest.run(guest.settle())
    found = (machine.violations() or [])[before:]
    console.print("a mistake on purpose: the guest makes descriptor 65535 available", style="bold")
    for clause, what in found:
        console.print(f"  violation  {what}\n             {clause}", highlight=False)
    console.print(f"  status     {disk.driver.device.status.name}", highlight=False)
    disk.reset()
    console.print(
        f"  reset      {disk.driver.device.status.name}, reads {len(disk.read(0, 4096))} bytes\n",
        highlight=False,
    )


def _random_work(console: Console, guest: Guest, disks: list[Disk]) -> float:
    """Random requests, sixteen in flight, each answer held against a model; returns the seconds they took."""
    columns = (TextColumn("random requests, every byte checked"), BarColumn(), MofNCompleteColumn())
    spent = 0.0
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=ROUNDS * REQUESTS * len(disks))
        for round_number in range(ROUNDS):
            for disk in disks:
                work = workload.Workload(
                    start=0,
                    length=8 * MIB,
                    requests=REQUESTS,
                    seed=round_number,
                    depth=DEPTH,
                    max_length=16384,
                    scatter=3,
                    mix=(("read", 5), ("write", 4), ("zero", 1), ("discard", 1), ("flush", 1)),
                )
                start = time.perf_counter()
                guest.run(workload.run(disk.driver, work))
                spent += time.perf_counter() - start
                progress.advance(task, REQUESTS)
    return spent


def _show_statistics(console: Console, machine: InProcessTarget, seconds: float) -> None:
    table = Table(title="statistics, with QEMU's names", title_justify="left")
    table.add_column("counter")
    both = {device: machine.statistics(device) for device in ("vd0", "vd1")}
    for device in both:
        table.add_column(device, justify="right")
    for name in both["vd0"]:
        if any(stats[name] for stats in both.values()) and "time" not in name:
            table.add_row(name, *(f"{stats[name]:,}" for stats in both.values()))
    console.print(table)
    count = ROUNDS * REQUESTS * len(both)
    violations = len(machine.violations() or [])
    console.print(
        f"{count:,} random requests in {seconds:.1f} s, guest and device together; "
        f"{violations} violations, all of them on purpose"
    )

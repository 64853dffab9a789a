"""A disk of ours in an emulator of somebody else's: a bare-metal program in Unicorn drives virtio-blk over MMIO.

The emulator's memory is its own: what the disk reads and writes of it goes through two functions (bounced).  With
`--shared` emulator and disk look into the same pages instead.  The program is `disk.c` beside this file.

Needs gcc and the extra `unicorn` (`pip install 'devmodels[unicorn]'`).  Run it: `python examples/unicorn/run.py`.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import tempfile
from io import BytesIO
from mmap import mmap
from pathlib import Path

from elftools.elf.elffile import ELFFile
from unicorn import UC_ARCH_X86, UC_HOOK_INSN, UC_MODE_64, UC_PROT_ALL, Uc
from unicorn.x86_const import (
    UC_X86_INS_OUT,
    UC_X86_REG_RDI,
    UC_X86_REG_RIP,
    UC_X86_REG_RSI,
    UC_X86_REG_RSP,
)

from devmodels.assembly import Assembly, assemble
from devmodels.memory import GuestMemory
from devmodels.memoryregions import BouncedRegion, Region, SharedRegion

SOURCE = Path(__file__).with_name("disk.c")
RAM_SIZE = 4 << 20
PROGRAM = 0x10_0000
STACK_TOP = 0x20_0000
FREE_MEMORY = 0x20_0000
DISK = 0xFEB0_0000
DISK_IRQ = 5
PAGE = 0x1000
CONSOLE, EXIT = 0xE9, 0xF4


def build() -> bytes:
    """Compile the program; returns the ELF file."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "disk.elf"
        flags = ["-O2", "-Wall", "-Werror", "-ffreestanding", "-fno-pic", "-fno-stack-protector"]
        flags += ["-mno-red-zone", "-mgeneral-regs-only", "-fcf-protection=none"]
        link = ["-nostdlib", "-static", "-no-pie", f"-Wl,-Ttext={PROGRAM:#x},-e,start,--build-id=none"]
        subprocess.run(["gcc", *flags, *link, str(SOURCE), "-o", str(out)], check=True)
        return out.read_bytes()


class Emulator:
    """An x86-64 machine: RAM from address 0, a console port, a port that ends it, and whatever is embedded."""

    def __init__(self, *, shared: bool) -> None:
        self.cpu = Uc(UC_ARCH_X86, UC_MODE_64)
        self.console = bytearray()
        self.exit_status: int | None = None
        self.interrupt = False
        self.region = self._map_ram(shared=shared)
        self.cpu.hook_add(UC_HOOK_INSN, self._out, None, 1, 0, UC_X86_INS_OUT)

    def _map_ram(self, *, shared: bool) -> Region:
        """RAM, and how a device reaches it."""
        if not shared:
            self.cpu.mem_map(0, RAM_SIZE)
            return BouncedRegion(0, RAM_SIZE, self.cpu.mem_read, self.cpu.mem_write)
        pages = mmap(-1, RAM_SIZE)
        self._pages = (ctypes.c_char * RAM_SIZE).from_buffer(pages)
        self.cpu.mem_map_ptr(0, RAM_SIZE, UC_PROT_ALL, ctypes.addressof(self._pages))
        return SharedRegion(0, pages)

    def embed(self, assembly: Assembly, address: int) -> None:
        """Send the guest's accesses to the page at `address` to the machine."""
        machine = assembly.machine

        def read(_cpu: Uc, offset: int, size: int, _data: object) -> int:
            return machine.read(address + offset, size)

        def write(_cpu: Uc, offset: int, size: int, value: int, _data: object) -> None:
            machine.write(address + offset, size, value)

        self.cpu.mmio_map(address, PAGE, read, None, write, None)

    def on_irq(self, _line: int, level: bool) -> None:
        """What the interrupt controller would be told."""
        self.interrupt = level

    def load(self, elf: bytes) -> int:
        """Put the program into memory; returns where it begins."""
        file = ELFFile(BytesIO(elf))
        for segment in file.iter_segments("PT_LOAD"):
            self.cpu.mem_write(segment["p_paddr"], segment.data())
        return int(file["e_entry"])

    def run(self, assembly: Assembly, entry: int) -> int:
        """Run the program from `entry` on until it ends the machine; returns its exit status."""
        self.cpu.reg_write(UC_X86_REG_RDI, DISK)
        self.cpu.reg_write(UC_X86_REG_RSI, FREE_MEMORY)
        self.cpu.reg_write(UC_X86_REG_RSP, STACK_TOP - 8)
        at = entry
        while True:
            self.cpu.emu_start(at, 0)
            if self.exit_status is not None:
                return self.exit_status
            # HLT: the guest waits for an interrupt.
            assembly.machine.run_until_idle()
            if not self.interrupt:
                raise RuntimeError("the guest waits for an interrupt that nobody will raise")
            at = self.cpu.reg_read(UC_X86_REG_RIP)

    def _out(self, cpu: Uc, port: int, _size: int, value: int, _data: object) -> None:
        if port == CONSOLE:
            self.console.append(value & 0xFF)
        elif port == EXIT:
            self.exit_status = value & 0xFF
            cpu.emu_stop()


def main() -> int:
    """Build the program and the machine, run the one in the other, and show what the guest printed."""
    parser = argparse.ArgumentParser(description="A bare-metal program in Unicorn drives a virtio-mmio disk.")
    parser.add_argument("--shared", action="store_true", help="let the disk look into the emulator's pages")
    parser.add_argument("--image", help="a raw image for the disk (default: 16 MiB in memory)")
    options = parser.parse_args()
    drive: dict[str, object] = {"driver": "memory", "size": 16 << 20}
    if options.image is not None:
        drive = {"driver": "file", "filename": options.image}
    emulator = Emulator(shared=options.shared)
    with assemble(
        blockdevs=[{**drive, "node-name": "d0"}],
        devices=[
            {
                "driver": "virtio-blk-device",
                "drive": "d0",
                "address": DISK,
                "irq": DISK_IRQ,
                "force-legacy": False,
                "serial": "unicorn",
            }
        ],
        memory=GuestMemory(emulator.region),
        clock="wall",
        on_irq=emulator.on_irq,
    ) as assembly:
        emulator.embed(assembly, DISK)
        status = emulator.run(assembly, emulator.load(build()))
        print(emulator.console.decode(), end="")
        for violation in assembly.violations.recent:
            print(f"violation: {violation}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())

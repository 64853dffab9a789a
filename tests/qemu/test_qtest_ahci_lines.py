"""Lines of qtest as bug reports print them for an HBA, one at a time and piped: the stand-in answers as QEMU does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

SIZE = 1 << 20
BAR = 0xE000_0000
PORT = BAR + 0x100
CLB, FB, IS, CMD, TFD, SCTL, SACT, CI = 0, 8, 0x10, 0x18, 0x20, 0x2C, 0x34, 0x38
REGISTERS = [f"readl {PORT + at:#x}" for at in range(0, 0x48, 4)]
REGISTERS += [f"readl {BAR + at:#x}" for at in range(0, 0x2C, 4)]
PLACED = (
    "outl 0xcf8 0x8000fa24",
    f"outl 0xcfc {BAR:#x}",
    "outl 0xcf8 0x8000fa04",
    "outw 0xcfc 0x7",
)
IDENTIFY = (
    "write 0x0 0x20 0x0500010000000000002" + "0" * 45,
    "write 0x2000 0x14 0x2780ec" + "00" * 17,
    "write 0x2080 0x10 0x003" + "0" * 21 + "ff010000",
)
"""IDENTIFY DEVICE in slot 0 of a list at address 0, with a table at 2000h and 512 bytes at 3000h."""


def put(register: int, value: int) -> str:
    return f"writel {PORT + register:#x} {value:#x}"


def each(register: int, *values: int) -> list[str]:
    """Write values, and read all after each."""
    return [line for value in values for line in (put(register, value), *REGISTERS)]


ISSUED = (put(CI, 1), *REGISTERS, "readl 0x4", "read 0x3014 0x10", "readl 0x3000")
LINES = {
    "ST by a byte, without FRE": (*IDENTIFY, f"write {PORT + CMD:#x} 0x1 0x01", *ISSUED),
    "ST with FRE": (put(FB, 0x1000), *IDENTIFY, put(CMD, 0x11), *ISSUED, "read 0x1000 0x60"),
    "FRE cleared while ST is 1": (put(FB, 0x1000), *each(CMD, 0x11, 1, 0x11, 0, 1, 0x10)),
    "a length of 0": (f"write 0x0 0x20 0x{'0' * 64}", put(CMD, 0x11), *ISSUED),
    "issued while stopped": (
        *(put(SACT, 5), put(CI, 3), *REGISTERS, put(CMD, 0x16), *REGISTERS, put(CMD, 0x17), *REGISTERS),
        *(put(CMD, 6), *REGISTERS),
    ),
    "PxCMD": (*each(CMD, 8, 0xE, 0, 1, 0x11, 0x19, 0x1000_0000, 0xFFFF_FFFF, 0xFFFF_FFFE, 6),),
    "PxSCTL": (*each(SCTL, 1, 0x301, 0, 4, 1, 0xFFFF_FFFF, 0xFFF1, 0),),
    "GHC": tuple(
        line
        for value in (1, 0x8000_0001, 2, 3, 0xFFFF_FFFF, 0xFFFF_FFFE, 0)
        for line in (f"writel {BAR + 4:#x} {value:#x}", *REGISTERS)
    ),
    "what is read only, and what is not there": tuple(
        line
        for at in range(0x40, 0x180, 4)
        if at not in (0x100 + CMD, 0x100 + CI, 0x100 + SACT, 0x100 + SCTL)
        for line in (f"writel {BAR + at:#x} 0xffffffff", f"readl {BAR + at:#x}")
    ),
    "narrow and wide writes": tuple(
        line
        for at in (SCTL, IS, 0x14, FB, FB + 1, FB + 2, 4, 5)
        for size in "bwlq"
        for line in (f"write{size} {PORT + at:#x} 0x123456789abcdef0", *REGISTERS)
    ),
}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(SIZE))
    return path


def answers(program: list[str], disk: Path, lines: tuple[str, ...], *, piped: bool) -> list[str]:
    """What a machine says to these lines; QEMU stays when its standard input ends, and is killed."""
    drive = f"file={disk},format=raw,if=none,id=d0"
    machine = ["-M", "q35", "-m", "64", "-display", "none", "-nodefaults", "-drive", drive]
    machine += [
        "-device",
        "ide-hd,drive=d0,bus=ide.0,serial=of-both",
        "-qtest",
        "stdio",
        "-qtest-log",
        "none",
    ]
    said: list[str] = []
    with subprocess.Popen(
        [*program, *machine], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with open(process.stdout.fileno(), "rb", closefd=False) as output:
            groups = (
                [lines[at : at + 30] for at in range(0, len(lines), 30)] if piped else [[x] for x in lines]
            )
            for group in groups:
                process.stdin.write("".join(f"{line}\n" for line in group).encode())
                said += [output.readline().decode().strip() for _ in group]
        process.kill()
    return said


@pytest.mark.parametrize("piped", [False, True], ids=["line by line", "piped"])
@pytest.mark.parametrize("name", LINES)
def test_the_stand_in_answers_as_qemu(tmp_path: Path, disk: Path, name: str, *, piped: bool) -> None:
    halted = tmp_path / "halted.bin"
    halted.write_bytes(b"\xf4" * 0x1_0000)
    lines = (*PLACED, *LINES[name])
    qemu = ["qemu-system-x86_64", "-accel", "tcg", "-bios", str(halted)]
    theirs = answers(qemu, disk, lines, piped=piped)
    ours = answers([sys.executable, "-m", "devmodels.qtest"], disk, lines, piped=piped)
    told = [(line, a, b) for line, a, b in zip(lines, theirs, ours, strict=True) if a != b]
    # What a device is by its general configuration is its own.
    assert [each for each in told if each[0] != "readl 0x3000"] == []

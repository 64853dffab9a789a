"""The task registers of IDE channels after power on and around software resets: the stand-in's and QEMU's."""

from __future__ import annotations

import pytest

from .test_configuration_space import OURS, THEIRS, Machine

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

NULL = "-blockdev null-co,node-name=d0,size=1048576 -device ide-hd,drive=d0"
CABLES = {
    "disk and drive": f"{NULL},bus=ide.0,unit=0 -device ide-cd,bus=ide.0,unit=1",
    "drive, disk": f"{NULL},bus=ide.1 -device ide-cd,bus=ide.0,unit=0",
    "no device 0": f"{NULL},bus=ide.0,unit=1 -device ide-cd,bus=ide.1,unit=1",
    "nothing": "",
}
BLOCKS = ((0x1F0, 0x3F6), (0x170, 0x376))


def _seen(machine: Machine, command: int, control: int) -> list[str]:
    """All that one channel shows, where each device is selected, written and reset."""
    shown: list[str] = []

    def write(port: int, value: int) -> None:
        machine.ask(f"outb {port:#x} {value:#x}")
        shown.append(f"{port:#x} = {value:#x}")
        shown.extend(machine.ask(*(f"inb {at:#x}" for at in (*range(command + 1, command + 8), control))))

    for device in (0xA0, 0xB0):
        write(command + 6, device)
        write(control, 4)
        write(control, 0)
        for at in range(1, 7):
            write(command + at, 0xB0 if at == 6 else 0x11 * at)
        write(control, 4)
        write(control, 6)
        write(control, 0)
    return shown


@pytest.mark.parametrize("name", CABLES)
def test_what_the_registers_show(name: str) -> None:
    words = ("-M", "pc", *CABLES[name].split())
    with Machine(*OURS, *words) as ours, Machine(*THEIRS, *words) as theirs:
        for command, control in BLOCKS:
            assert _seen(ours, command, control) == _seen(theirs, command, control)

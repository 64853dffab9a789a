"""Defects of an HBA's registers: the comparison with a live QEMU finds each."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from devmodels.ahci.link import Link
from devmodels.ahci.port import Port
from devmodels.ahci.registers import PortRegisters
from guestsim.diff.grammar import Action, ahci_registers
from guestsim.diff.grammar.ata import Table
from guestsim.diff.grammar.ata_disk import DISK
from guestsim.diff.grammar.packets import CD
from guestsim.diff.profiles import PROFILES, Profile

from .defects import found_among

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.usefixtures("qemu"),
    pytest.mark.parametrize("name", ["ahci-disk", "ahci-cd"]),
]

Put = Callable[[pytest.MonkeyPatch], None]
"""Puts a defect into our devices."""
Make = Callable[[Random, Table], Action]


def clo_leaves_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(port: Port) -> None:
        port.registers.clo = 0

    monkeypatch.setattr(Port, "_override", broken)


def clo_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    override = Port._override

    def broken(port: Port) -> None:
        override(port)
        port.registers.clo = 1

    monkeypatch.setattr(Port, "_override", broken)


def clo_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it changes nothing."""
    command = Port.command_written

    def broken(port: Port, old: int, new: int) -> None:
        if new & 8:
            port.registers.tfd &= ~0x88
        command(port, old, new)

    monkeypatch.setattr(Port, "command_written", broken)


def errors_hold_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    _after_write(monkeypatch, 0x30, lambda _, value: value)


def errors_are_not_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    _after_write(monkeypatch, 0x30, lambda before, _: before)


def status_holds_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    _after_write(monkeypatch, 0x10, lambda _, value: value)


def _after_write(monkeypatch: pytest.MonkeyPatch, register: int, held: Callable[[int, int], int]) -> None:
    """A port's register holds something else after a write."""
    write = PortRegisters.write

    def broken(registers: PortRegisters, offset: int, size: int, value: int) -> None:
        before = registers.serr if register == 0x30 else registers.status
        write(registers, offset, size, value)
        if offset == register:
            after = held(before, value)
            if register == 0x30:
                registers.serr = after
            else:
                registers.status = after

    monkeypatch.setattr(PortRegisters, "write", broken)


def det_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Link, "control_written", lambda *_: None)


def issued_while_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not, where it is."""
    monkeypatch.setattr(Port, "issue_written", lambda *_: None)


def not_issued_while_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(port: Port, old: int, _new: int) -> None:
        if not port.registers.st:
            port.registers.ci = old
        else:
            port.schedule()

    monkeypatch.setattr(Port, "issue_written", broken)


def active_while_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Port, "active_written", lambda *_: None)


def received_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """PxCMD.FR is 1 while CR is, and 0 otherwise."""

    def broken(port: Port) -> None:
        port.registers.fr = int(port.registers.fre or port.registers.cr)

    monkeypatch.setattr(Port, "_settle_reception", broken)


def not_received_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(port: Port) -> None:
        port.registers.fr = int(port.registers.fre)

    monkeypatch.setattr(Port, "_settle_reception", broken)


DEFECTS: tuple[tuple[Put, Make, tuple[Profile, ...]], ...] = (
    (clo_leaves_busy, ahci_registers.override, ("strict",)),
    (clo_stays, ahci_registers.command, ("strict",)),
    (clo_is_heard, ahci_registers.override, ("qemu",)),
    (errors_hold_what_is_written, ahci_registers.errors, PROFILES),
    (errors_are_not_cleared, ahci_registers.errors, ("strict",)),
    (status_holds_what_is_written, ahci_registers.errors, PROFILES),
    (det_is_ignored, ahci_registers.control, PROFILES),
    (issued_while_stopped, ahci_registers.stopped, ("strict",)),
    (not_issued_while_stopped, ahci_registers.stopped, ("qemu",)),
    (active_while_stopped, ahci_registers.stopped, ("strict",)),
    (not_received_while_it_runs, ahci_registers.command, ("strict",)),
    (received_while_it_runs, ahci_registers.command, ("qemu",)),
)


@pytest.mark.parametrize(
    ("put", "make", "profile"),
    [
        pytest.param(put, make, profile, id=f"{put.__name__}-{profile}")
        for put, make, profiles in DEFECTS
        for profile in profiles
    ],
)
def test_a_defect_of_a_port_s_registers_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, put: Put, make: Make, profile: Profile
) -> None:
    put(monkeypatch)
    table = DISK if name == "ahci-disk" else CD
    found = found_among(name, profile, lambda random: make(random, table))
    assert found is not None
    assert found.kind == "register"
    assert "any-registers" in found.now

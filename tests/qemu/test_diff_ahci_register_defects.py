"""Defects of an HBA's registers: the comparison with a live QEMU finds each."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from devmodels.ahci.link import Link
from devmodels.ahci.port import Port
from guestsim.diff.grammar import Action, ahci_registers
from guestsim.diff.grammar.ata import Table
from guestsim.diff.grammar.ata_disk import DISK
from guestsim.diff.grammar.packets import CD
from guestsim.diff.profiles import PROFILES, Profile
from tests.defects import Defect, after, before

from .defects import found_among

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.usefixtures("qemu"),
    pytest.mark.parametrize("name", ["ahci-disk", "ahci-cd"]),
]

Make = Callable[[Random, Table], Action]


def clo_leaves_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(port: Port) -> None:
        port.registers.clo = 0

    monkeypatch.setattr(Port, "_override", broken)


def clo_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def then(port: Port) -> None:
        port.registers.clo = 1

    after(monkeypatch, Port, "_override", then)


def clo_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it changes nothing."""

    def first(port: Port, _old: int, new: int) -> None:
        if new & 8:
            port.registers.tfd &= ~0x88

    before(monkeypatch, Port, "command_written", first)


def errors_are_set_by_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(port: Port) -> None:
        port.registers.serr |= 1 << 17

    monkeypatch.setattr(Port, "errors_written", broken)


def any_write_clears_all_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only those that are written with ones."""

    def first(port: Port) -> None:
        port.registers.serr = 0

    before(monkeypatch, Port, "errors_written", first)


def any_write_clears_all_of_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(port: Port) -> None:
        port.registers.status = 0

    before(monkeypatch, Port, "status_written", first)


def det_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Link, "control_written", lambda *_: None)


def issued_while_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    issue = Port.issue_written

    def broken(port: Port, old: int, new: int) -> None:
        if port.registers.st:
            issue(port, old, new)

    monkeypatch.setattr(Port, "issue_written", broken)


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


DEFECTS: tuple[tuple[Defect, Make, tuple[Profile, ...]], ...] = (
    (clo_leaves_busy, ahci_registers.override, ("strict",)),
    (clo_stays, ahci_registers.command, ("strict",)),
    (clo_is_heard, ahci_registers.override, ("qemu",)),
    (errors_are_set_by_a_write, ahci_registers.errors, PROFILES),
    (any_write_clears_all_errors, ahci_registers.errors, ("strict",)),
    (any_write_clears_all_of_the_status, ahci_registers.errors, ("qemu",)),
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
    monkeypatch: pytest.MonkeyPatch, name: str, put: Defect, make: Make, profile: Profile
) -> None:
    put(monkeypatch)
    table = DISK if name == "ahci-disk" else CD
    found = found_among(name, profile, lambda random: make(random, table))
    assert found is not None
    assert found.kind == "register"
    assert "any-registers" in found.now

"""Random sequences for one port of an AHCI HBA (AHCI 1.3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from guestsim.diff.access import Access, Read, Rest, Step, Wait, Write
from guestsim.diff.arena import MESSAGES, MESSAGES_SIZE
from guestsim.diff.grammar import Action
from guestsim.diff.grammar.ahci_driver import (
    SOFTWARE_RESET,
    STOPS,
    HeldTogether,
    Interrupted,
    Issue,
    Lowering,
)
from guestsim.diff.grammar.ahci_port import IDLE, port, put, recover, settle, start
from guestsim.diff.grammar.ahci_registers import ANY_REGISTERS
from guestsim.diff.grammar.ata import Table, Task, queued, task
from guestsim.diff.grammar.ata_disk import DISK
from guestsim.diff.grammar.ata_held import OFTEN, STOPPED_HELD, TAGS, event
from guestsim.diff.grammar.packets import CD_AS_QEMU, DMA, READS, aborted, apart, stuck
from guestsim.diff.grammar.registers import Registers
from guestsim.drivers.ahci_layouts import ENABLED, Ghc, Hba, PortReg

RESET = frozenset({"reset"})
MSI_CONTROL, MSI_ADDRESS, MSI_DATA = 2, 4, 12
"""Registers of the MSI capability, which has 64 bits of address (PCI 3.0 §6.8.1)."""


class AhciGrammar:
    """Actions for a port with a disk, or with a CD drive."""

    def __init__(self, table: Table = DISK, lowering: type[Lowering] = Lowering) -> None:
        self._table = table
        self._cd = table is not DISK
        self._lowering = lowering

    def sequence(self, random: Random, length: int) -> list[Action]:
        """`length` actions of any kind."""
        makers, weights = zip(*ACTIONS, strict=True)
        chosen = random.choices(makers, weights, k=length)
        return [maker(random, self._table) for maker in chosen]

    def lower(self, actions: Sequence[Action]) -> list[Step]:
        """Their steps."""
        driver = self._lowering(self._cd)
        return [driver.step(action) for action in actions]


def issue(random: Random, table: Table) -> Issue:
    """One command; PIO that QEMU does not end is left out: its main loop ends with it."""
    one = task(random, table)
    refused = one.replies is not None and table is not CD_AS_QEMU and aborted(one, ours=True)
    if refused or (one.replies is not None and stuck(one)):
        one = replace(one, features=DMA)
    return Issue((one,), random.choice((1, 1, 2, 3, 5)), event(one) if random.random() < OFTEN else "")


def issue_queued(random: Random, table: Table) -> Issue:
    """One to three queued commands, where there are such."""
    if table is not DISK:
        return issue(random, table)
    tasks = [queued(random) for _ in range(random.choice((1, 1, 2, 3)))]
    # What overlaps could be done in any order.
    lba = 0
    placed = []
    for one in tasks:
        placed.append(replace(one, lba=lba + one.lba % 600))
        lba += 680
    return Issue(tuple(placed), random.choice((1, 2, 3)))


def held_together(random: Random, table: Table) -> Issue | HeldTogether:
    """Two to four queued commands that are held at the same time, and go on in any order."""
    if table is not DISK:
        return issue(random, table)
    count = random.randint(2, len(TAGS))
    # Each has a part of the disk of its own.
    tasks = [
        replace(one, lba=one.lba % 480 + 500 * at) for at, one in enumerate(map(queued, [random] * count))
    ]
    return HeldTogether(tuple(tasks), tuple(random.sample(range(count), count)))


def read_registers(random: Random, _: Table) -> Registers:
    """Registers of the HBA and of its port."""
    some: list[Access] = [port(register) for register in random.sample([*PortReg], 4)]
    some += [Read("hba", register, 4) for register in random.sample((Hba.GHC, Hba.IS, Hba.PI), 2)]
    return Registers("read registers", tuple(some))


def interrupts(random: Random, _: Table) -> Registers:
    """Interrupts are enabled, or not (§3.1.2, §3.3.6)."""
    if random.random() < 0.5:
        ghc = Write("hba", Hba.GHC, 4, Ghc.AE | random.choice((0, Ghc.IE, Ghc.IE)))
        return Registers("write GHC", (ghc, Read("hba", Hba.GHC, 4)))
    return Registers("write PxIE", (put(PortReg.IE, random.choice((0, ENABLED, ENABLED))), port(PortReg.IE)))


def message_at(where: int, data: int) -> tuple[Access, ...]:
    """Interrupts are no message, which would go there (PCI 3.0 §6.8.1)."""
    address = Write("msi", MSI_ADDRESS, 4, where), Write("msi", MSI_ADDRESS + 4, 4, 0)
    return Write("msi", MSI_CONTROL, 2, 0), *address, Write("msi", MSI_DATA, 2, data)


def message(random: Random, _: Table) -> Registers:
    """Interrupts are a message, to any word and with any value, or INTA# again (§2.3)."""
    on = int(random.random() < 0.7)
    where = MESSAGES + 4 * random.randrange(MESSAGES_SIZE // 4)
    to = message_at(where, random.randint(1, 0xFFFF))
    switch = Write("msi", MSI_CONTROL, 2, on), Read("msi", MSI_CONTROL, 2)
    return Registers("MSI on" if on else "MSI off", (*to, *switch))


def stop(_: Random, __: Table) -> Registers:
    """The port is stopped and started."""
    return Registers("stop and start", (put(PortReg.CMD, IDLE), Wait(), port(PortReg.CMD), *recover()))


def comreset(_: Random, table: Table) -> Registers:
    """COMRESET (§10.4.2)."""
    link = put(PortReg.SCTL, 0x301), put(PortReg.SCTL, 0x300), Rest(), port(PortReg.SSTS), port(PortReg.SIG)
    return Registers(
        "COMRESET", (put(PortReg.CMD, IDLE), Wait(), *link, *settle(cd=table is not DISK)), tags=RESET
    )


def reset(_: Random, table: Table) -> Registers:
    """The HBA is reset (§10.4.3)."""
    return Registers("HBA reset", start(cd=table is not DISK), tags=RESET)


def interrupted(random: Random, table: Table) -> Interrupted:
    """Commands that do not get to their end."""
    while True:
        chosen = random.choice((issue, issue_queued))(random, table)
        how = random.choice((*STOPS, SOFTWARE_RESET))
        if any(one.replies is not None and apart(one) for one in chosen.tasks):
            continue
        if all(one.alike and not _ends_qemu(one, how) for one in chosen.tasks):
            first = chosen.tasks[0]
            some = len(chosen.tasks) == 1
            at = event(first) if some and random.random() < STOPPED_HELD else ""
            return Interrupted(replace(chosen, held=at), how)


def _ends_qemu(one: Task, how: str) -> bool:
    """Whether QEMU 7.2 ends with a segmentation fault, which happens where data of such a command come late."""
    reads = one.replies is not None and bool(one.replies[1].length) and one.packet[0] in READS
    media = one.way.startswith("dma") or reads
    return one.way in ("pio-in", "pio-out") or (media and how == SOFTWARE_RESET)


ACTIONS: tuple[tuple[Callable[[Random, Table], Action], float], ...] = (
    (issue, 30),
    (issue_queued, 10),
    (held_together, 1),
    (read_registers, 5),
    (interrupts, 2),
    (message, 1.5),
    (stop, 1),
    (comreset, 1),
    (reset, 1),
    (interrupted, 2),
    *ANY_REGISTERS,
)

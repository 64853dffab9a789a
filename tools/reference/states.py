"""The page of state machines, each as a drawing, with its states and its transitions."""

from __future__ import annotations

from html import escape

from tools.reference.drawing import STYLE, svg
from tools.reference.machines import IDE, MACHINES, PATHS, Machine
from tools.reference.page import Page, cell, table

LEAD = (
    "Drawn from the tables in the code where it goes by tables; the others are held against the code by tests, which "
    "try every event in every state, or watch every transition that commands make. A thick box is where it begins."
)


def page() -> Page:
    """The page."""
    out = Page("states", "State machines", LEAD)
    out.add([f"<style>{STYLE}</style>"])
    for machine in MACHINES:
        _machine(out, machine)
    out.summary = f"{len(MACHINES)} drawings: {'; '.join(machine.title for machine in MACHINES)}"
    return out


def _machine(out: Page, machine: Machine) -> None:
    out.section(machine.anchor, machine.title)
    out.hit(machine.title, f"state machine, {machine.clause}", machine.anchor)
    out.add([f'<p class="note">{escape(machine.clause)}</p>'])
    out.add([f'<div class="drawing">{svg(machine, alone=False)}</div>', f"<p>{cell(machine.note)}</p>"])
    rows = []
    for name, place in machine.places.items():
        anchor = f"{machine.anchor}.{name}"
        out.hit(name, f"state of {machine.title}: {place.words}", anchor)
        rows.append((f'<code id="{anchor}">{escape(name)}</code>', cell(place.words)))
    out.add(table(("State", ""), rows))
    if machine is IDE:
        out.add(["<h4>Ways through it</h4>"])
        ways = [
            (escape(protocol), escape(name), " → ".join(path)) for name, (protocol, path) in PATHS.items()
        ]
        out.add(table(("Protocol", "Command", ""), ways))


def drawings() -> dict[str, str]:
    """Each drawing as a file of its own."""
    return {f"{machine.anchor}.svg": svg(machine) for machine in MACHINES}

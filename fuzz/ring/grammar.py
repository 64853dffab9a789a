"""What a driver of any of these devices may do beside its requests: misdeeds, registers, resets, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from devmodels.blockbackend.request import Op
from fuzz.choices import Choices
from fuzz.ring.bench import MESSAGE, RING, RINGS, SECTORS, SUSPEND, TABLE, RingBench
from fuzz.ring.transports import OverPci, OverPciLegacy
from tests.unit.virtio.hostile import EDITS
from tests.unit.virtio.model import (
    EVENT_IDX,
    IN_ORDER,
    INDIRECT_DESC,
    NOTIFICATION_DATA,
    RING_RESET,
    Form,
)
from tests.unit.virtio.packed_hostile import PACKED_EDITS

B = TypeVar("B", bound=RingBench)

STEPS = 32
OFF = (
    *(0, 0, 0, 0, INDIRECT_DESC, EVENT_IDX, IN_ORDER, IN_ORDER, NOTIFICATION_DATA, RING_RESET, SUSPEND),
    1 << 39,
)
"""Features that are not negotiated."""
ADDRESSES = (0, 100, TABLE, 0x7FF8, 0xFFF8, RING, 0x7000_0000, 1 << 63, (1 << 64) - 8)
ODD_LENGTHS = (0, 1, 8, 16, 16, 512, 513, 0x8000, 1 << 20, 0xFFFF_FFFF)
VALUES = (0, 1, 2, 3, 8, 15, 16, 17, 64, 128, 0xFF, 0xFFFF, 0xFFFF_FFFF)
FAILING = (Op.READ, Op.WRITE, Op.FLUSH)


def some_queue(bench: RingBench, choices: Choices) -> int:
    """Any of those that are used."""
    return choices.randrange(len(bench.drivers))


def some_form(bench: RingBench, choices: Choices) -> Form:
    """A list or a table, where there may be tables."""
    return choices.choice((Form.DIRECT, Form.INDIRECT)) if bench.features & INDIRECT_DESC else Form.DIRECT


def some_cuts(choices: Choices) -> tuple[int, ...]:
    """Where a buffer falls in pieces."""
    return tuple(choices.randrange(600) for _ in range(choices.choice((0, 0, 1, 3))))


def nonsense(bench: RingBench, choices: Choices) -> None:
    """Elements anywhere, of any length."""
    parts = [
        [(choices.choice(ADDRESSES), choices.choice(ODD_LENGTHS)) for _ in range(choices.randrange(4))]
        for _ in range(2)
    ]
    if sum(length for _, length in parts[0] + parts[1]) > 0xFFFF_FFFF:
        return
    if any(address <= RING + RINGS and address + length > RING for address, length in parts[1]):
        # The device is told to write its own rings.
        bench.lost = True
        bench.scribbles += parts[1]
    queue = some_queue(bench, choices)
    bench.nonsense(queue, parts[0], parts[1], some_form(bench, choices))
    bench.go(queue)


def _misdeed(bench: RingBench, choices: Choices) -> None:
    """One of what no driver may do to its ring."""
    edits = PACKED_EDITS if bench.packed else EDITS
    edit = edits[choices.randrange(len(edits))]
    queue = some_queue(bench, choices)
    bench.go(queue)
    driver = bench.drivers[queue]
    if bench.lost or not edit.possible(driver):  # type: ignore[arg-type]
        return
    bench.lost = True
    bench.ledger.begun(range(SECTORS))
    bench.scribbles.append((TABLE, 512))
    edit.do(driver, TABLE, choices.randint)  # type: ignore[arg-type]
    bench.bounded.made_available(queue, driver.size)
    bench.shadow.driver_wrote()
    with bench.bounded.doorbell():
        bench.transport.kick(queue, 0)
    bench.settle()


def _register(bench: RingBench, choices: Choices) -> None:
    """Any register but where rings are."""
    name = choices.choice(bench.transport.any_register())
    if choices.randrange(2):
        bench.transport.get(name)
        return
    bench.lost = True
    for queue, driver in enumerate(bench.drivers):
        bench.bounded.made_available(queue, driver.size)
    bench.scribbles.append((0, 0x1_0000))
    bench.ledger.begun(range(SECTORS))
    with bench.bounded.doorbell():
        bench.transport.set(name, choices.choice(VALUES))
    bench.settle()


def _messages(bench: RingBench, choices: Choices) -> None:
    """MSI-X messages go to the interrupt controller, to memory, to the device itself."""
    rig = bench.transport
    if not isinstance(rig, OverPci | OverPciLegacy):
        return
    count = rig.enable_msix()
    _, _, table = rig.msix()
    address = choices.choice((0xFEE0_0000, MESSAGE, rig.own_address()))
    for vector in range(count):
        rig.machine.write(table + 16 * vector, 4, address)
    if not bench.lost:
        rig.set("queue_select", some_queue(bench, choices))
        rig.set("queue_msix_vector", choices.randrange(count + 1))
        rig.set("config_msix_vector", choices.randrange(count + 1))


def _other(bench: RingBench, choices: Choices) -> None:
    match choices.randrange(12):
        case 0 | 1:
            bench.hold()
        case 2:
            bench.release()
            bench.settle()
        case 3:
            bench.run_state.stop()
        case 4:
            bench.run_state.cont()
            bench.settle()
        case 5:
            bench.fail(choices.choice(FAILING))
        case 6:
            bench.disk.fail.clear()
        case 7:
            bench.drivers[some_queue(bench, choices)].wish(bool(choices.randrange(2)), choices.randint(-2, 4))
            bench.shadow.driver_wrote()
        case 8:
            bench.bus_master(bool(choices.randrange(2)))
        case 9:
            bench.suspend()
        case 10:
            bench.resume()
        case _:
            _messages(bench, choices)


def play(bench: B, choices: Choices, own: Callable[[B, Choices], None]) -> None:
    """Steps until there are no choices left, `own` ones mostly; then the device works."""
    for _ in range(STEPS):
        if not choices.left:
            break
        kind = choices.randrange(16)
        if kind < 9:
            if not bench.lost:
                own(bench, choices)
        elif kind == 9:
            _misdeed(bench, choices)
        elif kind == 10:
            _register(bench, choices)
        elif kind == 11:
            bench.reset(released=bool(choices.randrange(2)))
        elif kind == 12:
            bench.reset_queue(some_queue(bench, choices), released=bool(choices.randrange(2)))
        elif kind == 13 and not bench.lost:
            bench.go(some_queue(bench, choices))
        else:
            _other(bench, choices)
    bench.works()
    bench.context.close()

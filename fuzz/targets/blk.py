"""virtio-blk with either ring over PCI and over MMIO: requests, misdeeds, registers, resets, errors, a slow disk."""

from __future__ import annotations

from devmodels.blockbackend.request import Op
from fuzz.blk.bench import MESSAGE, SECTORS, TABLE, BlkBench
from fuzz.blk.transports import OverPci
from fuzz.choices import Choices
from fuzz.target import Run
from tests.unit.virtio.blkrig import DISCARD, FLUSH, GET_ID, IN, OUT, SECURE_ERASE, WRITE_ZEROES, segment
from tests.unit.virtio.hostile import EDITS
from tests.unit.virtio.model import EVENT_IDX, IN_ORDER, INDIRECT_DESC, NOTIFICATION_DATA, Form
from tests.unit.virtio.packed_hostile import PACKED_EDITS
from tests.unit.virtio.plain import Kind

STEPS = 32
KINDS = (IN, IN, OUT, OUT, OUT, FLUSH, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, SECURE_ERASE, 2)
PLACES = (0, 1, 2, 3, SECTORS - 2, SECTORS - 1, SECTORS, (1 << 55) - 1, (1 << 64) - 1)
LENGTHS = (0, 512, 512, 512, 1024, 1536, 4096, 1, 511, 513)
OFF = (0, 0, INDIRECT_DESC, EVENT_IDX, IN_ORDER, NOTIFICATION_DATA, 1 << 11, 1 << 9 | 1 << 11)
ADDRESSES = (0, 100, TABLE, 0x7FF8, 0xFFF8, 0x10_0000, 0x7000_0000, 1 << 63, (1 << 64) - 8)
ODD_LENGTHS = (0, 1, 8, 16, 16, 512, 513, 0x8000, 1 << 20, 0xFFFF_FFFF)
VALUES = (0, 1, 2, 3, 8, 15, 16, 17, 64, 128, 0xFF, 0xFFFF, 0xFFFF_FFFF)
FAILING = (Op.READ, Op.WRITE, Op.FLUSH)


def _request(bench: BlkBench, choices: Choices) -> None:
    kind = choices.choice(KINDS)
    sector, length = choices.choice(PLACES), choices.choice(LENGTHS)
    data, room = b"", 0
    if kind == OUT:
        data = bytes([choices.getrandbits(8)]) * length
    elif kind in (IN, GET_ID):
        room = length if kind == IN else 20
    elif kind in (DISCARD, WRITE_ZEROES, SECURE_ERASE):
        data = segment(sector, length // 512, choices.choice((0, 0, 1, 2)))
        sector = 0
    cuts = [choices.randrange(600) for _ in range(choices.choice((0, 0, 1, 3)))]
    bench.send(kind, sector, data, room, _form(bench, choices), cuts)


def _form(bench: BlkBench, choices: Choices) -> Form:
    return choices.choice((Form.DIRECT, Form.INDIRECT)) if bench.features & INDIRECT_DESC else Form.DIRECT


def _nonsense(bench: BlkBench, choices: Choices) -> None:
    """Elements anywhere, of any length."""
    bench.noise(choices.choice(KINDS), choices.choice(PLACES), choices.take(16))
    parts = [
        [(choices.choice(ADDRESSES), choices.choice(ODD_LENGTHS)) for _ in range(choices.randrange(4))]
        for _ in range(2)
    ]
    if sum(length for _, length in parts[0] + parts[1]) > 0xFFFF_FFFF:
        return
    if any(address <= 0x10_2000 and address + length > 0x10_0000 for address, length in parts[1]):
        # The device is told to write its own ring.
        bench.lost = True
        bench.scribbles += parts[1]
    bench.nonsense(parts[0], parts[1], _form(bench, choices))


def _misdeed(bench: BlkBench, choices: Choices) -> None:
    """One of what no driver may do to its ring."""
    edits = PACKED_EDITS if bench.packed else EDITS
    edit = edits[choices.randrange(len(edits))]
    bench.go()
    if bench.lost or not edit.possible(bench.driver):  # type: ignore[arg-type]
        return
    bench.lost = True
    bench.ledger.begun(range(SECTORS))
    bench.scribbles.append((TABLE, 512))
    edit.do(bench.driver, TABLE, choices.randint)  # type: ignore[arg-type]
    bench.bounded.made_available(bench.driver.size)
    bench.shadow.driver_wrote()
    bench.transport.notify(0, 0)
    bench.settle()


def _register(bench: BlkBench, choices: Choices) -> None:
    """Any register but where rings are."""
    name = choices.choice(bench.transport.any_register())
    if choices.randrange(2):
        bench.transport.get(name)
        return
    bench.lost = True
    bench.bounded.made_available(bench.driver.size)
    bench.scribbles.append((0, 0x1_0000))
    bench.ledger.begun(range(SECTORS))
    bench.transport.set(name, choices.choice(VALUES))
    bench.settle()


def _messages(bench: BlkBench, choices: Choices) -> None:
    """MSI-X messages go to the interrupt controller, to memory, to the device itself."""
    rig = bench.transport
    if not isinstance(rig, OverPci):
        return
    count = rig.enable_msix()
    _, _, table = rig.msix()
    address = choices.choice((0xFEE0_0000, MESSAGE, rig.own_address()))
    for vector in range(count):
        rig.machine.write(table + 16 * vector, 4, address)
    if not bench.lost:
        rig.set("queue_select", 0)
        rig.set("queue_msix_vector", choices.randrange(count + 1))
        rig.set("config_msix_vector", choices.randrange(count + 1))


def _other(bench: BlkBench, choices: Choices) -> None:
    match choices.randrange(10):
        case 0 | 1:
            bench.disk.hold()
        case 2:
            bench.disk.release()
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
            bench.transport.machine.write(
                bench.transport.where[4] + choices.choice((32, 0, 20)), 1, choices.randrange(2)
            )
        case 8:
            bench.driver.wish(bool(choices.randrange(2)), choices.randint(-2, 4))
            bench.shadow.driver_wrote()
        case _:
            _messages(bench, choices)


def _step(bench: BlkBench, choices: Choices) -> None:
    kind = choices.randrange(16)
    if kind < 8 and not bench.lost:
        _request(bench, choices)
        if choices.randrange(3):
            bench.go()
    elif kind == 8 and not bench.lost:
        _nonsense(bench, choices)
        bench.go()
    elif kind == 9:
        _misdeed(bench, choices)
    elif kind == 10:
        _register(bench, choices)
    elif kind == 11:
        bench.reset(released=bool(choices.randrange(2)))
    elif kind == 12 and not bench.lost:
        bench.go()
    else:
        _other(bench, choices)


def _run(*, pci: bool, packed: bool) -> Run:
    def run(data: bytes) -> None:
        choices = Choices(data)
        bench = BlkBench(
            pci=pci,
            packed=packed,
            kind=choices.choice(tuple(Kind)),
            without=choices.choice(OFF) | choices.choice(OFF),
            write_cache=bool(choices.randrange(4)),
        )
        for _ in range(STEPS):
            if not choices.left:
                break
            _step(bench, choices)
        bench.works()
        bench.context.close()

    return run


def pci_split() -> Run:
    """A function, split rings."""
    return _run(pci=True, packed=False)


def pci_packed() -> Run:
    """A function, packed rings."""
    return _run(pci=True, packed=True)


def mmio_split() -> Run:
    """A window of registers, split rings."""
    return _run(pci=False, packed=False)


def mmio_packed() -> Run:
    """A window of registers, packed rings."""
    return _run(pci=False, packed=True)

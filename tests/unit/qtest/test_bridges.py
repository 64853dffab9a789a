"""Bridges of q35 and pc: buses behind them by number, windows of addresses, interrupts, resets."""

from __future__ import annotations

import pytest

from devmodels.options import OptionError
from tests.unit.qtest.bench import Client, machine

BRIDGE = "-device pcie-root-port,id=p0 -device pcie-pci-bridge,bus=p0,id=b1"
HOST = "-device virtio-scsi-pci,id=s0,bus=b1,addr=3"
WINDOW = 0xE000_0000
ABSENT = 0xFFFF_FFFF


def _config(client: Client, bus: int, slot: int, offset: int, value: int | None = None) -> int:
    client.ask(f"outl 0xcf8 {0x80000000 | bus << 16 | slot << 11 | offset:#x}")
    if value is None:
        return client.number("inl 0xcfc")
    client.ask(f"outl 0xcfc {value:#x}")
    return value


def _enumerate(client: Client) -> None:
    """Bus 1 behind the root port, bus 2 behind that one's bridge; both forward 1 MiB of memory."""
    for bus, slot, buses in ((0, 1, 0x020100), (1, 0, 0x020201)):
        _config(client, bus, slot, 0x18, buses)
        _config(client, bus, slot, 0x20, WINDOW >> 16 | WINDOW & 0xFFFF_0000)
        _config(client, bus, slot, 0x04, 0x7)


def test_buses_are_found_by_their_numbers() -> None:
    with machine("-M", "q35", "-nodefaults", *BRIDGE.split(), *HOST.split()) as client:
        assert _config(client, 0, 1, 0) == 0x000C_1B36
        assert _config(client, 0, 1, 0x0C) >> 16 & 0x7F == 1
        assert _config(client, 1, 0, 0) == ABSENT
        _enumerate(client)
        assert _config(client, 1, 0, 0) == 0x000E_1B36
        assert _config(client, 2, 3, 0) == 0x1004_1AF4
        assert _config(client, 3, 3, 0) == ABSENT
        client.board.machine.reset()
        assert _config(client, 1, 0, 0) == ABSENT
        _enumerate(client)
        assert _config(client, 2, 3, 0) == 0x1004_1AF4


def test_addresses_come_through_the_windows_alone() -> None:
    with machine("-M", "q35", "-nodefaults", *BRIDGE.split(), *HOST.split()) as client:
        _enumerate(client)
        _config(client, 2, 3, 0x20, WINDOW)
        _config(client, 2, 3, 0x04, 0x6)
        num_queues = f"readw {WINDOW + 0x12:#x}"
        assert client.number(num_queues) > 2
        _config(client, 2, 3, 0x20, WINDOW + (1 << 20))
        assert client.number(f"readw {WINDOW + (1 << 20) + 0x12:#x}") == 0
        _config(client, 2, 3, 0x20, WINDOW)
        _config(client, 0, 1, 0x04, 0)
        assert client.number(num_queues) == 0


def test_headers_are_as_on_qemu() -> None:
    """But for capabilities, of which there are none."""
    words = "-device ioh3420,addr=3 -device i82801b11-bridge,addr=4"
    with machine("-M", "q35", "-nodefaults", *words.split()) as client:
        headers = [[client.config(slot, 0, at) for at in (0, 8, 0x0C, 0x2C, 0x3C)] for slot in (3, 4)]
        assert headers == [
            [0x3420_8086, 0x0604_0002, 0x01_0000, 0, 0x0100],
            [0x244E_8086, 0x0604_0192, 0x01_0000, 0, 0],
        ]
        assert client.config(4, 0, 4) >> 16 == 0x00A0


def test_interrupts_come_out_at_the_bridges_own_slot() -> None:
    words = "-device pci-bridge,id=b1,addr=5 -device virtio-scsi-pci,id=s0,bus=b1,addr=3"
    with machine("-M", "pc", "-nodefaults", *words.split()) as client:
        board = client.board
        function = board.assembly.function("s0")
        assert function is not None
        _config(client, 0, 1, 0x60, 0x0B0A0905)
        assert client.ask("irq_intercept_in ioapic") == "OK"
        function.set_intx(True)
        # INTA# of slot 3 is INTD# of the bridge in slot 5: PIRQD of pc.
        client.board.context.run_until_idle()
        assert client.told() == "IRQ raise 11\n"
        function.set_intx(False)
        client.board.context.run_until_idle()
        assert client.told() == "IRQ lower 11\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("-device pci-bridge,id=b -device pci-bridge,id=b", "expected a name for the bridge"),
        ("-device pci-bridge,id=b,bus=nothing", 'Bus "nothing" not found'),
        ("-device pci-bridge,id=b,addr=1", "is taken"),
        ("-device pci-bridge,id=b,addr=1x", "addr '1x': expected a hexadecimal slot, or slot.function"),
        ("-device pci-bridge,id=b,addr=20", "there is no place 20.0"),
        ("-device pci-bridge,id=b,addr=-1", "there is no place"),
        (" ".join(f"-device pci-bridge,id=b{number}" for number in range(31)), "no PCI slot is free"),
    ],
)
def test_what_cannot_be_is_said(words: str, problem: str) -> None:
    with pytest.raises(OptionError, match=problem), machine("-M", "pc", "-nodefaults", *words.split()):
        pass

"""Display adapters and network cards that take their slots: which a command line has, and where that puts the next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devmodels.options import OptionError
from tests.unit.qtest.bench import Client, machine

VIRTIO = "-blockdev null-co,node-name=d0 -device virtio-blk,drive=d0"
ABSENT, BLK = 0xFFFF_FFFF, 0x1001_1AF4
VGA, CIRRUS, QXL, E1000, E1000E = 0x1111_1234, 0x00B8_1013, 0x0100_1B36, 0x100E_8086, 0x10D3_8086
RTL8139, PCNET, NET = 0x8139_10EC, 0x2000_1022, 0x1000_1AF4


def _identities(client: Client, first: int) -> list[int]:
    found = [client.config(slot, 0, 0) for slot in range(first, 31)]
    return [each for each in found if each != ABSENT]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", [VGA, E1000, BLK]),
        ("-nodefaults", [BLK]),
        ("-vga none", [E1000, BLK]),
        ("-vga none -vga cirrus,retrace=dumb", [CIRRUS, E1000, BLK]),
        ("-net none", [VGA, BLK]),
        ("-nic none", [VGA, BLK]),
        ("-netdev user,id=n", [VGA, BLK]),
        ("-net user", [VGA, BLK]),
        ("-nodefaults -vga std -net nic", [VGA, E1000, BLK]),
        ("-nodefaults -nic user,hostfwd=a,hostfwd=b", [E1000, BLK]),
        (
            "-vga none -net nic,model=pcnet -nic user,model=rtl8139 -nic model=virtio",
            [RTL8139, NET, PCNET, BLK],
        ),
        ("-nodefaults -net type=nic,addr=9", [BLK, E1000]),
        ("-nodefaults -nic user,model=ne2k_isa", [BLK]),
    ],
)
def test_what_is_before_the_devices_of_the_line_on_pc(line: str, expected: list[int]) -> None:
    with machine("-M", "pc", *line.split(), *VIRTIO.split()) as client:
        assert _identities(client, 2) == expected


def test_the_card_of_q35_is_another_one() -> None:
    with machine("-M", "q35", *VIRTIO.split()) as client:
        assert _identities(client, 1) == [VGA, E1000E, BLK]


def test_a_display_adapter_of_the_line_takes_the_defaults_place_and_a_card_does_not() -> None:
    with machine("-M", "pc", "-device", "qxl-vga", "-device", "e1000,netdev=n,addr=8") as client:
        assert _identities(client, 2) == [E1000, QXL, E1000]
        assert client.config(8, 0, 0) == E1000


def test_one_behind_a_bridge() -> None:
    words = "-M q35 -nodefaults -device pcie-root-port,id=r0 -device e1000e,bus=r0"
    with machine(*words.split()) as client:
        client.set_config(1, 0, 0x18, 0x0001_0100)
        client.ask(f"outl 0xcf8 {0x8001_0000:#x}")
        assert client.number("inl 0xcfc") == E1000E


def test_bars_have_sizes_and_nothing_behind_them() -> None:
    with machine("-M", "pc") as client:
        for offset, size in ((0x10, 0xFF00_0008), (0x18, 0xFFFF_F000), (0x30, 0xFFFF_0001)):
            client.set_config(2, 0, offset, ABSENT)
            assert client.config(2, 0, offset) == size
        client.board.machine.reset()
        assert [client.config(2, 0, offset) for offset in (0x10, 0x18, 0x30)] == [8, 0, 0]
        client.set_config(2, 0, 0x10, 0xE000_0000)
        client.set_config(2, 0, 4, 3)
        client.ask("writel 0xe0000000 1")
        assert client.number("readl 0xe0000000") == 0


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("-vga xx", "unknown vga type: xx"),
        ("-net nic,model=xx", "Unsupported NIC model: xx"),
        ("-nic user,model=VGA", "Unsupported NIC model: VGA"),
        ("-nic user,addr=7", "Invalid parameter 'addr'"),
        ("-net nic,addr=0", "taken"),
        ("-device e1000,bus=b9", "Bus .*b9.* not found"),
    ],
)
def test_what_cannot_be_is_said(line: str, problem: str) -> None:
    with pytest.raises(OptionError, match=problem), machine("-M", "pc", *line.split()):
        pass


def test_where_there_is_no_bus_there_are_none() -> None:
    with machine("-M", "none", "-vga", "std", "-net", "nic") as client:
        assert client.config(1, 0, 0) == ABSENT
    with (
        pytest.raises(OptionError, match="No 'PCI' bus found for device 'VGA'"),
        machine("-M", "none", "-device", "VGA"),
    ):
        pass


@pytest.mark.long
def test_without_any_their_table_is_not_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from devmodels.qtest.commandline import parse; from devmodels.qtest.assembling import Assembling\n"
        f"Assembling(parse({['-nodefaults', *VIRTIO.split()]})).build()\n"
        "print('devmodels.qtest.placeholders' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "False\n"

"""The boards: who is where, what firmware finds, interrupt lines and the client's clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from devmodels.options import OptionError
from tests.unit.qtest.bench import Client, machine

ABSENT = 0xFFFF_FFFF
AHCI_BAR = 0xE000_0000


def test_pc_has_its_functions_where_qemu_has_them() -> None:
    with machine("-machine", "pc") as client:
        ids = {
            (slot, function): client.config(slot, function, 0)
            for slot, function in ((0, 0), (1, 0), (1, 1), (1, 3))
        }
        assert ids == {(0, 0): 0x1237_8086, (1, 0): 0x7000_8086, (1, 1): 0x7010_8086, (1, 3): 0x7113_8086}
        assert client.config(1, 2, 0) == ABSENT
        assert client.config(1, 1, 8) >> 8 == 0x0101_80


def test_q35_has_its_functions_where_qemu_has_them() -> None:
    with machine("-M", "q35") as client:
        ids = {
            (slot, function): client.config(slot, function, 0)
            for slot, function in ((0, 0), (31, 0), (31, 2), (31, 3))
        }
        assert ids == {(0, 0): 0x29C0_8086, (31, 0): 0x2918_8086, (31, 2): 0x2922_8086, (31, 3): 0x2930_8086}
        assert client.config(31, 2, 0x24) == 0


def test_none_has_nothing() -> None:
    with machine("-machine", "none") as client:
        assert client.config(0, 0, 0) == ABSENT
        assert client.ask("writel 0 1") == "OK"
        assert client.ask("readl 0") == "OK 0x0000000000000000"
        with pytest.raises(OptionError, match="No 'PCI' bus found for device 'virtio-blk-pci'"):
            client.assembling.device({"driver": "virtio-blk-pci"})


def test_the_window_onto_configuration_space_is_switched_on() -> None:
    with machine("-machine", "q35") as client:
        assert client.ask("readl 0xb00fa000") == "OK 0x0000000000000000"
        client.set_config(0, 0, 0x60, 0xB000_0001)
        assert client.ask("readl 0xb00fa000") == "OK 0x0000000029228086"
        assert client.ask("readl 0xb0100000") == "OK 0x00000000ffffffff"
        client.set_config(0, 0, 0x60, 0xC000_0001)
        assert client.ask("readl 0xc00fa000") == "OK 0x0000000029228086"
        assert client.ask("readl 0xb00fa000") == "OK 0x0000000000000000"


@pytest.mark.parametrize(("option", "size"), [("128", 128 << 20), ("1G", 1 << 30), ("size=16M", 16 << 20)])
def test_firmware_is_told_of_memory(option: str, size: int) -> None:
    with machine("-m", option) as client:
        client.ask("outw 0x510 3")
        assert bytes(client.number("inb 0x511") for _ in range(8)) == size.to_bytes(8, "little")
        assert client.ask("inb 0x511") == "OK 0x0000"


def test_firmware_reads_bytes_of_an_item_from_either_port() -> None:
    with machine("-M", "pc", "-nodefaults") as client:
        assert [client.ask(f"inb {port}") for port in (0x510, 0x511, 0x510)] == [
            "OK 0x0051",
            "OK 0x0045",
            "OK 0x004d",
        ]


def test_memory_that_does_not_fit_below_4_gib_goes_on_above() -> None:
    with machine("-M", "q35", "-m", "3G") as client:
        assert client.ask("writel 0x7ffffffc 1") == "OK"
        assert client.ask("readl 0x7ffffffc") == "OK 0x0000000000000001"
        client.ask("writeq 0x13ffffff8 2")
        assert client.ask("readq 0x13ffffff8") == "OK 0x0000000000000002"
        assert client.ask("readl 0x80000000") == "OK 0x0000000000000000"


def test_the_clock_is_the_clients() -> None:
    with machine("-machine", "pc") as client:
        assert client.ask("clock_step") == "OK 0"
        assert client.ask("clock_step 100") == "OK 100"
        assert client.ask("clock_set 0x100") == "OK 256"
        assert client.ask("clock_set 1") == "FAIL 256"
        assert client.ask("clock_step -1") == "FAIL time goes forwards only"
        client.board.context.call_at(1000, lambda: client.board.qtest.tell("due\n"))
        assert client.ask("clock_step 700") == "OK 956"
        assert client.ask("clock_step") == "due\nOK 1000"


def test_time_that_goes_on_by_itself_is_nobodys() -> None:
    with machine("-machine", "pc,accel=tcg") as client:
        assert client.ask("clock_step 1") == "FAIL Unknown command 'clock_step'"


def _enable_hba(client: Client) -> None:
    client.set_config(31, 2, 0x24, AHCI_BAR)
    client.set_config(31, 2, 4, 6)
    client.ask(f"writel {AHCI_BAR + 4:#x} 0x80000002")


def test_an_hbas_interrupt_is_told_before_the_answer() -> None:
    with machine(
        "-M", "q35", "-blockdev", "null-co,node-name=d0", "-device", "ide-hd,drive=d0,bus=ide.3"
    ) as client:
        assert client.ask("irq_intercept_in ioapic") == "OK"
        _enable_hba(client)
        port = AHCI_BAR + 0x100 + 3 * 0x80
        client.ask(f"writel {port + 0x14:#x} 0xffffffff")
        # The drive's first FIS comes when the port begins to receive.
        client.ask(f"writel {port + 8:#x} 0x2000")
        assert client.ask(f"writel {port + 0x18:#x} 0x10") == "IRQ raise 16\nOK"
        client.ask(f"writel {port + 0x10:#x} 0xffffffff")
        assert client.ask(f"writel {AHCI_BAR + 8:#x} 0xffffffff") == "IRQ lower 16\nOK"


def test_unaligned_and_long_accesses_of_registers_are_taken_apart() -> None:
    with machine("-M", "q35") as client:
        _enable_hba(client)
        whole = client.ask(f"read {AHCI_BAR:#x} 0x10").removeprefix("OK 0x")
        parts = [
            client.number(f"readl {AHCI_BAR + at:#x}").to_bytes(4, "little").hex() for at in range(0, 16, 4)
        ]
        assert whole == "".join(parts)
        assert client.ask(f"readq {AHCI_BAR:#x}") == f"OK 0x{bytes.fromhex(whole[:16])[::-1].hex()}"
        assert client.ask(f"read {AHCI_BAR + 1:#x} 0x6") == f"OK 0x{whole[2:14]}"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("-m 1000G", "-m: "),
        ("-machine pc,nonsense=1", "Property '.nonsense' not found"),
        (
            "-global virtio-blk-pci.nonsense=y -drive if=virtio,driver=null-co,size=1M",
            "can't apply global virtio-blk-pci.nonsense=y",
        ),
        (
            "-drive if=none,id=d,driver=null-co,size=1M -device ide-hd,drive=d,lsecs=x",
            'lsecs: "x" is given; expected a number',
        ),
        ("-drive if=none,file=json:{\udcff", "file: .* is given; expected UTF-8"),
    ],
)
def test_what_cannot_be_is_said(words: str, problem: str) -> None:
    with pytest.raises(OptionError, match=problem), machine("-M", "pc", "-nodefaults", *words.split()):
        pass


def test_images_of_other_formats_are_one_line(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"QFI\xfb" + bytes(508))
    drive = f"if=none,id=d,file={image}"
    with (
        pytest.raises(OptionError, match='format: Unknown driver "qcow2"; expected raw'),
        machine("-drive", f"{drive},format=qcow2"),
    ):
        pass
    with (
        pytest.raises(OptionError, match="is of the format qcow2; there are no image formats here"),
        machine("-drive", f"if=none,id=d,file=blkdebug::{image}"),
    ):
        pass
    with machine("-M", "pc", "-drive", f"{drive},format=raw") as client:
        assert client.assembling.drives["d"].node is not None


@pytest.mark.parametrize(
    "words",
    [
        "-hda /dev/null",
        "-cdrom /dev/null",
        "-drive if=none,id=d0,file=blkdebug::/dev/zero,format=raw -device virtio-blk-pci,drive=d0",
        "-drive if=none,id=d0,file=host_device:/dev/null -device virtio-scsi-pci -device scsi-hd,drive=d0",
        "-drive if=none,id=d0,file=/dev/null,format=raw -device ich9-ahci,id=a -device ide-hd,bus=a.0,drive=d0",
        "-snapshot -drive if=virtio,file=/dev/null,format=raw",
    ],
)
def test_a_device_of_the_host_is_an_image(words: str) -> None:
    with machine("-M", "pc", "-nodefaults", *words.split()) as client:
        (drive,) = client.assembling.drives.values()
        assert "'driver': 'host_device'" in str(drive.node)
        assert client.ask("endianness") == "OK little"


def test_two_commas_are_one_of_a_value(tmp_path: Path) -> None:
    (tmp_path / "a,file=b").write_bytes(bytes(512))
    with machine("-M", "pc", "-drive", f"if=none,id=d,format=raw,file={tmp_path}/a,,file=b") as client:
        node = client.assembling.drives["d"].node
        assert node is not None
        assert node["file"] == {"driver": "file", "filename": f"{tmp_path}/a,file=b"}
    with (
        pytest.raises(OptionError, match='node-name: "a," is given'),
        machine("-drive", "id=a,,,file=null-co://"),
    ):
        pass

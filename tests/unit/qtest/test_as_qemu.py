"""Where QEMU departs from the specifications and its own tests look, the stand-in departs with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from devmodels.options import OptionError
from tests.unit.qtest.bench import Client, machine

BUSY, DRDY, DSC, DRQ, ERR = 0x80, 0x40, 0x10, 0x08, 0x01
MASTER = 0xC000
DISK = "-blockdev null-co,node-name=d0,size=1048576 -device ide-hd,drive=d0,bus=ide.0"
REGION = 0x10_0000
TABLE = 0x20_0000


def _master(client: Client, command: int) -> None:
    """Give the bus master an address, and may it be one."""
    client.set_config(1, 1, 0x20, MASTER)
    client.set_config(1, 1, 4, command)


def _read_dma(client: Client, sectors: int, region: int) -> None:
    client.ask(f"writeq {TABLE:#x} {(0x8000_0000 | region) << 32 | REGION:#x}")
    client.ask(f"outl {MASTER + 4:#x} {TABLE:#x}")
    for port, value in ((0x1F6, 0x40), (0x1F2, sectors), (0x1F3, 0), (0x1F4, 0), (0x1F5, 0), (0x1F7, 0xC8)):
        client.ask(f"outb {port:#x} {value:#x}")
    client.ask(f"outb {MASTER:#x} 0x9")


def test_a_device_that_works_shows_drdy() -> None:
    with machine("-machine", "pc", *DISK.split()) as client:
        client.board.qtest.feed(b"outb 0x1f7 0xe7\ninb 0x1f7\n")
        assert client.told() == f"OK\nOK 0x{BUSY | DRDY:04x}\n"
        client.board.context.run_until_idle()
        assert client.number("inb 0x1f7") == DRDY | DSC


def test_a_table_that_is_too_short_ends_the_command() -> None:
    with machine("-machine", "pc", *DISK.split()) as client:
        _master(client, 5)
        _read_dma(client, 2, 512)
        assert client.number(f"inb {MASTER + 2:#x}") == 0
        assert client.number("inb 0x1f7") == DRDY | DSC
        client.ask(f"outb {MASTER:#x} 0")
        _read_dma(client, 2, 1024)
        assert client.number(f"inb {MASTER + 2:#x}") == 4


def test_without_bus_mastering_data_goes_nowhere() -> None:
    with machine("-machine", "pc", *DISK.split()) as client:
        _master(client, 1)
        client.ask(f"memset {REGION:#x} 512 0x5a")
        _read_dma(client, 1, 512)
        assert client.number(f"inb {MASTER + 2:#x}") == 5
        assert client.number("inb 0x1f7") == DRDY | DSC
        assert client.ask(f"read {REGION:#x} 4") == "OK 0x5a5a5a5a"


def test_a_trim_whose_count_was_written_once() -> None:
    with machine("-machine", "pc", *DISK.split()) as client:
        _master(client, 5)
        client.ask(f"writeq {TABLE:#x} {(0x8000_0000 | 512) << 32 | REGION:#x}")
        client.ask(f"outl {MASTER + 4:#x} {TABLE:#x}")
        for port, value in ((0x1F6, 0x40), (0x1F1, 1), (0x1F2, 1), (0x1F7, 6), (MASTER, 1)):
            client.ask(f"outb {port:#x} {value:#x}")
        assert client.number(f"inb {MASTER + 2:#x}") == 4
        assert client.number("inb 0x1f7") == DRDY | DSC


def test_a_drive_has_nothing_to_tell_after_power_on(tmp_path: Path) -> None:
    image = tmp_path / "cd.iso"
    image.write_bytes(b"block" + bytes(2043))
    drive = f"-drive if=none,id=c,media=cdrom,file={image} -device ide-cd,drive=c,bus=ide.0"
    with machine("-machine", "pc", *drive.split()) as client:
        client.ask("outb 0x1f5 8")
        client.ask("outb 0x1f7 0xa0")
        for word in (0x0028, 0, 0, 0, 1, 0):
            client.ask(f"outw 0x1f0 {word:#x}")
        assert client.number("inb 0x1f7") & (DRQ | ERR) == DRQ
        assert client.number("inw 0x1f0").to_bytes(2, "little") == b"bl"


def test_disks_that_name_no_bus_are_on_the_last_one() -> None:
    nodes = [word for at in range(2) for word in ("-blockdev", f"null-co,node-name=d{at}")]
    disks = [word for at in range(2) for word in ("-device", f"ide-hd,drive=d{at},id=disk{at}")]
    with machine("-machine", "pc", "-nodefaults", *nodes, *disks) as client:
        units = client.board.assembly.ata_units
        assert [(units[name].bus_name, units[name].unit) for name in ("disk0", "disk1")] == [
            ("ide.1", 0),
            ("ide.1", 1),
        ]
    with machine("-machine", "q35", "-nodefaults", *nodes[:2], *disks[:2]) as client:
        assert client.board.assembly.ata_units["disk0"].bus_name == "ide.5"


@pytest.mark.parametrize("bus", ["", ",bus=ide.5"])
def test_a_port_of_an_hba_has_one_device(bus: str) -> None:
    disk = "-blockdev null-co,node-name=d{0} -device ide-hd,drive=d{0}{1}"
    with (
        pytest.raises(OptionError, match="Can't create IDE unit 1, bus supports only 1 units"),
        machine("-M", "q35", "-nodefaults", *disk.format(0, bus).split(), *disk.format(1, bus).split()),
    ):
        pass


DISK_D = "-blockdev null-co,node-name=d -device virtio-blk-pci,drive=d"


@pytest.mark.parametrize(
    "words",
    [
        f"{DISK_D},share-rw=on,ioeventfd=off,page-per-vq=off",
        f"{DISK_D} -global virtio-blk-pci.ioeventfd=on",
        "-device virtio-scsi-pci,ioeventfd=on",
        "-blockdev null-co,node-name=d -device ide-hd,drive=d,share_rw=on",
        "-mem-prealloc -mem-path /tmp",
    ],
)
def test_what_means_nothing_here_is_taken(words: str) -> None:
    with machine("-M", "pc", "-nodefaults", *words.split()) as client:
        assert client.number("inb 0x70") == 0xFF


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (f"{DISK_D},ioeventfd=maybe", "Parameter 'ioeventfd' expects 'on' or 'off'"),
        (f"{DISK_D},page-per-vq=on", "page-per-vq: no such option"),
        ("-device virtio-scsi-pci,share-rw=on", "share-rw: no such option"),
    ],
)
def test_what_would_mean_something_is_not(words: str, problem: str) -> None:
    with pytest.raises(OptionError, match=problem), machine("-M", "pc", "-nodefaults", *words.split()):
        pass


def test_an_iothread_is_there_by_name_where_the_client_owns_the_clock() -> None:
    words = "-object iothread,id=t0 -device virtio-scsi-pci,id=s0,iothread=t0 -nodefaults"
    with machine("-machine", "pc", *words.split()) as client:
        assert client.board.assembly.graph.iothreads.by_id == {}
        assert list(client.board.assembly.devices) == ["s0"]


def test_a_file_name_and_what_is_said_of_the_nodes_below_it() -> None:
    drive = "file=blkdebug::null-co://,file.image.read-zeroes=on,file.align=4k,if=none,id=d,format=raw"
    with machine("-machine", "pc", "-nodefaults", "-drive", drive) as client:
        node = client.board.assembly.graph.nodes["d"]
        assert node.size == 1 << 30


def _packet(client: Client, opcode: int) -> int:
    """Send a command packet without data; the error register at its end."""
    client.ask("outb 0x1f7 0xa0")
    for word in (opcode, 0, 0, 0, 0, 0):
        client.ask(f"outw 0x1f0 {word:#x}")
    return client.number("inb 0x1f1") if client.number("inb 0x1f7") & ERR else 0


def test_of_another_medium_the_guest_hears_twice(tmp_path: Path) -> None:
    image = tmp_path / "cd.iso"
    image.write_bytes(bytes(2048))
    drive = f"-drive if=none,id=c,media=cdrom,file={image} -device ide-cd,id=cd0,drive=c,bus=ide.0"
    with machine("-machine", "pc", *drive.split()) as client:
        tray = client.board.assembly.drives["cd0"].tray
        assert tray is not None
        assert _packet(client, 0x00) == 0
        tray.user_opens()
        assert _packet(client, 0x00) >> 4 == 2
        tray.user_closes()
        assert [_packet(client, 0x00) >> 4 for _ in range(3)] == [2, 6, 0]


def test_what_waits_for_a_limit_is_written_by_a_reset(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4096))
    drive = f"-drive if=none,id=d,format=raw,file={image},throttling.bps-write=512"
    with machine("-machine", "pc", *drive.split(), "-device", "ide-hd,drive=d,bus=ide.0") as client:
        for sector in range(2):
            for port, value in (
                (0x1F6, 0x40),
                (0x1F2, 1),
                (0x1F3, sector),
                (0x1F4, 0),
                (0x1F5, 0),
                (0x1F7, 0x30),
            ):
                client.ask(f"outb {port:#x} {value:#x}")
            for _ in range(256):
                client.ask("outw 0x1f0 0x5a5a")
        assert image.read_bytes()[512:1024] == bytes(512)
        client.ask("outb 0x3f6 4")
        client.ask("outb 0x3f6 0")
        assert client.number("inb 0x1f7") == DRDY | DSC
        assert image.read_bytes()[512:1024] == b"\x5a" * 512

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
        (f"{DISK_D},page-per-vq=on", "page-per-vq=on is given; here it is always off"),
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


REQUEST_SENSE = 0x03


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
        assert [_packet(client, 0x00) >> 4 for _ in range(4)] == [2, 6, 6, 6]
        assert [_packet(client, opcode) for opcode in (REQUEST_SENSE, 0x00)] == [0, 0]


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


BLK = "-blockdev null-co,node-name=d,size=1048576 -device virtio-blk-pci,drive=d,addr=4"


def test_configuration_beyond_its_end_reads_all_ones() -> None:
    with machine("-machine", "pc", *BLK.split(), *["-device", "virtio-scsi-pci,addr=5"]) as client:
        for slot, base in ((4, 0xC000), (5, 0xC100)):
            client.set_config(slot, 0, 0x10, base)
            client.set_config(slot, 0, 0x20, 0xE000_0000 + base * 256)
            client.set_config(slot, 0, 4, 7)
        # write_zeroes_may_unmap, at 56, is the last field; what is not aligned comes in pieces.
        for request, value in (
            ("readb 0xe0c02038", 1),
            ("readw 0xe0c02038", 0xFFFF),
            ("readl 0xe0c02038", 0xFFFF_FFFF),
            ("readl 0xe0c02ffc", 0xFFFF_FFFF),
            ("readl 0xe0c12020", 0x3FFF),
            ("readl 0xe0c12022", 0xFFFF_0000),
            ("readl 0xe0c12024", 0xFFFF_FFFF),
            ("inl 0xc04c", 0xFFFF_FFFF),
            ("inb 0xc04c", 1),
            ("inl 0xc138", 0xFFFF_FFFF),
        ):
            assert client.number(request) == value, request


@pytest.mark.parametrize(
    ("options", "end"),
    [("", 57), (",discard=off", 57), (",write-zeroes=off", 48), (",discard=off,write-zeroes=off", 36)],
)
def test_configuration_ends_where_its_last_feature_does(options: str, end: int) -> None:
    with machine("-machine", "pc", *(BLK + options).split()) as client:
        client.set_config(4, 0, 0x10, 0xC000)
        client.set_config(4, 0, 4, 1)
        read = [client.number(f"inb {0xC014 + offset:#x}") for offset in range(end - 1, 60)]
        assert read[0] != 0xFF
        assert read[1:] == [0xFF] * (60 - end)


def test_a_discard_and_a_write_zeroes_have_one_segment() -> None:
    with machine("-machine", "pc", *BLK.split()) as client:
        client.set_config(4, 0, 0x10, 0xC000)
        client.set_config(4, 0, 4, 7)
        assert (client.number("inl 0xc03c"), client.number("inl 0xc048")) == (1, 1)
        client.ask("outb 0xc012 3")
        client.ask("outl 0xc004 0x6000")
        client.ask("outb 0xc012 7")
        client.ask("outl 0xc008 0x10")
        chain = ((0x20000, 16, 1, 1), (0x21000, 32, 1, 2), (0x22000, 1, 2, 0))
        for number, (address, size, flags, follows) in enumerate(chain):
            client.ask(f"writeq {0x10000 + 16 * number:#x} {address:#x}")
            client.ask(f"writeq {0x10008 + 16 * number:#x} {size | flags << 32 | follows << 48:#x}")
        client.ask("writel 0x20000 11")
        for segment in (0x21000, 0x21010):
            client.ask(f"writeq {segment + 8:#x} 8")
        client.ask("writeb 0x22000 0xff")
        client.ask("writel 0x11000 0x10000")
        client.ask("outw 0xc010 0")
        unsupported = 2
        assert client.number("readb 0x22000") == unsupported


def test_a_legacy_device_keeps_features_ok() -> None:
    with machine("-machine", "pc", *BLK.split()) as client:
        client.set_config(4, 0, 0x10, 0xC000)
        client.set_config(4, 0, 4, 7)
        client.ask("outl 0xc004 0x6000")
        client.ask("outb 0xc012 0xf")
        assert client.number("inb 0xc012") == 0xF
        client.ask("outl 0xc004 0x2000")
        assert client.number("inl 0xc004") == 0x6000


def test_a_bus_master_s_command_and_status_are_there_for_bytes_only() -> None:
    with machine("-machine", "pc", *DISK.split()) as client:
        _master(client, 5)
        client.ask(f"outl {MASTER + 4:#x} 0x12345678")
        for offset, size, value in (
            (0, "b", 0),
            (1, "b", 0xFF),
            (3, "b", 0xFF),
            (0, "w", 0xFFFF),
            (1, "w", 0x00FF),
            (2, "w", 0xFFFF),
            (0, "l", 0xFFFF_FFFF),
            (1, "l", 0x78FF_FFFF),
            (2, "l", 0x5678_FFFF),
            (4, "l", 0x1234_5678),
            (6, "l", 0xFFFF_1234),
            (7, "l", 0x00FF_FF12),
        ):
            assert client.number(f"in{size} {MASTER + offset:#x}") == value, (offset, size)
        client.ask(f"outw {MASTER + 2:#x} 0x60")
        client.ask(f"outl {MASTER:#x} 0x600008")
        assert (client.number(f"inb {MASTER:#x}"), client.number(f"inb {MASTER + 2:#x}")) == (0, 0)
        client.ask(f"outl {MASTER + 3:#x} 0xaabbccdd")
        assert client.number(f"inl {MASTER + 4:#x}") == 0x12AA_BBCC


@pytest.mark.parametrize("opcode", [0x20, 0x24])
def test_a_read_that_works_shows_dsc_too(opcode: int) -> None:
    with machine("-machine", "pc", *DISK.split()) as client:
        client.board.qtest.feed(f"outb 0x1f2 1\noutb 0x1f7 {opcode:#x}\ninb 0x1f7\n".encode())
        assert client.told() == f"OK\nOK\nOK 0x{BUSY | DRDY | DSC:04x}\n"

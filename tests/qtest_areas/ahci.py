"""AHCI, over q35's HBA: what QEMU's program for it looks at (AHCI 1.3.1, ACS-3)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from guestsim.drivers.ahci_layouts import D2H, Cmd, Ghc, Hba, PortReg
from guestsim.drivers.ata import AtaCommand, read_queued, write_queued
from tests.qtest_areas.bench import Area, Bench, Machine, pattern
from tests.qtest_areas.hba import ByHand

AREA = Area("AHCI", 75)
SIZE = 200 << 30
"""As large as the image of QEMU's program, so that there are sectors beyond 28 bits; ours is raw, and sparse."""
SECTORS = SIZE // 512
CD_BLOCK = 2048
FLUSH_CACHE = AtaCommand(0xE7)
PACKETS = {"test-unit-ready": (0x00,), "eject": (0x1B, 0, 0, 0, 2), "load": (0x1B, 0, 0, 0, 3)}
CAP_MSI, CAP_SATA, CAP_PM = 0x05, 0x12, 0x01


def _machine(bench: Bench, *more: str, drive: str = "", device: str = "ide-hd", board: str = "") -> Machine:
    image = bench.image(SIZE) if not drive else ""
    given = drive or f"file={image},cache=writeback,format=raw"
    settings = ("-global ide-hd.serial=testdisk", "-global ide-hd.ver=version")
    return bench.machine(
        "q35", board, f"-drive if=none,id=drive0,{given}", f"-device {device},drive=drive0", *settings, *more
    )


def _disk(bench: Bench) -> ByHand:
    return ByHand(_machine(bench)).up()


# --- the function and its registers


@AREA.does("the HBA is where it belongs")
def sanity(bench: Bench) -> None:
    ByHand(_machine(bench))


def _check_function(hba: ByHand) -> None:
    """Configuration space as after power on (AHCI 1.3.1 §2.1)."""
    assert hba.config(0x04, 2) & 0xFFEE == 0
    status = hba.config(0x06, 2)
    assert status & 0x10
    assert status & 0xF94F == 0, f"status {status:#x}"
    assert hba.config(0x08) >> 8 == 0x0106_01
    assert hba.config(0x0C, 2) == 0
    assert (hba.config(0x0E, 1) | hba.config(0x0F, 1)) & 0x7F == 0
    assert hba.config(0x24) == 0
    hba.set_config(0x24, 4, 0xFFFF_FFFF)
    assert hba.config(0x24) & 0xFF == 0
    assert 0 < hba.config(0x34) < 0x100
    _check_capabilities(hba, hba.capabilities())
    assert hba.config(0x38) == 0
    assert hba.config(0x3C, 1) == 0


def _check_capabilities(hba: ByHand, capabilities: dict[int, int]) -> None:
    assert next(iter(capabilities)) == CAP_MSI
    msi, sata = capabilities[CAP_MSI], capabilities[CAP_SATA]
    control = hba.config(msi + 2, 2)
    assert control & 0xFE71 == 0, f"MSI control {control:#x}"
    wide = bool(control & 0x80)
    assert hba.config(msi + 4) == 0
    assert not wide or hba.config(msi + 8) == 0
    assert hba.config(msi + (12 if wide else 8), 2) == 0
    assert hba.config(sata + 2, 2) == 0x0010
    location = hba.config(sata + 4)
    assert location & 0xF in (4, 5, 6, 7, 8, 9, 15)
    assert location >> 24 == 0
    power = capabilities.get(CAP_PM)
    assert power is None or hba.config(power + 4, 2) & 0x7EFF == 0


@AREA.does("configuration space after power on: command, status, class, BAR 5, capabilities one by one")
def pci_spec(bench: Bench) -> None:
    _check_function(ByHand(_machine(bench)))


@AREA.does(
    "BAR 5 is sized and placed, memory, I/O and bus mastering are switched on, bytes 90h to 93h written"
)
def pci_enable(bench: Bench) -> None:
    hba = ByHand(_machine(bench))
    size = hba.enable_function()
    assert size >= 0x200, size
    ports = hba.read(Hba.PI)
    enabled = hba.config(0x92, 1) | ports & 0x3F
    hba.set_config(0x92, 1, enabled)
    assert hba.config(0x92, 1) & 0x3F == enabled & 0x3F


def _check_registers(hba: ByHand) -> None:
    """Those of the HBA and of its ports before anybody has brought them up (AHCI 1.3.1 §3.1, §3.3)."""
    cap, ghc = hba.read(Hba.CAP), hba.read(Hba.GHC)
    assert ghc & (Ghc.HR | Ghc.IE | Ghc.MRSM) == 0
    assert bool(ghc & Ghc.AE) == bool(cap & 1 << 18)
    assert hba.read(Hba.IS) == 0
    ports = hba.read(Hba.PI)
    assert 0 < ports.bit_count() <= (cap & 0x1F) + 1
    assert hba.read(Hba.VS) in (0x905, 0x10000, 0x10100, 0x10200, 0x10300)
    assert cap & 1 << 7 or hba.read(0x14) == 0
    assert hba.read(0x18) == 0
    assert cap & 1 << 6 or (hba.read(0x1C), hba.read(0x20)) == (0, 0)
    assert hba.read(Hba.CAP2) & ~0x3F == 0
    rest = {register: hba.read(register) for register in range(0x28, 0x100, 4)}
    assert not any(rest.values()), rest
    for port in range(30):
        if ports >> port & 1:
            _check_port(hba, port, cap)
        else:
            assert not any(hba.get(register, port) for register in range(0, 0x80, 4)), f"port {port}"


ZERO = (PortReg.IS, PortReg.IE, 0x1C, PortReg.SCTL, PortReg.SERR, PortReg.SACT, PortReg.CI, 0x3C)


def _check_port(hba: ByHand, port: int, cap: int) -> None:
    assert hba.get(PortReg.CLB, port) & 0x3FF == 0
    assert hba.get(PortReg.FB, port) & 0xFF == 0
    assert cap >> 31 or (hba.get(PortReg.CLBU, port), hba.get(PortReg.FBU, port)) == (0, 0)
    values = {int(register): hba.get(register, port) for register in ZERO}
    assert not any(values.values()), (port, values)
    command = hba.get(PortReg.CMD, port)
    clear = Cmd.FRE | Cmd.FR | Cmd.CR | Cmd.ATAPI | 0x1FE0 | 1 << 17 | 1 << 23 | 0xFE00_0000
    assert command & clear == 0, f"PxCMD {command:#x}"
    assert cap & 1 << 28 or command & (1 << 13 | 1 << 19) == 0
    task = hba.get(PortReg.TFD, port)
    assert task == 0x7F, f"PxTFD of port {port} {task:#x}"
    assert hba.get(PortReg.SSTS, port) & ~0xFFF == 0
    assert hba.get(0x40, port) & 0xFFFF_0F07 == 0
    assert not any(hba.get(register, port) for register in range(0x44, 0x70, 4))


@AREA.does(
    "every register of the HBA and of its ports after power on; those of ports that are not there read 0"
)
def hba_spec(bench: Bench) -> None:
    hba = ByHand(_machine(bench))
    hba.enable_function()
    _check_registers(hba)


@AREA.does("AHCI mode, memory for each port, FIS receive and command list switched on, each step seen")
def hba_enable(bench: Bench) -> None:
    hba = ByHand(_machine(bench))
    hba.enable_function()
    hba.enable()
    assert hba.get(PortReg.SSTS) & 0xF == 3


def _check_identity(hba: ByHand) -> None:
    data = hba.identity()
    text = b"".join(bytes(reversed(data[at : at + 2])) for at in range(0, 512, 2))
    assert text[20:40] == b"testdisk".ljust(20)
    assert text[46:54] == b"version "
    assert int.from_bytes(data[10:12], "little") == 512


@AREA.does("IDENTIFY DEVICE: serial number, version, size of a sector")
def identify(bench: Bench) -> None:
    hba = ByHand(_machine(bench))
    hba.enable_function()
    hba.enable()
    hba.clear()
    _check_identity(hba)


# --- reading and writing


class Way(NamedTuple):
    """How data is moved: opcodes of reading and writing, by PIO or not, with 28 or 48 bits of address."""

    read: int
    write: int
    pio: bool
    wide: bool


WAYS = {
    "pio/lba28": Way(0x20, 0x30, True, False),
    "pio/lba48": Way(0x24, 0x34, True, True),
    "dma/lba28": Way(0xC8, 0xCA, False, False),
    "dma/lba48": Way(0x25, 0x35, False, True),
}
LENGTHS = {"simple": 4096, "double": 8192, "long": 4096 * 64, "short": 512}


def _command(opcode: int, lba: int, length: int, *, wide: bool, out: bytes = b"") -> AtaCommand:
    """As QEMU's program has it: all of a count of 512 sectors, also with 28 bits of address."""
    device = 0x40 | (0 if wide else lba >> 24 & 0xF)
    address = lba if wide else lba & 0xFF_FFFF
    room = 0 if out else length
    return AtaCommand(opcode, count=length // 512, lba=address, device=device, out=out, room=room)


def _round(hba: ByHand, way: Way, lba: int, data: bytes, piece: int = 4 << 20) -> None:
    """Write, and read what was written."""
    hba.clear()
    hba.write_out(_command(way.write, lba, len(data), wide=way.wide, out=data), pio=way.pio, piece=piece)
    got = hba.read_in(_command(way.read, lba, len(data), wide=way.wide), pio=way.pio, piece=piece)
    assert got == data


def _io(bench: Bench, *, way: Way, length: int, place: str) -> None:
    last = min(SECTORS - 1, (1 << 48 if way.wide else 1 << 28) - 1)
    lba = {"zero": 0, "low": 1, "high": last - length // 512 + 1}[place]
    _round(_disk(bench), way, lba, pattern(length))


def _add_rounds() -> None:
    places = {"zero": "sector 0", "low": "sector 1", "high": "the last sectors that have addresses"}
    for name, way in WAYS.items():
        how = f"{'PIO' if way.pio else 'DMA'} with {48 if way.wide else 28} bits of address"
        for word, length in LENGTHS.items():
            for place, where in places.items():
                what = f"{length} bytes written and read by {how}, at {where}"
                AREA.add(f"io/{name}/{word}/{place}", what, partial(_io, way=way, length=length, place=place))


_add_rounds()


@AREA.does("4096 bytes by DMA in regions of 32 bytes")
def io_dma_fragmented(bench: Bench) -> None:
    _round(_disk(bench), WAYS["dma/lba28"], 0, pattern(4096), piece=32)


def _queued(hba: ByHand, data: bytes) -> None:
    hba.clear()
    hba.write_out(write_queued(0, data))
    assert hba.read_in(read_queued(0, len(data) // 512)) == data


@AREA.does("WRITE FPDMA QUEUED and READ FPDMA QUEUED: Set Device Bits alone tells of their end")
def io_ncq_simple(bench: Bench) -> None:
    _queued(_disk(bench), pattern(4096))


# --- flushes, errors


def _dirty(hba: ByHand) -> None:
    hba.write_out(_command(0xCA, 1, 512, wide=False, out=pattern(512, 9)))


@AREA.does("FLUSH CACHE after a write")
def flush_simple(bench: Bench) -> None:
    hba = _disk(bench)
    hba.clear()
    _dirty(hba)
    hba.do(FLUSH_CACHE)


STOPPING = "cache=writeback,rerror=stop,werror=stop"


def _failing(bench: Bench, event: str) -> ByHand:
    """A disk whose first `event` fails, and stops the machine."""
    config = bench.failing_once(event)
    drive = f"file=blkdebug:{config}:{bench.image(SIZE)},format=raw,{STOPPING}"
    return ByHand(_machine(bench, drive=drive)).up()


def _resume(hba: ByHand) -> None:
    hba.machine.cont()
    hba.machine.wait_event("RESUME")


@AREA.does("a flush that fails stops the machine; after cont it is done again, and ends well")
def flush_retry(bench: Bench) -> None:
    hba = _failing(bench, "flush_to_disk")
    hba.clear()
    _dirty(hba)
    issued = hba.issue(FLUSH_CACHE, 0)
    hba.machine.wait_event("STOP")
    _resume(hba)
    hba.end(issued)


def _write(data: bytes, *, queued: bool) -> AtaCommand:
    return write_queued(0, data) if queued else _command(0xCA, 0, len(data), wide=False, out=data)


def _read(length: int, *, queued: bool) -> AtaCommand:
    return read_queued(0, length // 512) if queued else _command(0xC8, 0, length, wide=False)


def _halted(bench: Bench, *, queued: bool) -> None:
    hba = _failing(bench, "write_aio")
    hba.clear()
    data = pattern(4096)
    issued = hba.issue(_write(data, queued=queued), hba.put(data))
    hba.machine.wait_event("STOP")
    _resume(hba)
    hba.end(issued)
    assert hba.read_in(_read(4096, queued=queued)) == data


AREA.add(
    "io-dma-retry",
    "a write by DMA that fails stops the machine; after cont it lands",
    partial(_halted, queued=False),
)
AREA.add(
    "io-ncq-retry",
    "a queued write that fails stops the machine; after cont it lands",
    partial(_halted, queued=True),
)


# --- migration


def _migrate(hba: ByHand, there: Machine, bench: Bench, *, running: bool = True) -> None:
    """To a machine that waits for it; afterwards all is as it was."""
    before = _fingerprint(hba)
    here = hba.machine
    here.qmp("migrate", {"uri": f"unix:{bench.folder}/migration"})
    if running:
        here.wait_event("STOP")
        there.wait_event("RESUME")
    for machine in (here, there):
        _wait_migrated(machine)
    hba.machine = there
    assert _fingerprint(hba) == before


def _wait_migrated(machine: Machine) -> None:
    state: object = None
    for _ in range(2000):
        found = machine.qmp("query-migrate")
        state = found.get("status") if isinstance(found, dict) else None
        if state in ("completed", "failed"):
            break
        machine.advance()
    assert state == "completed", state


def _fingerprint(hba: ByHand) -> tuple[object, ...]:
    if not hba.lists:
        return (hba.config(0),)
    ports = [(hba.get(PortReg.CLB, port), hba.get(PortReg.FB, port)) for port in hba.lists]
    headers = hba.machine.ram_read(hba.lists[0][0], 1024)
    return hba.config(0), hba.config(0x24), hba.read(Hba.CAP), hba.read(Hba.CAP2), ports, headers


def _pair(bench: Bench, drive: str, there: str, device: str = "") -> tuple[Machine, Machine]:
    incoming = f"-incoming unix:{bench.folder}/migration"
    return bench.machine("q35", drive, device), bench.machine("q35", there, device, incoming)


def _plain_pair(bench: Bench) -> tuple[Machine, Machine]:
    drive = f"-drive if=ide,file={bench.image(SIZE)},format=raw"
    return _pair(bench, drive, drive)


@AREA.does("migration of a machine that nobody has brought up")
def migrate_sanity(bench: Bench) -> None:
    here, there = _plain_pair(bench)
    _migrate(ByHand(here), there, bench)


def _migrate_simple(bench: Bench, *, queued: bool) -> None:
    here, there = _plain_pair(bench)
    hba = ByHand(here).up()
    hba.clear()
    data = pattern(4096)
    hba.write_out(_write(data, queued=queued))
    _migrate(hba, there, bench)
    assert hba.read_in(_read(4096, queued=queued)) == data


AREA.add("migrate-dma-simple", "written by DMA, migrated, read", partial(_migrate_simple, queued=False))
AREA.add(
    "migrate-ncq-simple", "written by a queued command, migrated, read", partial(_migrate_simple, queued=True)
)


def _failing_pair(bench: Bench, event: str) -> tuple[ByHand, Machine]:
    config, image = bench.failing_once(event), bench.image(SIZE)
    name = f"if=none,id=drive0,format=raw,{STOPPING}"
    here, there = _pair(
        bench,
        f"-drive file=blkdebug:{config}:{image},{name}",
        f"-drive file={image},{name}",
        "-device ide-hd,drive=drive0",
    )
    return ByHand(here).up(), there


def _migrate_halted(bench: Bench, *, queued: bool) -> None:
    hba, there = _failing_pair(bench, "write_aio")
    hba.clear()
    data = pattern(4096)
    issued = hba.issue(_write(data, queued=queued), hba.put(data))
    hba.machine.wait_event("STOP")
    _migrate(hba, there, bench, running=False)
    _resume(hba)
    hba.end(issued)
    assert hba.read_in(_read(4096, queued=queued)) == data


AREA.add(
    "migrate-dma-halted",
    "a write by DMA that failed is migrated, and lands after cont",
    partial(_migrate_halted, queued=False),
)
AREA.add(
    "migrate-ncq-halted",
    "a queued write that failed is migrated, and lands after cont",
    partial(_migrate_halted, queued=True),
)


@AREA.does("a flush that failed is migrated, and ends well after cont")
def flush_migrate(bench: Bench) -> None:
    hba, there = _failing_pair(bench, "flush_to_disk")
    hba.clear()
    _dirty(hba)
    issued = hba.issue(FLUSH_CACHE, 0)
    hba.machine.wait_event("STOP")
    _migrate(hba, there, bench, running=False)
    _resume(hba)
    hba.end(issued)


# --- the last sector, resets


@AREA.does("READ NATIVE MAX ADDRESS EXT: the last sector in the received FIS")
def max_sectors(bench: Bench) -> None:
    hba = _disk(bench)
    hba.clear()
    hba.do(AtaCommand(0x27, device=0x40))
    fis = hba.machine.ram_read(hba.lists[hba.port][1] + D2H, 20)
    assert int.from_bytes(bytes((*fis[4:7], *fis[8:11])), "little") == SECTORS - 1


@AREA.does("twice: registers as after power on, IDENTIFY DEVICE, 4096 bytes written and read, HBA reset")
def reset_simple(bench: Bench) -> None:
    hba = ByHand(_machine(bench))
    _check_function(hba)
    hba.enable_function()
    for _ in range(2):
        _check_registers(hba)
        hba.enable()
        hba.clear()
        _check_identity(hba)
        _round(hba, WAYS["dma/lba48"], 0, pattern(4096))
        hba.write(Hba.GHC, hba.read(Hba.GHC) | Ghc.HR)


@AREA.does("an HBA reset while a throttled write waits: the write lands")
def reset_pending_callback(bench: Bench) -> None:
    length = 4096
    drive = f"file={bench.image(SIZE)},cache=writeback,format=raw,throttling.bps-write={length * 3 // 2}"
    hba = ByHand(_machine(bench, drive=drive)).up()
    hba.clear()
    first, second = pattern(length), pattern(length, 77)
    hba.write_out(_command(0x35, 0, length, wide=True, out=first))
    hba.issue(_command(0x35, length // 512, length, wide=True, out=second), hba.put(second))
    hba.write(Hba.GHC, hba.read(Hba.GHC) | Ghc.HR)
    hba.machine.step(10**9)
    hba.enable_function()
    hba.enable()
    hba.clear()
    assert hba.read_in(_command(0x25, 0, length, wide=True)) == first
    assert hba.read_in(_command(0x25, length // 512, length, wide=True)) == second


# --- CD-ROM


def _cd(bench: Bench, blocks: int, cdb: bytes, *, dma: bool, limit: int | None = None) -> None:
    data = pattern(CD_BLOCK * (blocks + 1), step=CD_BLOCK)
    image = bench.image(len(data), "cd.iso", data)
    hba = ByHand(_machine(bench, drive=f"file={image},format=raw", device="ide-cd")).up()
    got = hba.packet(cdb, room=CD_BLOCK * blocks, dma=dma, limit=limit)
    assert got == data[: CD_BLOCK * blocks]


def _read10(blocks: int) -> bytes:
    return bytes((0x28, 0, 0, 0, 0, 0, 0, 0, blocks, 0))


for _blocks, _text in ((1, "single"), (3, "multi")):
    for _dma in (True, False):
        AREA.add(
            f"cdrom-{'dma' if _dma else 'pio'}-{_text}",
            f"READ (10) of {_blocks} block{'s' * (_blocks > 1)} of a CD by {'DMA' if _dma else 'PIO'}",
            partial(_cd, blocks=_blocks, cdb=_read10(_blocks), dma=_dma),
        )

AREA.add(
    "cdrom-pio-bcl",
    "READ CD of no block with a byte count limit of 0 ends well",
    partial(_cd, blocks=0, cdb=bytes((0xBE, 0, 0, 0, 0, 0, 0, 0, 0, 0x10)), dma=False, limit=0),
)


class Tray:
    """A drive's tray, moved by its guest and by QMP; each time the event has come before the answer."""

    def __init__(self, hba: ByHand) -> None:
        self.hba = hba

    def guest(self, what: str, *, is_open: bool) -> None:
        self.hba.packet(PACKETS[what])
        moved = self.hba.machine.wait_event("DEVICE_TRAY_MOVED")
        assert moved["tray-open"] is is_open

    def qmp(self, command: str, *, is_open: bool) -> None:
        self.hba.machine.events_by_now()
        self.hba.machine.qmp(command, {"id": "cd0"})
        moved = [members for name, members in self.hba.machine.events_by_now() if name == "DEVICE_TRAY_MOVED"]
        assert [each["tray-open"] for each in moved] == [is_open]

    def sense(self) -> tuple[int, int]:
        data = self.hba.packet((0x03, 0, 0, 0, 18), room=18)
        return data[2] & 0xF, data[12]


@AREA.does(
    "the guest ejects and loads, QMP opens, closes, removes and inserts: events, then sense data one after the other"
)
def cdrom_eject(bench: Bench) -> None:
    image = bench.image(CD_BLOCK, "cd.iso", pattern(CD_BLOCK))
    node = f"-blockdev node-name=drive0,driver=file,filename={image}"
    hba = ByHand(bench.machine("q35", node, "-device ide-cd,id=cd0,drive=drive0")).up()
    tray = Tray(hba)
    tray.guest("eject", is_open=True)
    tray.guest("load", is_open=False)
    tray.qmp("blockdev-open-tray", is_open=True)
    hba.machine.qmp("blockdev-remove-medium", {"id": "cd0"})
    tray.guest("load", is_open=False)
    tray.guest("eject", is_open=True)
    below = {"driver": "file", "filename": str(image)}
    hba.machine.qmp("blockdev-add", {"node-name": "node0", "driver": "raw", "file": below})
    hba.machine.qmp("blockdev-insert-medium", {"id": "cd0", "node-name": "node0"})
    tray.qmp("blockdev-close-tray", is_open=False)
    for key, code in ((2, 0x3A), (6, 0x28)):
        hba.issue_packet(PACKETS["test-unit-ready"])
        assert hba.end_failed() >> 4 == key
        assert tray.sense() == (key, code)
    hba.packet(PACKETS["test-unit-ready"])
    assert tray.sense()[0] == 0
    tray.guest("eject", is_open=True)
    tray.guest("load", is_open=False)

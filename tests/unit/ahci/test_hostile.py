"""What a guest does wrong at an HBA: it is answered as specified, reported, and over with the next reset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.ahci import AhciPci
from devmodels.memory import GuestMemory
from guestsim.drivers import ata
from guestsim.drivers.ahci import Ahci
from guestsim.drivers.ahci_layouts import (
    HEADER,
    PORTS_OFFSET,
    PRD,
    PRDT_OFFSET,
    Cmd,
    Ghc,
    Hba,
    PortIs,
    PortReg,
    h2d_fis,
)
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

from .stories import SIZE, boot
from .test_stories import DISK, DRIVE, HBA


class World:
    """A driver that has brought up the disk, and raw access beneath it."""

    def __init__(self, target: InProcessTarget, interrupts: Interrupts) -> None:
        self.target = target
        self.guest: Guest
        self.hba: Ahci
        self.port: AhciPort
        self.guest, self.hba, self.port = boot(target, interrupts)
        self.table = self.guest.memory.allocate_zeroed(4096, 128)

    def command(
        self, command: ata.AtaCommand, *prds: tuple[int, int], flags: int = 5, prdtl: int | None = None
    ) -> None:
        """Put `command` into slot 0, as it is, and issue it."""
        self.put(command, *prds, flags=flags, prdtl=prdtl)
        self.issue(1 if command.queued else 0)

    def put(
        self, command: ata.AtaCommand, *prds: tuple[int, int], flags: int = 5, prdtl: int | None = None
    ) -> None:
        """Put `command` into slot 0, as it is."""
        table = h2d_fis(command).ljust(PRDT_OFFSET, b"\0")
        table += b"".join(PRD.pack(at & 0xFFFF_FFFF, at >> 32, length - 1) for at, length in prds)
        self.guest.memory.write(self.table, table)
        count = len(prds) if prdtl is None else prdtl
        self.guest.memory.write(self.port.list, HEADER.pack(flags, count, 0, self.table, 0))

    def issue(self, tags: int = 0, slots: int = 1) -> None:
        if tags:
            self.port.write(PortReg.SACT, tags)
        self.port.write(PortReg.CI, slots)
        self.settle()

    def settle(self) -> None:
        self.target.assembly.machine.run_until_idle()

    @property
    def status(self) -> PortIs:
        return PortIs(self.port.read(PortReg.IS))

    def clauses(self) -> list[str]:
        return [clause for clause, _ in self.target.violations() or ()]

    def works_again(self) -> None:
        """After a reset of the port, and a look at what has failed, all is well."""
        self.guest.run(self.port.clear_errors())
        self.guest.run(self.port.do(ata.read_log(0x10)))
        self.guest.run(self.port.identify())


@contextmanager
def world(
    interrupts: Interrupts = Interrupts.POLLING,
    *,
    profile: str = "strict",
    drive: Mapping[str, object] = DRIVE,
) -> Iterator[World]:
    with InProcessTarget(blockdevs=[drive], devices=[HBA, DISK], profile=profile) as target:
        yield World(target, interrupts)


SLOW = {
    "driver": "delay",
    "latency-ns": 1_000_000,
    "node-name": "d0",
    "file": {"driver": "memory", "size": SIZE},
}
"""A disk whose commands take their time, and cannot be taken back meanwhile."""


@contextmanager
def reading() -> Iterator[tuple[World, int]]:
    """A disk that is at a read, and where that puts its data."""
    with world(drive=SLOW) as w:
        buffer = w.guest.memory.allocate_zeroed(512)
        w.guest.memory.write(buffer, b"\xee" * 512)
        w.put(ata.read_dma_ext(0, 1), (buffer, 512))
        w.port.write(PortReg.CI, 1)
        w.target.assembly.context.turn()
        yield w, buffer


NOWHERE = 0x7000_0000_0000


@pytest.mark.parametrize("where", ["list", "table", "data", "received"])
def test_an_address_that_is_no_memory_halts_the_port(where: str) -> None:
    with world() as w:
        if where == "list":
            w.port.write(PortReg.CLBU, NOWHERE >> 32)
            w.issue()
        elif where == "table":
            w.guest.memory.write(w.port.list, HEADER.pack(5, 1, 0, 0, NOWHERE >> 32))
            w.issue()
        elif where == "data":
            w.command(ata.read_dma_ext(0, 1), (NOWHERE, 512))
        else:
            w.port.write(PortReg.FBU, NOWHERE >> 32)
            w.command(ata.flush())
        assert w.status == PortIs.HBFS
        assert w.port.read(PortReg.CI) == 1
        assert "AHCI 1.3.1 §6.1.1" in w.clauses()
        for register in (PortReg.CLBU, PortReg.FBU):
            w.port.write(register, 0)
        w.works_again()


COMMANDS = {
    "no data": ata.flush(),
    "DMA": ata.read_dma_ext(0, 1),
    "PIO": ata.read_dma_ext(0, 1, pio=True),
    "failed": ata.AtaCommand(0xFF),
    "queued": ata.read_queued(0, 1),
    "queued, written": ata.write_queued(0, bytes(512)),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_fis_that_cannot_be_received_ends_nothing(command: ata.AtaCommand) -> None:
    """§3.3.5: what there is of it has been copied to memory; §5.3.8: PxTFD and PxCI follow a FIS that was accepted."""
    with world() as w:
        buffer = w.guest.memory.allocate(512)
        w.port.write(PortReg.FBU, NOWHERE >> 32)
        w.command(command, (buffer, 512))
        assert w.status == PortIs.HBFS
        assert w.port.read(PortReg.CI) == 1
        assert w.port.read(PortReg.SACT) == int(command.queued)
        assert command.queued or w.port.read(PortReg.TFD) & 0x80
        w.port.write(PortReg.FBU, 0)
        w.works_again()


@pytest.mark.parametrize("length", [0, 1, 17, 31])
def test_a_command_fis_of_no_possible_length(length: int) -> None:
    with world() as w:
        w.command(ata.flush(), flags=length)
        assert w.status & PortIs.HBFS
        w.works_again()


def test_a_refused_header_is_shown_as_it_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read once more: in the meantime it may have become another one."""
    with world() as w:
        unpack = GuestMemory.unpack

        def changing(memory: GuestMemory, address: int, layout: Struct) -> tuple[int, ...]:
            fields = unpack(memory, address, layout)
            if address == w.port.list:
                w.guest.memory.write(address, HEADER.pack(5, 0, 0, w.table, 0))
            return fields

        monkeypatch.setattr(GuestMemory, "unpack", changing)
        w.command(ata.flush(), flags=1)
        (report,) = w.target.assembly.violations.recent
        assert report.summary.endswith("a command FIS of 1 dwords")
        assert report.data == HEADER.pack(1, 0, 0, w.table, 0)


def test_prds_without_one_whole_sector_end_the_command() -> None:
    """As in CVE-2014-9718: no loop that gets nowhere."""
    with world() as w:
        buffer = w.guest.memory.allocate(4096)
        w.command(ata.read_dma_ext(0, 8), (buffer, 2), (buffer, 100))
        assert w.status & PortIs.OFS
        assert w.port.read(PortReg.CI) == 0
        w.command(ata.write_dma_ext(0, bytes(4096)), (buffer, 2))
        assert w.status & PortIs.TFES
        w.works_again()


def test_prds_that_are_no_multiple_of_a_sector() -> None:
    """As in CVE-2019-20175."""
    with world() as w:
        buffer = w.guest.memory.allocate(4096)
        w.command(ata.read_dma_ext(0, 2), (buffer, 514), (buffer + 1000, 1000))
        assert not w.status & (PortIs.OFS | PortIs.TFES)
        assert w.port.read(PortReg.CI) == 0


def test_no_prds_at_all() -> None:
    with world() as w:
        w.command(ata.read_dma_ext(0, 1))
        assert w.status & PortIs.OFS
        w.command(ata.read_queued(0, 1))
        assert w.status & PortIs.TFES
        w.works_again()


@pytest.mark.long
def test_the_longest_table_there_can_be() -> None:
    with world() as w:
        data = bytes(range(1, 256)) * 512
        assert w.guest.run(w.port.do(ata.write_dma_ext(0, data))).ok
        w.table = w.guest.memory.allocate(PRDT_OFFSET + 65535 * PRD.size, 128)
        buffer = w.guest.memory.allocate_zeroed(len(data))
        prds = [(buffer + 2 * n, 2) for n in range(65534)]
        w.command(ata.read_dma_ext(0, 255), *prds[: len(data) // 2], prdtl=65535)
        assert (w.status, w.clauses()) == (PortIs.DHRS, [])
        assert w.guest.memory.read(buffer, len(data)) == data


def test_no_more_of_a_table_is_looked_at_than_is_needed() -> None:
    with world() as w:
        buffer = w.guest.memory.allocate_zeroed(512)
        w.table = w.guest.memory.windows[-1].end - 0x2000
        w.command(ata.read_dma_ext(0, 1), *[(buffer + 2 * n, 2) for n in range(256)], prdtl=65535)
        assert (w.status, w.clauses()) == (PortIs.DHRS, [])


def test_a_refused_ncq_command_leaves_nothing_behind_a_reset() -> None:
    """As in CVE-2016-1568."""
    with world() as w:
        buffer = w.guest.memory.allocate(512)
        w.command(ata.read_queued(1 << 40, 1), (buffer, 512))
        assert w.status & PortIs.TFES
        w.guest.run(w.port.stop())
        w.guest.run(w.port.comreset())
        w.guest.run(w.port.start())
        assert w.port.read(PortReg.SACT) == w.port.read(PortReg.CI) == 0
        w.guest.run(w.port.identify())


def test_an_hba_reset_while_a_write_runs() -> None:
    """As in CVE-2023-5088: what runs lands where it was meant to, and nothing else is written."""
    with world() as w:
        run_state = w.target.assembly.run_state
        run_state.stop()
        (held,) = w.port.submit(ata.write_dma_ext(100, b"\x5a" * 512))
        w.settle()
        w.hba.write(Hba.GHC, Ghc.AE | Ghc.HR)
        w.settle()
        assert not w.hba.read(Hba.GHC) & Ghc.HR
        run_state.cont()
        w.settle()
        assert not held.done
        node = w.target.assembly.graph.nodes["d0"]
        assert w.target.assembly.drives["hd0"].stats is not None
        assert node.size == SIZE
        guest, _, port = boot(w.target, Interrupts.POLLING)
        assert guest.run(port.do(ata.read_dma_ext(0, 1))).data == bytes(512)
        assert guest.run(port.do(ata.read_dma_ext(100, 1))).data == bytes(512)


def test_st_cleared_and_set_in_the_middle() -> None:
    """As in QEMU d9f78431d8: the port is OFF only when what ran has come back."""
    with world() as w:
        w.target.assembly.run_state.stop()
        w.port.submit(ata.read_dma_ext(0, 8))
        w.settle()
        command = w.port.read(PortReg.CMD)
        w.port.write(PortReg.CMD, command & ~Cmd.ST)
        w.port.write(PortReg.CMD, command | Cmd.ST)
        w.settle()
        assert w.port.read(PortReg.CI) == 0
        w.target.assembly.run_state.cont()
        w.settle()
        w.works_again()


def test_a_stop_takes_away_what_was_issued_while_the_port_came_to_rest() -> None:
    """AHCI 1.3.1 §3.3.13, §3.3.14: PxSACT and PxCI are 0 whenever software has cleared PxCMD.ST."""
    with reading() as (w, _):
        command = w.port.read(PortReg.CMD)
        w.port.write(PortReg.CMD, command & ~Cmd.ST)
        assert w.port.read(PortReg.CMD) & Cmd.CR
        w.port.write(PortReg.CMD, command | Cmd.ST)
        w.port.write(PortReg.SACT, 0x22)
        w.port.write(PortReg.CI, 0x22)
        w.port.write(PortReg.CMD, command & ~Cmd.ST)
        assert w.port.read(PortReg.CI) == w.port.read(PortReg.SACT) == 0
        w.works_again()


@pytest.mark.parametrize("how", ["stop", "hba"])
def test_a_port_comes_to_rest_only_with_a_disk_that_was_taken_off_it(how: str) -> None:
    """AHCI 1.3.1 §3.3.7, §10.3.1, §10.4.3: until then its data may still come; PxCMD.CR and GHC.HR say so."""
    with reading() as (w, buffer):
        w.target.unplug("hd0")
        assert not w.port.present
        if how == "stop":
            w.port.write(PortReg.CMD, w.port.read(PortReg.CMD) & ~Cmd.ST)
            w.guest.run(w.guest.wait_until(lambda: not w.port.read(PortReg.CMD) & Cmd.CR, "PxCMD.CR to be 0"))
        else:
            w.hba.write(Hba.GHC, Ghc.AE | Ghc.HR)
            w.guest.run(w.guest.wait_until(lambda: not w.hba.read(Hba.GHC) & Ghc.HR, "GHC.HR to be 0"))
        w.guest.memory.write(buffer, b"\x5a" * 512)
        w.settle()
        assert w.guest.memory.read(buffer, 512) == b"\x5a" * 512


def test_a_port_comes_to_rest_with_a_disk_that_was_exchanged() -> None:
    """The same where another one has taken the place of the first meanwhile."""
    with reading() as (w, buffer):
        w.target.unplug("hd0")
        w.target.add_drive({"driver": "memory", "size": SIZE, "node-name": "d1"})
        w.target.plug({**DISK, "drive": "d1", "id": "hd1"})
        w.guest.run(w.port.stop())
        w.guest.memory.write(buffer, b"\x5a" * 512)
        w.settle()
        assert w.guest.memory.read(buffer, 512) == b"\x5a" * 512
        w.works_again()


def test_after_a_reset_of_the_function_the_new_disk_is_busy_until_the_old_one_has_ended() -> None:
    with reading() as (w, buffer):
        w.target.unplug("hd0")
        w.target.add_drive({"driver": "memory", "size": SIZE, "node-name": "d1"})
        w.target.plug({**DISK, "drive": "d1", "id": "hd1"})
        function = w.target.assembly.ata_hosts["sata0"]
        assert isinstance(function, AhciPci)
        function.reset()
        registers = function.hba.windows()
        while registers.read(PORTS_OFFSET + PortReg.TFD, 4) & ata.AtaStatus.BSY:
            w.target.advance()
        w.guest.memory.write(buffer, b"\x5a" * 512)
        w.settle()
        assert w.guest.memory.read(buffer, 512) == b"\x5a" * 512


def test_ports_written_to_before_they_run_take_nothing() -> None:
    with world() as w:
        w.guest.run(w.port.stop())
        for register in (PortReg.CI, PortReg.SACT):
            w.port.write(register, 1)
            assert w.port.read(register) == 0
        assert {"AHCI 1.3.1 §3.3.13", "AHCI 1.3.1 §3.3.14"} <= set(w.clauses())


def test_a_fis_that_is_none_of_a_hosts() -> None:
    with world() as w:
        w.guest.memory.write(w.table, b"\x34".ljust(64, b"\0"))
        w.guest.memory.write(w.port.list, HEADER.pack(5, 0, 0, w.table, 0))
        w.issue()
        assert w.status & PortIs.IFS
        assert w.port.read(PortReg.SERR) == 1 << 22 | 1 << 10, "§3.3.12: handshake, protocol"
        w.works_again()


REGISTERS = st.sampled_from([*PortReg, 0x1C, 0x3C, 0x40, 0x7C])
ACCESS = st.tuples(
    REGISTERS, st.one_of(st.integers(0, 0xFFFF_FFFF), st.sampled_from([0, 1, 0x11, 0x19, 0xFFFF_FFFF]))
)
PIECE = st.tuples(st.integers(0, 0x900), st.binary(min_size=1, max_size=64))


@given(
    st.lists(
        st.one_of(
            ACCESS,
            PIECE,
            st.tuples(st.sampled_from(["ghc", "stop", "cont"]), st.integers(0, 3)),
            st.tuples(st.just("command"), st.integers(0, 255), st.integers(0, 0xFFFF), st.integers(0, 4096)),
        ),
        max_size=30,
    )
)
def test_whatever_a_guest_does_a_reset_brings_the_disk_back(steps: list[tuple[object, ...]]) -> None:
    with world() as w:
        lists = w.port.list
        for step in steps:
            kind, *values = step
            if kind == "ghc":
                w.hba.write(Hba.GHC, int(str(values[0])))
            elif kind == "stop":
                w.target.assembly.run_state.stop()
            elif kind == "cont":
                w.target.assembly.run_state.cont()
            elif kind == "command":
                opcode, count, lba = (int(str(each)) for each in values)
                fields = ata.AtaCommand(opcode, count=count, features=count, lba=lba, device=0x40)
                w.command(fields, (lists, 1024))
            elif isinstance(values[0], bytes):
                w.guest.memory.write(lists + int(str(kind)) % 0x800, values[0])
            else:
                w.port.write(int(str(kind)), int(str(values[0])))
            if len(steps) % 2:
                w.settle()
        w.target.assembly.run_state.cont()
        w.settle()
        guest, _, port = boot(w.target, Interrupts.POLLING)
        assert guest.run(port.do(ata.read_log(0))).data[:2] == b"\x01\x00"


def test_no_command_begins_while_the_hba_is_reset() -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, hba, port = boot(target)
        hba.write(Hba.GHC, Ghc.AE | Ghc.HR)
        assert hba.read(Hba.GHC) & Ghc.HR
        port.write(PortReg.CMD, Cmd.FRE)
        port.write(PortReg.CMD, Cmd.FRE | Cmd.ST)
        port.write(PortReg.CI, 1)
        guest.run(guest.sleep(1_000_000))
        assert not hba.read(Hba.GHC) & Ghc.HR
        assert not port.read(PortReg.CMD) & (Cmd.ST | Cmd.CR | Cmd.FRE | Cmd.FR)
        assert not port.read(PortReg.CI)
        assert [clause for clause, _ in target.violations() or ()] == ["AHCI 1.3.1 §10.4.3"] * 2 + [
            "AHCI 1.3.1 §3.3.14"
        ]

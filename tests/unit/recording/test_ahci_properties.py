"""Whatever a guest asks of an HBA's disks and drives, and whatever becomes of them: the trace has them do it again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guestsim.drivers import ata
from guestsim.drivers.ahci_layouts import PortReg
from guestsim.drivers.transport import Interrupts
from guestsim.errors import GuestError
from guestsim.replay import replay
from tests.unit.recording.atastory import US, AhciStory

OPCODES = st.sampled_from(
    list(
        bytes.fromhex(
            "06 20 24 25 2f 30 34 35 3f 40 42 45 78 90 a1 b0 c4 c6 c8 ca e0 e4 e5 e6 e7 e8 ea ec ef f1 f2 f3 f4 f6"
        )
    )
)
LBAS = st.integers(0, 2100) | st.sampled_from([0xC24F00, 0xC24F01, 0x10, 0x30])


def plain(opcode: int, features: int, count: int, lba: int, out: bool) -> ata.AtaCommand:
    data = bytes(range(256)) * 16
    return ata.AtaCommand(
        opcode, features, count, lba, 0x40, out=data if out else b"", room=0 if out else 4096
    )


SECTORS = st.integers(0, 1024)
QUEUED = st.one_of(
    st.builds(ata.read_queued, SECTORS, st.integers(1, 16)),
    st.builds(
        lambda lba, n: ata.write_queued(lba, bytes([lba & 0xFF]) * 512 * n), SECTORS, st.integers(1, 16)
    ),
)
TRANSFERS = st.one_of(
    st.builds(ata.read_dma_ext, SECTORS, st.integers(1, 16), pio=st.booleans()),
    st.builds(lambda lba, n: ata.write_dma(lba, bytes([lba & 0xFF]) * 512 * n), SECTORS, st.integers(1, 16)),
    st.just(ata.flush()),
)
COMMANDS = st.one_of(
    TRANSFERS,
    st.builds(
        plain,
        OPCODES,
        st.sampled_from([0, 1, 2, 3, 0x55, 0x82, 0xD0, 0xD4, 0xD5]),
        st.integers(0, 9),
        LBAS,
        st.booleans(),
    ),
)
PACKETS = st.builds(
    lambda cdb, dma: ata.AtaCommand(0xA0, features=dma, lba=0x0800 << 8, room=4096, packet=cdb),
    st.one_of(
        st.sampled_from([0x00, 0x03, 0x12, 0x1B, 0x1E, 0x43, 0x46, 0x4A, 0x5A, 0xBE]).flatmap(
            lambda opcode: st.binary(min_size=11, max_size=11).map(lambda rest: bytes((opcode,)) + rest)
        ),
        st.integers(0, 60).map(lambda lba: bytes((0x28, 0, 0, 0, 0, lba, 0, 0, 2, 0, 0, 0))),
    ),
    st.integers(0, 1),
)
REGISTERS = st.sampled_from(
    [PortReg.IS, PortReg.IE, PortReg.CMD, PortReg.SCTL, PortReg.SERR, PortReg.SACT, PortReg.CI]
)
STEPS = st.one_of(
    st.tuples(st.just("send"), st.just(0), st.lists(QUEUED, min_size=1, max_size=4)),
    st.tuples(st.just("send"), st.just(0), st.lists(TRANSFERS, min_size=1, max_size=4)),
    st.tuples(st.just("send"), st.just(0), st.lists(COMMANDS, min_size=1, max_size=3)),
    st.tuples(st.just("send"), st.just(1), st.lists(PACKETS, min_size=1, max_size=2)),
    st.tuples(st.sampled_from(["settle", "settle", "turn", "turn", "probe", "machine_reset", "hba_reset"])),
    st.tuples(st.sampled_from(["recover", "recover", "comreset"]), st.integers(0, 1)),
    st.tuples(
        st.just("write"),
        st.integers(0, 1),
        REGISTERS,
        st.sampled_from([0, 1, 0x11, 0x19, 0x301, 0xFFFF_FFFF]),
    ),
    st.tuples(
        st.just("broken"), st.integers(0, 0xFFFF), st.integers(0, 9), st.sampled_from([0, 0x20_0000, 1 << 40])
    ),
    st.tuples(st.sampled_from(["stop", "cont", "cont"])),
    st.tuples(st.just("resize"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["unplug", "plug", "plug"]), st.sampled_from(["hd0", "cd0"])),
)


def is_done_again(
    interrupts: Interrupts, latency_ns: int, steps: list[tuple[object, ...]], *, shared: bool
) -> None:
    with TemporaryDirectory(prefix="devmodels-") as folder:
        path = Path(folder, "a.trace")
        story = AhciStory(path, latency_ns=latency_ns, shared=shared, interrupts=interrupts)
        try:
            for what, *arguments in steps:
                # A driver may find its port halted, gone or held: then it does something else.
                with suppress(GuestError, KeyError):
                    getattr(story, str(what))(*arguments)
        finally:
            story.close()
        result = replay(path)
        assert result.ok, str(result.difference)


INTERRUPTS = st.sampled_from([Interrupts.MSIX, Interrupts.INTX])


@given(INTERRUPTS, st.sampled_from([0, 20 * US]), st.lists(STEPS, min_size=4, max_size=16), st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_story_of_an_hba_is_done_again(
    interrupts: Interrupts, latency_ns: int, steps: list[tuple[object, ...]], shared: bool
) -> None:
    is_done_again(interrupts, latency_ns, steps, shared=shared)


@pytest.mark.slow
@given(INTERRUPTS, st.sampled_from([0, 20 * US]), st.lists(STEPS, min_size=12, max_size=60), st.booleans())
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_any_long_story_of_an_hba_is_done_again(
    interrupts: Interrupts, latency_ns: int, steps: list[tuple[object, ...]], shared: bool
) -> None:
    is_done_again(interrupts, latency_ns, steps, shared=shared)

"""Whatever guests do to HBAs and IDE channels: a few examples here, a hundred thousand in the slow tier."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devmodels.ahci.engine import Event
from devmodels.ahci.port import Port
from devmodels.ide_cdrom.busmaster import BusMaster
from tests.unit.ahci import hostility as ahci
from tests.unit.ata.hostility import BACKENDS, Generate, Make, Runner, Step
from tests.unit.ide_cdrom import hostility as ide

CONFIGURATIONS = (*BACKENDS, "copied")
KINDS: dict[str, tuple[Make, Generate]] = {
    "ahci-disk": (ahci.make_disk, ahci.disk_example),
    "ahci-drive": (ahci.make_drive, ahci.drive_example),
    "ide-disk": (ide.make_disk, ide.disk_example),
    "ide-drive": (ide.make_drive, ide.drive_example),
}


@pytest.mark.parametrize("kind", KINDS)
@given(configuration=st.sampled_from(CONFIGURATIONS), seed=st.integers(0, 2**64 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_sequence_of_accesses_does_harm(
    kind: str, configuration: str, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    Runner(*KINDS[kind], caplog).run(configuration, seed, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_that_is_written_elsewhere_is_seen(kind: str) -> None:
    with ExitStack() as stack:
        bench = KINDS[kind][0](stack, "memory", Counter())
        shadow = bench.shadow
        shadow.memory.write(shadow.base + len(shadow.data) - 1, bytes((shadow.data[-1] ^ 1,)))
        with pytest.raises(AssertionError, match="a device has written"):
            bench.at_rest()


def says_at_once_that_it_has_stopped(put: pytest.MonkeyPatch) -> None:
    """Of an HBA and of a bus master: what runs goes on."""
    drop = Port._drop_commands

    def stopped(port: Port) -> None:
        port.event(Event.IDLE)
        drop(port)

    put.setattr(Port, "_drop_commands", stopped)
    stop = BusMaster.stop

    def inactive(master: BusMaster) -> None:
        stop(master)
        master.registers.active = 0

    put.setattr(BusMaster, "stop", inactive)


HBA_READ: tuple[Step, ...] = (
    (
        "command",
        0,
        ahci.H2D.pack(0x27, 0x80, 0x25, 0, 0x40 << 24, 0, 1, 0, 0, 0),
        5,
        1,
        ((ahci.BASE + ahci.BUFFERS, 511),),
        b"",
        True,
    ),
    ("issue", 0, 1),
    ("turn",),
)
CHANNEL_READ: tuple[Step, ...] = (
    ("table", ((ide.BASE + ide.BUFFERS, 512, ide.EOT),), ide.BASE + ide.TABLE),
    ("task", 0xC8, 0, 1, 0, 0x40),
    ("start", ide.START | ide.TO_MEMORY),
    ("turn",),
    ("turn",),
)


@pytest.mark.parametrize(
    ("kind", "steps", "how"),
    [
        ("ahci-disk", HBA_READ, "comreset"),
        ("ahci-disk", HBA_READ, "srst"),
        ("ide-disk", CHANNEL_READ, "pulse"),
        ("ide-disk", CHANNEL_READ, "device"),
    ],
)
def test_a_byte_that_is_written_after_the_stop_is_seen(
    kind: str, steps: tuple[Step, ...], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        bench = KINDS[kind][0](stack, "slow", Counter())
        bench.play((steps, how))
        says_at_once_that_it_has_stopped(monkeypatch)
        with pytest.raises(AssertionError, match="a device has written"):
            bench.play((steps, how))

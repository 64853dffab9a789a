"""Whatever guests do to HBAs and IDE channels: a few examples here, a hundred thousand in the slow tier."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.ahci import hostility as ahci
from tests.unit.ata.hostility import BACKENDS, Generate, Make, Runner
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

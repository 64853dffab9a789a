"""Every script, in the ways that it holds in, with each device's queues on two threads: guests notice nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from guestsim.script.run import Options, read_scripts
from guestsim.script.schema import RingName, TransportName
from guestsim.script.ways import Way
from guestsim.targets import inprocess

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parent.parent / "scripts"
THREADS = ("t0", "t1")
WAYS: tuple[tuple[RingName | None, TransportName | None], ...] = (
    (None, None),
    ("packed", "pci"),
    ("split", "pci-legacy"),
    ("packed", "mmio"),
    ("split", "mmio-legacy"),
)

ASKED_ANEW = re.compile(r"/event-index\.guest\.yaml:.*: interrupts [23], expected 1$")
"""What is true where a driver looks for answers while a thread still gives some: each time it has asked anew to hear of
the next one (VIRTIO 1.4 §2.7.7.2)."""


class ThreadedTarget(inprocess.InProcessTarget):
    """As it is, on the wall clock, its devices with threads."""

    def __init__(
        self,
        *,
        objects: Sequence[Mapping[str, object]] = (),
        blockdevs: Sequence[Mapping[str, object]] = (),
        devices: Sequence[Mapping[str, object]] = (),
        ram: int = inprocess.RAM,
        shared: bool = True,
        clock: str = "virtual",
    ) -> None:
        assert clock != "stepped"
        mapping = [{"iothread": name} for name in THREADS]
        super().__init__(
            objects=[*objects, *({"qom-type": "iothread", "id": name} for name in THREADS)],
            blockdevs=blockdevs,
            devices=[
                {**device, "iothread-vq-mapping": mapping}
                if str(device["driver"]).startswith("virtio-")
                else device
                for device in devices
            ],
            ram=ram,
            shared=shared,
            clock="wall",
        )

    def close(self) -> None:
        """Nothing went wrong on a thread, unseen by its guest."""
        threads = self.assembly.graph.iothreads.by_id.values()
        errors = {thread.name: thread.errors for thread in threads if thread.errors}
        super().close()
        assert not errors


@pytest.fixture(autouse=True)
def on_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(inprocess, "InProcessTarget", ThreadedTarget)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(("ring", "transport"), WAYS)
def test_a_guest_notices_nothing(ring: RingName | None, transport: TransportName | None) -> None:
    ran = 0
    for path in sorted((*SCRIPTS.glob("*.guest.yaml"), *SCRIPTS.glob("scsi/*.guest.yaml"))):
        if "clock: stepped" in path.read_text():
            continue
        for script in read_scripts(path):
            report = script.run(Options("devmodels", "shared", way=Way(ring, transport)))
            assert [each for each in report.failures if not ASKED_ANEW.search(each)] == [], path.name
            assert report.error is None, f"{path.name}: {report.error}"
            ran += report.skipped is None
    assert ran > 10

"""Scripts in other ways: what is changed of their devices, and what keeps one from being run."""

from __future__ import annotations

import pytest

from guestsim.script.load import parse
from guestsim.script.run import Options, YamlScript
from guestsim.script.schema import Script
from guestsim.script.ways import Way, vary

HEAD = """
name: t
drives: [{driver: memory, node-name: d0, size: 1M}]
devices: [{driver: virtio-blk-pci, drive: d0, addr: '6', vectors: 4%s}]
"""


def script(steps: str = "  - probe", device: str = "", more: str = "") -> Script:
    return parse(f"{HEAD % device}{more}\nsteps:\n{steps}\n", "f")[0]


def varied(way: Way) -> dict[str, object]:
    found = vary(script(), way)
    assert isinstance(found, Script)
    return found.devices[0]


def test_a_way_that_says_nothing_changes_nothing() -> None:
    assert vary(script(), Way()) == script()


def test_devices_are_changed_as_a_user_would_write_them() -> None:
    assert varied(Way("packed"))["packed"] is True
    assert varied(Way(transport="pci-legacy"))["disable-modern"] is True
    on_mmio = varied(Way("packed", "mmio"))
    assert on_mmio == {"driver": "virtio-blk-device", "drive": "d0", "packed": True, "force-legacy": False}
    assert varied(Way(transport="mmio-legacy"))["force-legacy"] is True


@pytest.mark.parametrize(
    ("way", "steps", "reason"),
    [
        ("packed -", "  - chain: {}", "writes a split ring"),
        ("split -", "  - packed-chain: {}", "writes a packed ring"),
        ("packed -", "  - read: {}\n    expect: {violation: VIRTIO 1.4 §2.7.6}", "about another ring"),
        ("split -", "  - read: {}\n    expect: {violation: VIRTIO 1.4 §2.8.17}", "about another ring"),
        ("packed pci-legacy", "  - probe", "no packed ring"),
        ("- mmio", "  - get: {isr: true}", "registers of PCI"),
        ("- mmio", "  - get: {register: queue_size}", "registers of PCI"),
        ("- mmio", "  - notify: {size: 2}", "notification register"),
        ("- mmio", "  - reset:\n    expect: {violation: VIRTIO 1.4 §4.1.4.3.2}", "about PCI"),
        ("- mmio", "  - probe: {legacy: true}", "how its device is reached"),
        ("- pci-legacy", "  - probe: {queue-size: 4}", "size of its queues"),
        ("- pci-legacy", "  - probe: {features: [IN_ORDER]}", "above bit 31"),
        ("- mmio-legacy", "  - reset-queue: {}", "resets one queue"),
        ("- mmio-legacy", "  - wait-for: needs-reset", "NEEDS_RESET"),
        ("- mmio-legacy", "  - repeat: {times: 1, steps: [{wait-for: needs-reset}]}", "NEEDS_RESET"),
    ],
)
def test_what_a_step_does_keeps_a_script_from_other_ways(way: str, steps: str, reason: str) -> None:
    ring, transport = (None if part == "-" else part for part in way.split())
    found = vary(script(steps), Way(ring, transport))  # type: ignore[arg-type]
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize(
    ("way", "device", "more"),
    [
        (Way("packed"), ", packed: false", ""),
        (Way("split"), ", packed: true", ""),
        (Way("split"), ", packed: 'on'", ""),
        (Way(transport="mmio-legacy"), ", packed: true", ""),
        (Way(transport="mmio"), ", disable-modern: true", ""),
        (Way("packed"), "", "rings: [split]"),
        (Way(transport="mmio"), "", "transports: [pci, pci-legacy]"),
    ],
)
def test_what_a_script_says_itself_stands(way: Way, device: str, more: str) -> None:
    assert isinstance(vary(script(device=device, more=more), way), str)


def test_a_report_names_the_way_and_why_a_script_was_not_run() -> None:
    runnable = YamlScript(*parse(f"{HEAD % ''}\nsteps: [probe, read: {{}}]\n", "f"))
    report = runnable.run(Options(way=Way("packed", "mmio")))
    assert report.ok
    assert report.where == "devmodels, shared, packed mmio"
    assert "RING_PACKED" in report.steps[0].answered
    assert (
        runnable.run(Options(way=Way("packed", "pci-legacy"))).skipped
        == "the legacy interface has no packed ring"
    )

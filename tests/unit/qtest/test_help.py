"""What the stand-in says of itself: `-help`, `-machine help`, `-device help`, `-device NAME,help`."""

from __future__ import annotations

import pytest

from devmodels.assembly.devices import DEVICES
from devmodels.qtest.commandline import MACHINES
from devmodels.qtest.main import run


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run([*arguments]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("option", ["-help", "--help", "-h"])
def test_the_options(capsys: pytest.CaptureFixture[str], option: str) -> None:
    lines = told(capsys, "-M", "q35", option)
    assert lines[0] == "usage: devmodels-system-x86_64 [options]"
    assert {"-qtest VALUE", "-device VALUE", "-nodefaults", "-version"} <= {*lines}


@pytest.mark.parametrize("option", ["-machine", "-M"])
@pytest.mark.parametrize("wanted", ["help", "?"])
def test_the_machines(capsys: pytest.CaptureFixture[str], option: str, wanted: str) -> None:
    lines = told(capsys, option, wanted)
    assert [line.split()[0] for line in lines[1:]] == [*MACHINES]


def test_the_devices(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "-device", "help")
    assert 'name "ide-cd", bus IDE' in lines
    assert any(line.startswith('name "virtio-blk-pci", bus PCI, also as virtio-blk, ') for line in lines)
    assert not any("virtio-blk-device" in line for line in lines)  # There is no MMIO here.


@pytest.mark.parametrize("device", [each.name for each in DEVICES.values() if each.place != "mmio"])
def test_the_properties_of_a_device(capsys: pytest.CaptureFixture[str], device: str) -> None:
    first, *lines = told(capsys, "-device", f"{device},help")
    assert first == f"{device} options:"
    names = [line.partition("=")[0] for line in lines]
    assert names == sorted(names)
    assert lines
    assert all(line.startswith("  ") and "=<" in line for line in lines)


def test_types_and_defaults_of_properties(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "-device", "virtio-blk-pci-non-transitional,help")
    words = [" ".join(line.split()) for line in lines]
    assert {
        "drive=<str>",
        "event_idx=<bool> (default: true)",
        'disable-legacy=<OnOffAuto> (default: "on")',
    } <= {*words}


def test_a_device_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-device", "floppy,help"]) == 1
    assert capsys.readouterr().err.endswith(
        ": -device floppy,help: 'floppy' is not a valid device model name\n"
    )

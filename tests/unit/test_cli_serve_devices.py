"""`devmodels serve --device`, and exports of devices: a wrong option is one line and status 2, and nothing stays."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.assembly.hosted import HOSTED
from devmodels.cli.serve import Server
from tests.unit.test_cli_serve import Refusal, logging_as_before

__all__ = ["logging_as_before"]

NODES = ["driver=memory,size=1M,node-name=d0", "driver=memory,size=1M,node-name=d1"]
BLK = "virtio-blk-pci,id=v0,drive=d0"
KNOWN = ", ".join(f'"{name}"' for name in HOSTED)


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Refusal]:
    before = set(os.listdir("/proc/self/fd"))
    yield Refusal(monkeypatch, capsys)
    assert set(os.listdir("/proc/self/fd")) == before, "the command left descriptors open"


def export(folder: Path, device: str = "v0", *, name: str = "e0") -> str:
    return f"type=vfio-user,id={name},device={device},addr.type=unix,addr.path={folder / name}.sock"


def refused(refusal: Refusal, devices: list[str], exports: list[str]) -> str:
    arguments = [argument for text in NODES for argument in ("--blockdev", text)]
    arguments += [argument for text in devices for argument in ("--device", text)]
    arguments += [argument for text in exports for argument in ("--export", text)]
    return refusal("serve", *arguments)


@pytest.mark.long
@pytest.mark.parametrize(
    ("device", "line"),
    [
        ("", f'--device: driver: "" is given; expected {KNOWN}'),
        ("e1000,id=v0", f'--device "v0": driver: "e1000" is given; expected {KNOWN}'),
        (
            "virtio-blk-pci,drive=d0",
            "--device: id: missing; expected one, by which the device can be exported",
        ),
        ("virtio-blk-pci,id=v0", '--device "v0": device virtio-blk-pci: drive: missing; expected a string'),
        ("virtio-blk-pci,id=v0,drive=d7", "no drive 'd7'"),
        (
            "virtio-blk-pci,id=v0,drive=d0,nope=1",
            '--device "v0": device virtio-blk-pci: nope: no such option; expected one of ',
        ),
        ("virtio-blk-pci,id=v0,drive=d0,num-queues=0", "num-queues is 0, expected 1 to 1024"),
        ("scsi-hd,drive=d0", "bus: missing; the buses of SCSI devices are: none"),
        ("virtio-blk-device,id=v0,drive=d0", 'driver: "virtio-blk-device" is given'),
        ("ide-hd,drive=d0", "bus: missing; the buses of IDE devices are: none"),
        ("ahci,id=a0,ports=33", '--device "a0": device ahci: ports is 33, expected 1 to 32'),
        ("ahci,id=a0,x-pci-device-id=1", "x-pci-vendor-id: missing; expected with x-pci-device-id"),
        ("piix3-ide,id=i0", "native is off; expected native=on, without a PC's fixed ports"),
        ("piix4-ide,id=i0,native=so", 'native: "so" is given; expected on or off'),
    ],
)
def test_wrong_device(refusal: Refusal, tmp_path: Path, device: str, line: str) -> None:
    assert line in refused(refusal, [device], [export(tmp_path)])


@pytest.mark.parametrize(
    ("unit", "line"),
    [
        ("ide-hd,drive=d0,bus=a0.6", '"a0.6" is given; the buses of IDE devices are: "a0.0", "a0.1"'),
        ("scsi-hd,drive=d0,bus=a0.0", '"a0.0" is one of IDE devices; the buses of SCSI devices are: none'),
        (
            "ide-hd,drive=d0,bus=a0.0,logical_block_size=4096",
            "physical_block_size is 512, expected a power of two from logical_block_size, 4096, to ",
        ),
        ("ide-hd,drive=d0,bus=a0.0,unit=1", "unit is 1, expected 0 to 0 on bus 'a0.0'"),
        ("ide-hd,bus=a0.0", "device ide-hd: drive: missing; expected a string"),
        ("ide-hd,bus=a0.0,drive=d7", "device ide-hd: no drive 'd7'; the nodes are: d0, d1"),
        ("ide-hd,bus=a0.0,drive=d0,serial=123456789012345678901", "expected at most 20 printable ASCII"),
        ("ide-cd,bus=a0.0,queue-depth=1", "device ide-cd: queue-depth: no such option"),
    ],
)
def test_wrong_unit_of_an_hba(refusal: Refusal, tmp_path: Path, unit: str, line: str) -> None:
    assert line in refused(refusal, ["ahci,id=a0", unit], [export(tmp_path, "a0")])


def test_a_host_needs_no_node(refusal: Refusal, tmp_path: Path) -> None:
    nowhere = export(tmp_path / "nowhere", "a0")
    told = refusal("serve", "--device", "ahci,id=a0", "--device", "ide-cd,bus=a0.0", "--export", nowhere)
    assert told.startswith('--export "e0": addr.path: cannot listen at ')


def test_two_devices_of_one_id(refusal: Refusal, tmp_path: Path) -> None:
    text = refused(refusal, [BLK, "virtio-blk-pci,id=v0,drive=d1"], [export(tmp_path)])
    assert text == '--device "v0": id: "v0" is taken'


def test_two_devices_on_one_node(refusal: Refusal, tmp_path: Path) -> None:
    text = refused(refusal, [BLK, "virtio-blk-pci,id=v1,drive=d0"], [export(tmp_path)])
    assert text.startswith('--device "v1": ')
    assert "d0" in text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("device=v9", "v9"),
        ("", "device: missing"),
        ("device=v0,node-name=d0", "node-name: no such option"),
        ("device=u0", "u0"),
    ],
)
def test_wrong_export_of_a_device(refusal: Refusal, tmp_path: Path, text: str, line: str) -> None:
    parts = ["type=vfio-user", "id=e0", "addr.type=unix", f"addr.path={tmp_path / 'e0.sock'}", text]
    devices = [BLK, "virtio-scsi-pci,id=s0", "scsi-hd,id=u0,drive=d1"]
    told = refused(refusal, devices, [",".join(filter(None, parts))])
    assert told.startswith('--export "e0": ')
    assert line in told


def test_a_device_is_exported_once(refusal: Refusal, tmp_path: Path) -> None:
    told = refused(refusal, [BLK], [export(tmp_path), export(tmp_path, name="e1")])
    assert told.startswith('--export "e1": ')
    assert "v0" in told


def test_socket_that_cannot_be_bound(refusal: Refusal, tmp_path: Path) -> None:
    told = refused(refusal, [BLK], [export(tmp_path / "nowhere")])
    assert told.startswith('--export "e0": addr.path: cannot listen at ')
    assert told.endswith(": No such file or directory")


def test_everything_is_given_up_at_the_end(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with Server(poll_max_ns=0, strict=False) as server, socket.socket(socket.AF_UNIX) as client:
        for node in NODES:
            server.add_blockdev(node)
        server.add_device(BLK)
        server.add_device("virtio-scsi-pci,id=s0")
        server.add_device("scsi-hd,bus=s0.0,drive=d1")
        server.add_export(export(tmp_path))
        server.add_export(export(tmp_path, "s0", name="e1"))
        client.connect(str(tmp_path / "e0.sock"))
        server.context.look_at_descriptors()
        server.stop()
    assert set(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []

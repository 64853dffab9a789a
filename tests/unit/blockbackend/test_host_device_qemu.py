"""`host_device` against QEMU's, on one loop device: the same bytes, the same map, and locks that both respect."""

from __future__ import annotations

import subprocess
import sys

import pytest

from devmodels.blockbackend import Flags, Op
from devmodels.cli.main import main
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk
from tests.unit.blockbackend.test_host_device import SIZE, loop

__all__ = ["loop"]
from tests.unit.blockbackend.qemuio import need

pytestmark = pytest.mark.qemu


@pytest.fixture(autouse=True)
def _tools() -> None:
    need("qemu-img", "qemu-io")


def qemu_io(device: str, *commands: str) -> str:
    options = f"driver=host_device,filename={device},discard=unmap"
    words = [word for command in commands for word in ("-c", command)]
    answer = subprocess.run(
        ["qemu-io", *words, "--image-opts", options], capture_output=True, text=True, timeout=60, check=False
    )
    return answer.stdout + answer.stderr


@pytest.mark.parametrize("direct", [False, True])
def test_both_read_what_the_other_has_written(loop: str, direct: bool) -> None:
    options: dict[str, object] = {"driver": "host_device", "filename": loop, "discard": "unmap"}
    disk = Disk({**options, "cache": {"direct": direct}}, context=IoContext.wall())
    disk.write(5000, b"y" * 3000)
    disk.do(Op.WRITE_ZEROES, 65536, 65536, flags=Flags.MAY_UNMAP)
    disk.do(Op.FLUSH)
    disk.close()
    seen = qemu_io(
        loop, "read -P 0x79 5000 3000", "read -P 0 64k 64k", "read -P 0x78 0 5000", "write -P 1 1M 0"
    )
    assert "verification failed" not in seen
    qemu_io(loop, "write -P 0x7a 100k 10k", "write -z 200k 20k", "discard 300k 64k")
    disk = Disk(options, context=IoContext.wall())
    assert disk.read(100 << 10, 10 << 10) == b"z" * (10 << 10)
    assert disk.read(200 << 10, 20 << 10) == bytes(20 << 10)
    assert disk.read(300 << 10, 64 << 10) == bytes(64 << 10)
    disk.close()


def test_the_map_is_qemus(
    loop: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = f'json:{{"driver":"host_device","filename":"{loop}"}}'
    monkeypatch.setattr(sys, "argv", ["devmodels", "map", "--output=json", image])
    with pytest.raises(SystemExit):
        main()
    command = ["qemu-img", "map", "--output=json", image]
    theirs = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert capsys.readouterr().out == theirs
    assert str(SIZE) in theirs


def test_one_keeps_the_other_out(loop: str) -> None:
    options: dict[str, object] = {"driver": "host_device", "filename": loop}
    disk = Disk(options, context=IoContext.wall())
    assert 'Failed to get "write" lock' in qemu_io(loop, "write 0 512")
    disk.close()
    assert "wrote 512/512" in qemu_io(loop, "write 0 512")

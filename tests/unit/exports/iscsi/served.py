"""A daemon with an iSCSI export, and other people's tools that are initiators."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.blockbackend.qemuio import need

TARGET = "iqn.2026-11.org.example:d0"
SIZE = 64 << 20


class Served:
    """A daemon with one iSCSI export; `url` is where it is."""

    def __init__(
        self, image: Path, *options: str, objects: tuple[str, ...] = (), writable: bool = True
    ) -> None:
        export = f"type=iscsi,id=e0,node-name=d0,target={TARGET},writable={'on' if writable else 'off'}"
        where = "addr.type=inet,addr.host=127.0.0.1,addr.port=0"
        command = [sys.executable, "-m", "devmodels", "serve", "-v"]
        command += ["--blockdev", f"driver=file,filename={image},node-name=d0,discard=unmap"]
        for each in objects:
            command += ["--object", each]
        command += ["--export", ",".join((export, where, *options))]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.port = int(self.wait_for(r"are at 127\.0\.0\.1:([0-9]+)"))
        self.url = f"iscsi://127.0.0.1:{self.port}/{TARGET}/0"

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_for(self, pattern: str) -> str:
        """What is in the brackets of `pattern`, once the daemon says such a thing."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            found = re.search(pattern, line)
            if found:
                return found[1]
        raise AssertionError(f"the daemon has not said {pattern!r}")

    def kill(self) -> None:
        """It is gone from one moment to the next."""
        self._process.kill()
        self._process.communicate(timeout=30)

    def close(self) -> str:
        """End it; what else it said."""
        self._process.send_signal(signal.SIGTERM)
        _, said = self._process.communicate(timeout=30)
        assert self._process.returncode == 0
        return said


@contextmanager
def serving(
    folder: Path, *options: str, objects: tuple[str, ...] = (), keep: bool = False
) -> Iterator[Served]:
    """A daemon over an empty image of 64 MiB in `folder`; `keep`: over the image that is there."""
    image = folder / "disk.img"
    if not keep:
        with image.open("wb") as file:
            file.truncate(SIZE)
    served = Served(image, *options, objects=objects)
    try:
        yield served
    finally:
        if served.running:
            served.close()


def run(*command: str, fails: bool = False) -> str:
    need(command[0])
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    said = done.stdout + done.stderr
    if "Unknown protocol 'iscsi'" in said or "Unknown driver 'iscsi'" in said:
        pytest.skip("needs qemu-block-extra")
    assert (done.returncode != 0) is fails, said
    return said


def iscsi_test_cu(url: str, family: str) -> tuple[dict[str, int], str]:
    """Run a family of tests that may destroy data; counts of tests by what became of them, and what was said."""
    need("iscsi-test-cu")
    command = ("iscsi-test-cu", "--dataloss", f"--test={family}", "-V", "-n", url)
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False, errors="replace")
    found = re.search(r"tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", done.stdout)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return dict(zip(("total", "ran", "passed", "failed"), map(int, found.groups()), strict=True)), done.stdout

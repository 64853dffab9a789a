"""Other people's initiators on our export: QEMU's tools, and libiscsi's with its conformance suite."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.blockbackend.qemuio import need

from .served import SIZE, TARGET, Served, iscsi_test_cu, run, serving

pytestmark = pytest.mark.qemu

SECRET = "twelve-bytes-and-more"

ISCSI_TESTS = ("iSCSI",)
"""The families of iscsi-test-cu that are about the protocol and not about a disk."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as found:
        yield found


def test_an_image_is_copied_out_and_in(served: Served, tmp_path: Path) -> None:
    source, back = tmp_path / "source.img", tmp_path / "back.img"
    source.write_bytes(
        bytes(1 << 20) + b"".join(bytes([n % 256]) * 4096 for n in range(8192)) + bytes(31 << 20)
    )
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", str(source), served.url)
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", served.url, str(back))
    assert back.read_bytes() == source.read_bytes()
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", str(source), served.url)
    info = json.loads(run("qemu-img", "info", "--output=json", served.url))
    assert info["virtual-size"] == SIZE


def test_qemu_io_reads_writes_zeroes_and_discards(served: Served) -> None:
    said = run(
        "qemu-io",
        "-f",
        "raw",
        *("-c", "write -P 0x5a 1M 3M", "-c", "read -P 0x5a 1M 3M", "-c", "write -z 2M 64k"),
        *("-c", "read -P 0 2M 64k", "-c", "discard 3M 1M", "-c", "flush", "-c", "write -f -P 7 0 512"),
        *(
            "-c",
            "aio_write -P 9 4M 1M",
            "-c",
            "aio_write -P 8 5M 1M",
            "-c",
            "aio_flush",
            "-c",
            "read -P 8 5M 1M",
        ),
        served.url,
    )
    assert "error" not in said.lower()
    assert "Pattern verification failed" not in said


def test_digests_are_spoken(served: Served) -> None:
    options = (
        f"driver=iscsi,transport=tcp,portal=127.0.0.1:{served.port},target={TARGET},header-digest=crc32c"
    )
    said = run("qemu-io", "-c", "write -P 3 0 1M", "-c", "read -P 3 0 1M", "--image-opts", options)
    assert "Pattern verification failed" not in said


def test_targets_are_found(served: Served) -> None:
    said = run("iscsi-ls", "-s", f"iscsi://127.0.0.1:{served.port}/")
    assert f"Target:{TARGET} Portal:127.0.0.1:{served.port},1" in said
    assert re.search(r"Lun:0\s+Type:DIRECT_ACCESS", said)
    assert "Vendor:DEVMODEL" in run("iscsi-inq", served.url)


def test_who_knows_the_secret_gets_in(tmp_path: Path) -> None:
    secret = f"secret,id=s0,data={SECRET}"
    with serving(tmp_path, "user=me", "password-secret=s0", objects=(secret,)) as served:
        inside = served.url.replace("iscsi://", f"iscsi://me%{SECRET}@")
        run("iscsi-inq", served.url, fails=True)
        run("iscsi-inq", inside.replace("twelve", "eleven"), fails=True)
        assert served.wait_for("(wrong user or secret)")
        assert "Vendor:DEVMODEL" in run("iscsi-inq", inside)
        where = f"driver=iscsi,transport=tcp,portal=127.0.0.1:{served.port},target={TARGET}"
        options = f"{where},user=me,password-secret=s0"
        said = run("qemu-io", "--object", secret, "-c", "read 0 64k", "--image-opts", options)
        assert "read 65536/65536" in said


@pytest.mark.parametrize("family", ISCSI_TESTS)
def test_the_conformance_suite_on_the_protocol(served: Served, family: str) -> None:
    counts, said = iscsi_test_cu(served.url, family)
    assert counts["ran"] == counts["total"] > 0
    assert counts["failed"] == 0, said[-4000:]


def test_a_daemon_ends_while_somebody_is_at_work(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        bench = "qemu-img", "bench", "-f", "raw", "-t", "none", "-c", "1000000", "-d", "8", "-s", "4096"
        need(bench[0])
        client = subprocess.Popen((*bench, served.url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        served.wait_for(r"(<Connection .*>) from")
    client.kill()
    client.wait()

"""The guest tests' own tools: they tell good from bad, on a back end that is known to work."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .backends import qemu_storage_daemon
from .conftest import needed
from .host import Unavailable, appearing_whole, tool
from .initramfs import CpioWriter
from .kernel import extract_vmlinux
from .vm import GuestFailure, GuestRun, parse_results, run_guest

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)
DETAILS = st.text(st.characters(min_codepoint=32, max_codepoint=126)).map(str.strip)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    folder = tmp_path_factory.mktemp("control")
    image = folder / "disk.img"
    image.write_bytes(random.Random(6).randbytes(1 << 20))
    with needed(), qemu_storage_daemon(image, folder) as backend:
        return run_guest("control.sh", backend)


@pytest.mark.guest
def test_peer_boots_and_reads(control: GuestRun) -> None:
    assert control.check("boot").ok
    assert control.check("good").ok


@pytest.mark.guest
def test_failed_item_tells_its_last_line_and_the_console(control: GuestRun) -> None:
    with pytest.raises(GuestFailure, match=r"(?s)bad: last words\n.*first words"):
        control.check("bad")


@pytest.mark.guest
def test_unequal_value_tells_both_values(control: GuestRun) -> None:
    with pytest.raises(GuestFailure, match="the sum is '4', expected '5'"):
        control.check("unequal")


@pytest.mark.guest
def test_item_after_the_kernel_died_fails_with_the_console(control: GuestRun) -> None:
    with pytest.raises(GuestFailure, match=r"(?s)no result for late: .*Kernel panic"):
        control.check("late")


@pytest.mark.guest
def test_guest_that_takes_too_long_is_ended() -> None:
    with needed():
        run = run_guest("probe.sh", None, timeout=0.5, accelerator="tcg")
    with pytest.raises(GuestFailure, match=r"not done in 0\.5 s"):
        run.check("probe")


@given(WORDS, st.booleans(), st.floats(0, 1e6), DETAILS)
def test_result_line_is_read_as_it_was_written(item: str, ok: bool, seconds: float, detail: str) -> None:
    line = f"RESULT {item} {'ok' if ok else 'FAIL'} {seconds:.2f} {detail}"
    (result,) = parse_results(f"noise\n{line}\r\n").values()
    assert (result.item, result.ok, result.seconds, result.detail) == (
        item,
        ok,
        float(f"{seconds:.2f}"),
        detail,
    )


@given(st.text())
def test_noise_is_no_result(text: str) -> None:
    assert parse_results(text.replace("RESULT", "")) == {}


def test_what_was_run_belongs_to_its_item() -> None:
    results = parse_results("RAN a x -y\tz\t\nRESULT a ok 0.10 \nRESULT b ok 0.10 \n")
    assert (results["a"].commands, results["b"].commands) == (("x -y", "z"), ())


def test_item_that_failed_once_stays_failed() -> None:
    assert not parse_results("RESULT a FAIL 0.10 x\nRESULT a ok 0.10 y\n")["a"].ok


def test_archive_is_unpacked_by_another_program(tmp_path: Path) -> None:
    cpio = CpioWriter()
    cpio.file("deep/down/odd", b"seven..", 0o755)
    cpio.file("empty", b"")
    cpio.symlink("link", "deep/down/odd")
    archive = cpio.finish()
    assert len(archive) % 4 == 0
    with needed():
        busybox = tool("busybox", "busybox-static")
    subprocess.run([busybox, "cpio", "-i"], input=archive, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "link").read_bytes() == b"seven.."
    assert (tmp_path / "deep/down/odd").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "empty").read_bytes() == b""
    assert (tmp_path / "link").readlink() == Path("deep/down/odd")


def bz_image(payload: bytes) -> bytes:
    """A boot image with two set-up sectors and a payload at 64 bytes into the protected-mode part."""
    image = bytearray(3 * 512 + 64)
    image[0x1F1] = 2
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    return bytes(image) + payload + b"what follows"


@pytest.mark.parametrize(
    "packed",
    [
        lzma.compress(b"\x7fELF kernel") + b"size",
        gzip.compress(b"\x7fELF kernel"),
        bz2.compress(b"\x7fELF kernel") + b"size",
    ],
    ids=["xz", "gzip", "bzip2"],
)
def test_vmlinux_comes_out_of_the_boot_image(packed: bytes) -> None:
    assert extract_vmlinux(bz_image(packed)) == b"\x7fELF kernel"


@pytest.mark.parametrize("image", [b"", bytes(4096), bz_image(b"\x28\xb5\x2f\xfd unknown")])
def test_what_cannot_be_unpacked_is_left_to_the_boot_stub(image: bytes) -> None:
    assert extract_vmlinux(image) is None


def test_folder_that_failed_half_way_never_appears(tmp_path: Path) -> None:
    def half() -> None:
        with appearing_whole(tmp_path / "kernel") as scratch:
            (scratch / "part").write_bytes(b"1")
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        half()
    assert list(tmp_path.iterdir()) == []


def test_rival_that_was_faster_wins(tmp_path: Path) -> None:
    with appearing_whole(tmp_path / "kernel") as scratch:
        (scratch / "file").write_bytes(b"mine")
        (tmp_path / "kernel").mkdir()
        (tmp_path / "kernel" / "file").write_bytes(b"rival's")
    assert (tmp_path / "kernel" / "file").read_bytes() == b"rival's"
    assert [path.name for path in tmp_path.iterdir()] == ["kernel"]


def missing_tool() -> None:
    with needed():
        raise Unavailable("fio is missing: apt-get install fio")


def test_missing_tool_skips_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install fio"):
        missing_tool()


def test_missing_tool_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install fio"):
        missing_tool()

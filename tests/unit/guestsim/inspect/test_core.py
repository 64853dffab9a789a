"""Cores as memory for the guest's side, damaged ones included; `devmodels.elfcore` writes the good ones."""

from __future__ import annotations

import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.elfcore import write_core
from devmodels.memory import GuestMemory
from devmodels.memoryregions import SharedRegion
from guestsim.inspect.core import CoreError, open_core
from guestsim.inspect.image import MemoryImage, OutsideMemoryError

LOW, HIGH = bytes(range(256)) * 32, b"high" * 1024
HEADERS = 64 + 2 * 56


def good_core(folder: Path) -> Path:
    low, high = SharedRegion(0x1000, bytearray(LOW)), SharedRegion(1 << 32, bytearray(HIGH))
    write_core(GuestMemory(low, high), folder / "core")
    return folder / "core"


def test_memory_is_where_the_core_says(tmp_path: Path) -> None:
    image = open_core(good_core(tmp_path))
    assert [(span.base, span.end) for span in image.spans] == [(0x1000, 0x3000), (1 << 32, (1 << 32) + 4096)]
    assert image.read(0x1000, len(LOW)) == LOW
    assert image.read((1 << 32) + 4092, 4) == b"high"
    assert image.size == len(LOW) + len(HIGH)
    for address, length in ((0, 4), (0x2FFF, 2), ((1 << 32) + 4095, 2), ((1 << 64) - 1, 4)):
        assert not image.contains(address, length)
        with pytest.raises(OutsideMemoryError):
            image.read(address, length)


def test_memory_that_touches_is_read_across() -> None:
    image = MemoryImage([(0x2000, b"b" * 16), (0x1000, b"a" * 0x1000)])
    assert image.read(0x1FFE, 4) == b"aabb"
    assert image.contains(0x1FFE, 18)
    assert not image.contains(0x1FFE, 19)


def test_a_core_of_32_bits(tmp_path: Path) -> None:
    header = (
        b"\x7fELF\x01\x01\x01"
        + bytes(9)
        + struct.pack("<HHIIIIIHHHHHH", 4, 3, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    )
    load = struct.pack("<IIIIIIII", 1, 84, 0, 0x7000, 4, 4, 0, 0)
    (tmp_path / "core").write_bytes(header + load + b"data")
    assert open_core(tmp_path / "core").read(0x7000, 4) == b"data"


@pytest.mark.parametrize("delta", [0, 4096])
def test_a_page_in_two_segments(tmp_path: Path, delta: int) -> None:
    """As a dump with `paging` has them: both must mean the same bytes of the file."""
    path = good_core(tmp_path)
    core = bytearray(path.read_bytes())
    offset = struct.unpack_from("<Q", core, 64 + 8)[0]
    struct.pack_into("<QQQ", core, 64 + 56 + 8, offset + 4096 + delta, 0xFFFF_8000_0000_0000, 0x2000)
    path.write_bytes(core)
    if delta:
        with pytest.raises(CoreError, match="two segments hold the memory at 0x2000"):
            open_core(path)
    else:
        assert open_core(path).read(0x1000, len(LOW)) == LOW


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an ELF file, expected an ELF core"),
        (b"makedumpfile\0\0\0\0", "a compressed dump, expected an ELF core"),
        (b"\x7fELF", "damaged ELF headers"),
    ],
)
def test_what_is_no_core_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "core").write_bytes(content)
    with pytest.raises(CoreError, match=says) as refused:
        open_core(tmp_path / "core")
    assert "\n" not in str(refused.value)


@given(
    length=st.integers(0, 0x5000),
    changes=st.lists(
        st.tuples(
            st.integers(0, HEADERS - 1), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
        ),
        max_size=8,
    ),
)
def test_a_damaged_core_is_read_or_refused(length: int, changes: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        path = good_core(Path(folder))
        core = bytearray(path.read_bytes())
        for at, value in changes:
            core[at] = value
        path.write_bytes(core[: len(core) - length])
        try:
            image = open_core(path)
        except CoreError as error:
            assert "\n" not in str(error)  # noqa: PT017 (either outcome is right)
        else:
            for span in image.spans:
                assert len(image.read(span.base, min(16, len(span.view)))) == min(16, len(span.view))

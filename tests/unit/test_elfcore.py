"""Cores of a machine's memory: what was written is what others read, and what comes back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.elfcore import CoreError, core_memory, write_core
from devmodels.memory import GuestMemory
from devmodels.memoryregions import BouncedRegion, GuestMemoryError, Region, SharedRegion


def region(base: int, data: bytearray, *, shared: bool, readonly: bool = False) -> Region:
    if shared:
        return SharedRegion(base, data, readonly=readonly)

    def read(address: int, length: int) -> bytes:
        return bytes(data[address - base : address - base + length])

    def write(address: int, content: bytes) -> None:
        data[address - base : address - base + len(content)] = content

    return BouncedRegion(base, len(data), read, write, readonly=readonly)


@st.composite
def memories(draw: st.DrawFn) -> GuestMemory:
    """A few regions anywhere, some of them side by side, mostly zero."""
    memory = GuestMemory()
    base = draw(st.integers(0, 1 << 60)) * 8
    for _ in range(draw(st.integers(1, 4))):
        data = bytearray(8 * draw(st.integers(1, 3000)))
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(data) - 1))
            content = draw(st.binary(max_size=64))[: len(data) - at]
            data[at : at + len(content)] = content
        memory.add(region(base, data, shared=draw(st.booleans()), readonly=draw(st.booleans())))
        base += len(data) + draw(st.sampled_from([0, 8, 4096, 1 << 32]))
    return memory


@given(memories())
def test_what_was_written_comes_back(memory: GuestMemory) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "core"
        write_core(memory, path)
        found = core_memory(path)
        assert [(r.base, r.size) for r in found.regions] == [(r.base, r.size) for r in memory.regions]
        for part in memory.regions:
            assert found.load(part.base, part.size) == memory.load(part.base, part.size)


@pytest.mark.parametrize("shared", [True, False])
def test_readelf_reads_it(tmp_path: Path, shared: bool) -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        if os.environ.get("CI") == "true":
            pytest.fail("readelf is missing: apt-get install binutils")
        pytest.skip("readelf is missing")
    low, high = bytearray(0x5000), bytearray(b"end" * 8)
    memory = GuestMemory(region(0x1000, low, shared=shared), region(1 << 40, high, shared=shared))
    write_core(memory, tmp_path / "core")
    run = subprocess.run([readelf, "-lW", tmp_path / "core"], capture_output=True, text=True, check=True)
    assert not run.stderr
    assert "Elf file type is CORE" in run.stdout
    loads = re.findall(r"LOAD +\S+ \S+ (0x\S+) (0x\S+) (0x\S+) RWE", run.stdout)
    assert [tuple(int(field, 16) for field in load) for load in loads] == [
        (0x1000, 0x5000, 0x5000),
        (1 << 40, 24, 24),
    ]


def test_zeroes_take_no_room(tmp_path: Path) -> None:
    memory = GuestMemory(SharedRegion(0, bytearray(64 << 20)))
    memory.store(40 << 20, b"one page")
    write_core(memory, tmp_path / "core")
    facts = (tmp_path / "core").stat()
    assert facts.st_size > 64 << 20
    assert facts.st_blocks * 512 < 4 << 20


def test_a_core_is_read_only(tmp_path: Path) -> None:
    write_core(GuestMemory(SharedRegion(0, bytearray(4096))), tmp_path / "core")
    memory = core_memory(tmp_path / "core")
    with pytest.raises(GuestMemoryError, match="read-only"):
        memory.write(0, b"x")


def test_a_writable_core_keeps_its_file(tmp_path: Path) -> None:
    write_core(GuestMemory(SharedRegion(0, bytearray(4096))), tmp_path / "core")
    before = (tmp_path / "core").read_bytes()
    memory = core_memory(tmp_path / "core", writable=True)
    memory.write(8, b"changed")
    assert memory.read(8, 7) == b"changed"
    assert (tmp_path / "core").read_bytes() == before


GOOD = GuestMemory(SharedRegion(0x1000, bytearray(b"data" * 1024)), SharedRegion(0x8000, bytearray(4096)))


def packed_header(core: bytes, at: int, value: bytes) -> bytes:
    return core[:at] + value + core[at + len(value) :]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda core: b"", "not an ELF file"),
        (lambda core: b"makedumpfile" + core, "a compressed dump, expected an ELF core"),
        (lambda core: b"KDUMP   " + core, "a compressed dump, expected an ELF core"),
        (lambda core: core[:40], "damaged ELF headers"),
        (lambda core: core[:100], "damaged ELF headers"),
        (lambda core: core[:4097], "cut off: 4097 bytes, expected 8192 or more"),
        (lambda core: packed_header(core, 16, b"\x02\0"), "type ET_EXEC, expected ET_CORE"),
        (lambda core: packed_header(core, 56, b"\xff\xff"), "65535 program headers of 56 bytes"),
        (lambda core: packed_header(core, 54, b"\0\0"), "2 program headers of 0 bytes"),
        (lambda core: packed_header(core, 64 + 24, b"\x01"), "expected multiples of 8"),
        (lambda core: packed_header(core, 64 + 24, b"\0\x80"), "overlaps"),
        (lambda core: packed_header(core, 64 + 24, b"\xf8" + b"\xff" * 7), "do not fit below 2"),
    ],
)
def test_what_is_no_core_is_refused_in_one_line(tmp_path: Path, change, says: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "core"
    write_core(GOOD, path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CoreError, match=says) as refused:
        core_memory(path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CoreError, match="cannot be read: No such file"):
        core_memory(tmp_path / "none")

"""ELF cores: a machine's memory written to a file, and such a file as memory.

What QEMU's `dump-guest-memory` writes (without `paging` and in the format `elf`) and what tools for cores read: a
PT_LOAD segment for each piece of guest-physical memory, at `p_paddr`.  Nothing is read whole: a core is mapped, and
holes are left in the file where memory is zero.

Documents: System V ABI (gABI 4.1), chapters 4 and 5: ELF header, program headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import ACCESS_COPY, ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

from elftools.common.utils import struct_parse
from elftools.construct.lib.container import Container
from elftools.elf.elffile import ELFFile
from elftools.elf.structs import ELFStructs

from devmodels.memory import GuestMemory
from devmodels.memoryregions import WORD_ALIGNMENT, SharedRegion

CHUNK = 1 << 20
SEGMENT_LIMIT = 4096
"""Most program headers read or written; a machine has a dozen pieces of memory."""

_PACKED = (b"makedumpfile", b"KDUMP   ", b"PAGEDU")
_EHDR_SIZE = 64
_PAGE_SIZE = 4096
_PHDR_SIZE = {32: 32, 64: 56}
_READ_WRITE_EXECUTE = 7


class CoreError(ValueError):
    """The file is no core that can be memory; the text is one line that says what was expected."""


def core_memory(path: Path | str, *, writable: bool = False) -> GuestMemory:
    """The guest-physical memory in an ELF core.

    Read-only, or with `writable` copy-on-write: what is written stays in this process.  The file must not shrink while
    the memory lives.  Raises `CoreError` where it is no ELF core, is cut off, or two segments claim one address.
    """
    try:
        with open(path, "rb") as file:
            segments = _segments(file, str(path))
            content = memoryview(mmap(file.fileno(), 0, access=ACCESS_COPY if writable else ACCESS_READ))
    except OSError as error:
        raise CoreError(f"{path}: cannot be read: {error.strerror}") from error
    memory = GuestMemory()
    for address, offset, size in segments:
        if address % WORD_ALIGNMENT or size % WORD_ALIGNMENT:
            raise CoreError(
                f"{path}: {size:#x} bytes at {address:#x}, expected multiples of {WORD_ALIGNMENT}"
            )
        view = content[offset : offset + size]
        try:
            memory.add(SharedRegion(address, view, readonly=not writable, name="core"))
        except ValueError as error:
            raise CoreError(f"{path}: {error}") from error
    return memory


def write_core(memory: GuestMemory, path: Path | str) -> None:
    """Write all of `memory`, read-only regions included, as an ELF core for x86-64.

    `p_vaddr` is the guest-physical address too, so that a debugger finds memory there.  Raises OSError where the file
    cannot be written, ValueError where memory has more regions than a core has program headers.
    """
    regions = memory.regions
    if len(regions) > SEGMENT_LIMIT:
        raise ValueError(f"{len(regions)} regions, a core holds {SEGMENT_LIMIT}")
    offset = _page_aligned(_EHDR_SIZE + _PHDR_SIZE[64] * len(regions))
    structs = ELFStructs(little_endian=True, elfclass=64)
    structs.create_basic_structs()
    structs.create_advanced_structs("ET_CORE", "EM_X86_64", "ELFOSABI_SYSV")
    with open(path, "wb") as file:
        file.write(structs.Elf_Ehdr.build(_file_header(len(regions))))
        starts = []
        for region in regions:
            file.write(structs.Elf_Phdr.build(_program_header(region.base, offset, region.size)))
            starts.append((region.base, region.size, offset))
            offset += _page_aligned(region.size)
        for base, size, start in starts:
            _write_content(file, memory, base, size, start)
        file.truncate(offset)


def _write_content(file: BinaryIO, memory: GuestMemory, base: int, size: int, start: int) -> None:
    zeroes = bytes(CHUNK)
    for done in range(0, size, CHUNK):
        data = memory.load(base + done, min(CHUNK, size - done))
        if data != zeroes[: len(data)]:
            file.seek(start + done)
            file.write(data)


def _page_aligned(size: int) -> int:
    return -(-size // _PAGE_SIZE) * _PAGE_SIZE


def _file_header(segments: int) -> Container:
    identification = Container(
        EI_MAG=list(b"\x7fELF"),
        EI_CLASS="ELFCLASS64",
        EI_DATA="ELFDATA2LSB",
        EI_VERSION="EV_CURRENT",
        EI_OSABI="ELFOSABI_SYSV",
        EI_ABIVERSION=0,
    )
    return Container(
        e_ident=identification,
        e_type="ET_CORE",
        e_machine="EM_X86_64",
        e_version="EV_CURRENT",
        e_entry=0,
        e_phoff=_EHDR_SIZE,
        e_shoff=0,
        e_flags=0,
        e_ehsize=_EHDR_SIZE,
        e_phentsize=_PHDR_SIZE[64],
        e_phnum=segments,
        e_shentsize=0,
        e_shnum=0,
        e_shstrndx=0,
    )


def _program_header(address: int, offset: int, size: int) -> Container:
    return Container(
        p_type="PT_LOAD",
        p_flags=_READ_WRITE_EXECUTE,
        p_offset=offset,
        p_vaddr=address,
        p_paddr=address,
        p_filesz=size,
        p_memsz=size,
        p_align=_PAGE_SIZE,
    )


def _segments(file: BinaryIO, name: str) -> list[tuple[int, int, int]]:
    """(guest-physical address, offset in the file, bytes there) of what an ELF core holds."""
    start = file.read(16)
    if start.startswith(_PACKED):
        raise CoreError(
            f"{name}: a compressed dump, expected an ELF core (dump-guest-memory without a format)"
        )
    if not start.startswith(b"\x7fELF"):
        raise CoreError(f"{name}: not an ELF file, expected an ELF core")
    try:
        return list(_loads(ELFFile(file), name))
    except CoreError:
        raise
    except Exception as error:
        # The parser raises errors of many kinds at bytes that are no headers.
        raise CoreError(f"{name}: damaged ELF headers: {' '.join(str(error).split())}") from error


def _loads(elf: ELFFile, name: str) -> Iterator[tuple[int, int, int]]:
    if elf["e_type"] != "ET_CORE":
        raise CoreError(f"{name}: an ELF file of type {elf['e_type']}, expected ET_CORE")
    count = elf["e_phnum"]
    if count > SEGMENT_LIMIT or elf["e_phentsize"] != _PHDR_SIZE[elf.elfclass]:
        size = elf["e_phentsize"]
        raise CoreError(
            f"{name}: {count} program headers of {size} bytes, expected at most {SEGMENT_LIMIT} of "
            f"{_PHDR_SIZE[elf.elfclass]}"
        )
    for index in range(count):
        at = elf["e_phoff"] + index * elf["e_phentsize"]
        header = struct_parse(elf.structs.Elf_Phdr, elf.stream, at)
        if header.p_type != "PT_LOAD" or not header.p_filesz:
            continue
        if header.p_offset + header.p_filesz > elf.stream_len:
            end = header.p_offset + header.p_filesz
            raise CoreError(f"{name}: cut off: {elf.stream_len} bytes, expected {end} or more")
        yield header.p_paddr, header.p_offset, header.p_filesz

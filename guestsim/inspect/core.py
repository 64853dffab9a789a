"""ELF cores of a guest's memory, as QEMU's `dump-guest-memory` writes them.

A core is mapped, never read whole.  With `paging` one page may be in several segments; they must then agree on where
in the file it is.

Documents: System V ABI (gABI 4.1), chapters 4 and 5: ELF header, program headers.
"""

from __future__ import annotations

from mmap import ACCESS_READ, mmap
from typing import TYPE_CHECKING, BinaryIO

from elftools.common.utils import struct_parse
from elftools.elf.elffile import ELFFile

from guestsim.errors import GuestError
from guestsim.inspect.image import ADDRESS_LIMIT, MemoryImage

if TYPE_CHECKING:
    from pathlib import Path

HEADER_LIMIT = 0xFFFE
"""Most program headers: from 0xFFFF on, their number is kept elsewhere (gABI, `PN_XNUM`)."""

_HEADER_SIZE = {32: 32, 64: 56}
_PACKED = (b"makedumpfile", b"KDUMP   ", b"PAGEDU")


class CoreError(GuestError):
    """The file is no core that can be read; one line that says what was expected."""


def open_core(path: Path) -> MemoryImage:
    """The memory in an ELF core; raises `CoreError`.

    The file must not shrink while the image is in use.
    """
    try:
        with path.open("rb") as file:
            pieces = _pieces(file)
            content = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
    except OSError as error:
        raise CoreError(f"{path}: cannot be read: {error.strerror}") from error
    except CoreError as error:
        raise CoreError(f"{path}: {error}") from error
    return MemoryImage((base, content[base - delta : end - delta]) for base, end, delta in pieces)


def _pieces(file: BinaryIO) -> list[tuple[int, int, int]]:
    """(first address, end, address - offset in the file) of the memory, sorted, without overlaps."""
    start = file.read(16)
    if start.startswith(_PACKED):
        raise CoreError("a compressed dump, expected an ELF core (dump-guest-memory without a format)")
    if not start.startswith(b"\x7fELF"):
        raise CoreError("not an ELF file, expected an ELF core")
    try:
        loads = _loads(ELFFile(file))
    except CoreError:
        raise
    except Exception as error:
        # The parser raises errors of many kinds at bytes that are no headers.
        raise CoreError(f"damaged ELF headers: {' '.join(str(error).split())}") from error
    return _joined(loads)


def _loads(elf: ELFFile) -> list[tuple[int, int, int]]:
    if elf["e_type"] != "ET_CORE":
        raise CoreError(f"an ELF file of type {elf['e_type']}, expected ET_CORE")
    count, size = elf["e_phnum"], elf["e_phentsize"]
    if count > HEADER_LIMIT or size != _HEADER_SIZE[elf.elfclass]:
        expected = f"expected at most {HEADER_LIMIT} of {_HEADER_SIZE[elf.elfclass]}"
        raise CoreError(f"{count} program headers of {size} bytes, {expected}")
    loads = []
    for index in range(count):
        header = struct_parse(elf.structs.Elf_Phdr, elf.stream, elf["e_phoff"] + index * size)
        base, offset, length = header.p_paddr, header.p_offset, header.p_filesz
        if header.p_type != "PT_LOAD" or not length:
            continue
        if offset + length > elf.stream_len:
            raise CoreError(f"cut off: {elf.stream_len} bytes, expected {offset + length} or more")
        if base + length > ADDRESS_LIMIT:
            raise CoreError(f"{length:#x} bytes of memory at {base:#x} end beyond 2**64")
        loads.append((base, base + length, base - offset))
    if not loads:
        raise CoreError("an ELF core without memory, expected PT_LOAD segments")
    return sorted(loads)


def _joined(loads: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    pieces = [loads[0]]
    for base, end, delta in loads[1:]:
        last_base, last_end, last_delta = pieces[-1]
        if base <= last_end and delta == last_delta:
            pieces[-1] = (last_base, max(end, last_end), delta)
        elif base < last_end:
            raise CoreError(f"two segments hold the memory at {base:#x}")
        else:
            pieces.append((base, end, delta))
    return pieces

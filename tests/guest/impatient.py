"""The kernel's virtio_scsi driver as one that does not wait for ever.

The stock driver has an `eh_timed_out` that gives a command that took too long its time once more, always: no command of
a disk is ever aborted.  Without that pointer in its host template it does as drivers of other hosts do: abort the
command, then reset the logical unit.  All the code that runs is the kernel's own.

Documents: Linux `Documentation/scsi/scsi_eh.rst`, `Documentation/admin-guide/module-signing.rst` (a module without a
signature may be loaded), System V ABI x86-64 (R_X86_64_NONE).
"""

from __future__ import annotations

import io
import struct

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from .kernel import Kernel

MODULE = "virtio_scsi.ko"
_HANDLER = "virtscsi_eh_timed_out"
_SIGNED = b"~Module signature appended~\n"
_SIGNATURE = struct.Struct(">8xI")
"""What is before the mark: kinds and lengths, the signature's length last."""
_RELA = struct.Struct("<QQq")


def impatient_module(kernel: Kernel) -> bytes:
    """The module without the pointer to its handler of time-outs; LookupError where there is none."""
    module = bytearray(_unsigned(next(kernel.modules.rglob(MODULE)).read_bytes()))
    elf = ELFFile(io.BytesIO(module))
    symbols = elf.get_section_by_name(".symtab")
    assert isinstance(symbols, SymbolTableSection)
    handlers = symbols.get_symbol_by_name(_HANDLER)
    relocations = elf.get_section_by_name(".rela.data")
    assert isinstance(relocations, RelocationSection)
    for number, relocation in enumerate(relocations.iter_relocations()):
        symbol = symbols.get_symbol(relocation["r_info_sym"])
        place = symbol["st_shndx"], symbol["st_value"] + relocation["r_addend"]
        if place in [(each["st_shndx"], each["st_value"]) for each in handlers or ()]:
            at = relocations["sh_offset"] + number * _RELA.size
            _RELA.pack_into(module, at, relocation["r_offset"], 0, 0)
            return bytes(module)
    raise LookupError(f"{MODULE} does not point to {_HANDLER}")


def _unsigned(module: bytes) -> bytes:
    """The module without its signature, which would not be right any more."""
    if not module.endswith(_SIGNED):
        return module
    end = len(module) - len(_SIGNED) - _SIGNATURE.size
    (length,) = _SIGNATURE.unpack_from(module, end)
    return module[: end - length]

"""Bits of the initiator's PDUs that must be 0, and those that must be 1 (RFC 7143 §11).

A receiver passes over them; whoever judges an initiator does not.
"""

from __future__ import annotations

from devmodels.protocols.iscsi.pdu import (
    ATTRIBUTE_MASK,
    BHS_SIZE,
    CONTINUE,
    CURRENT_SHIFT,
    FINAL,
    IMMEDIATE,
    LAYOUTS,
    OPCODE_MASK,
    READ,
    STAGE_MASK,
    TRANSIT,
    WRITE,
    Opcode,
)

_FUNCTION_MASK = 0x7F
_SNACK_TYPE_MASK = 0x0F
_STAGES = STAGE_MASK << CURRENT_SHIFT | STAGE_MASK

_FIRST_TWO: dict[Opcode, tuple[int, int, int]] = {
    Opcode.NOP_OUT: (IMMEDIATE, FINAL, FINAL),
    Opcode.SCSI_COMMAND: (IMMEDIATE, FINAL | READ | WRITE | ATTRIBUTE_MASK, 0),
    Opcode.TASK_MANAGEMENT_REQUEST: (IMMEDIATE, FINAL | _FUNCTION_MASK, FINAL),
    Opcode.LOGIN_REQUEST: (IMMEDIATE, TRANSIT | CONTINUE | _STAGES, 0),
    Opcode.TEXT_REQUEST: (IMMEDIATE, FINAL | CONTINUE, 0),
    Opcode.DATA_OUT: (0, FINAL, 0),
    Opcode.LOGOUT_REQUEST: (IMMEDIATE, FINAL | _FUNCTION_MASK, FINAL),
    Opcode.SNACK_REQUEST: (0, FINAL | _SNACK_TYPE_MASK, FINAL),
}
"""What the first byte may have besides the opcode, what the second may have, and what it must have."""


def _mask(opcode: Opcode) -> tuple[int, int]:
    """The bits of a header, as one big-endian number, that are looked at, and what they must be."""
    first, second, needed = _FIRST_TWO[opcode]
    layout = LAYOUTS[opcode]
    used = bytearray(BHS_SIZE)
    for name in layout.names:
        at, size = layout.offsets[name], layout.sizes[name]
        used[at : at + size] = b"\xff" * size
    used[0], used[1] = OPCODE_MASK | first, second & ~needed
    expected = bytes([opcode, needed]) + bytes(BHS_SIZE - 2)
    return ~int.from_bytes(used, "big") & (1 << 8 * BHS_SIZE) - 1, int.from_bytes(expected, "big")


_MASKS = {int(opcode): _mask(opcode) for opcode in _FIRST_TWO}


def wrong_byte(opcode: int, header: bytes) -> int | None:
    """The first byte of an initiator's `header` with a bit that should have been reserved, or set; None: all is well.

    Of an opcode that no initiator sends nothing is known.
    """
    mask, expected = _MASKS.get(opcode, (0, 0))
    wrong = (int.from_bytes(header, "big") ^ expected) & mask
    return BHS_SIZE - (wrong.bit_length() + 7) // 8 if wrong else None

"""Reserved bits of an initiator's headers: a target passes over them, and under the profile strict it tells."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.protocols.iscsi import pdu
from devmodels.protocols.iscsi.pdu import BHS_SIZE, LAYOUTS, Opcode
from devmodels.protocols.iscsi.reserved import wrong_byte

from .initiator import LOGIN_KEYS, TEST_UNIT_READY, World, build

Make = Callable[..., World]

RESERVED: dict[Opcode, tuple[dict[int, int], *tuple[tuple[int, int], ...]]] = {
    Opcode.NOP_OUT: ({1: 0x7F}, (2, 4), (32, 48)),
    Opcode.SCSI_COMMAND: ({1: 0x18}, (2, 4)),
    Opcode.TASK_MANAGEMENT_REQUEST: ({}, (2, 4), (40, 48)),
    Opcode.LOGIN_REQUEST: ({1: 0x30}, (22, 24), (32, 48)),
    Opcode.TEXT_REQUEST: ({1: 0x3F}, (2, 4), (32, 48)),
    Opcode.DATA_OUT: ({0: 0x40, 1: 0x7F}, (2, 4), (24, 28), (32, 36), (44, 48)),
    Opcode.LOGOUT_REQUEST: ({}, (2, 4), (8, 16), (22, 24), (32, 48)),
    Opcode.SNACK_REQUEST: ({0: 0x40, 1: 0x70}, (2, 4), (24, 28), (32, 40)),
}
"""As the figures of RFC 7143 §11.3 to §11.18 have them: bits in bytes, and whole bytes from one to before the other."""

ALWAYS_FINAL = {Opcode.NOP_OUT, Opcode.TASK_MANAGEMENT_REQUEST, Opcode.LOGOUT_REQUEST, Opcode.SNACK_REQUEST}


def header_of(opcode: Opcode) -> bytearray:
    """One in which all is well."""
    return bytearray(build(opcode, flags=pdu.FINAL if opcode in ALWAYS_FINAL else 0))


@pytest.mark.parametrize("opcode", RESERVED, ids=lambda opcode: opcode.name.lower())
def test_the_reserved_bits_are_those_of_the_figures(opcode: Opcode) -> None:
    bits, *ranges = RESERVED[opcode]
    reserved = [0x80, *[0] * (BHS_SIZE - 1)]
    for at, mask in bits.items():
        reserved[at] |= mask
    for first, end in ranges:
        reserved[first:end] = [0xFF] * (end - first)
    for at in range(1, BHS_SIZE):
        for bit in range(8):
            header = header_of(opcode)
            header[at] ^= 1 << bit
            final = at == 1 and bit == 7 and opcode in ALWAYS_FINAL
            expected = at if final or reserved[at] >> bit & 1 else None
            assert wrong_byte(opcode, bytes(header)) == expected, (at, bit)
    assert wrong_byte(opcode, bytes([opcode | 0x80]) + header_of(opcode)[1:]) == 0
    immediate = wrong_byte(opcode, bytes([opcode | 0x40]) + header_of(opcode)[1:])
    assert immediate == (0 if reserved[0] & 0x40 else None)


@given(st.sampled_from([*RESERVED]), st.data())
def test_whatever_fields_say_is_not_reserved(opcode: Opcode, data: st.DataObject) -> None:
    layout = LAYOUTS[opcode]
    header = header_of(opcode)
    for name in set(layout.names) - {"opcode", "flags"}:
        at, size = layout.offsets[name], layout.sizes[name]
        header[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    assert wrong_byte(opcode, bytes(header)) is None


def test_they_are_told_and_passed_over(world: World) -> None:
    initiator = world.login()
    initiator.ready()
    assert world.violations == []
    initiator.command(TEST_UNIT_READY, flags=0x99)
    assert initiator.receive()["status"] == 0
    assert world.violations == ["RFC 7143 §11"]
    assert "byte 1 of opcode 0x1" in str(world.export.target.scsi.violations.recent[-1])


def test_those_of_a_login_are_told_too(world: World) -> None:
    initiator = world.connect()
    assert initiator.login_request(LOGIN_KEYS, flags=0xB7)["status"] == 0
    assert world.violations == ["RFC 7143 §11"]


def test_under_lenient_nobody_looks(make: Make) -> None:
    world = make(strict=False)
    initiator = world.login()
    initiator.ready()
    initiator.command(TEST_UNIT_READY, flags=0x99)
    assert initiator.receive()["status"] == 0
    assert world.violations == []

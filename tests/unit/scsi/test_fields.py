"""Layouts read and written field by field, as construct reads and writes them."""

from __future__ import annotations

from typing import Any

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import block_cdb, cdb, copy, data, modes, parameters, reservations, sense, vpd
from devmodels.wire import Codec

STRUCTURES: list[Codec[int | bytes]] = [
    value
    for module in (block_cdb, cdb, copy, data, modes, parameters, reservations, sense, vpd)
    for value in vars(module).values()
    if isinstance(value, Codec)
]


def flat(container: construct.Container) -> dict[str, Any]:
    """construct's values without their nesting."""
    out: dict[str, Any] = {}
    for name, value in container.items():
        if isinstance(value, construct.Container):
            out |= flat(value)
        elif not name.startswith("_"):
            out[name] = value
    return out


def test_there_are_many() -> None:
    assert len(STRUCTURES) > 80


@given(structure=st.sampled_from(STRUCTURES), payload=st.data())
def test_values_are_those_of_construct(structure: Codec[int | bytes], payload: st.DataObject) -> None:
    layout = Layout(structure)
    raw = bytearray(payload.draw(st.binary(min_size=layout.size, max_size=layout.size)))
    for part in structure.declaration.subcons:
        if isinstance(part, construct.Renamed) and isinstance(part.subcon, construct.Const):
            at = layout.codec.offsets[part.name]
            raw[at : at + part.sizeof()] = part.subcon.build(None)
    expected = flat(structure.parse(raw))
    found = layout.unpack(raw)
    assert found == {name: value for name, value in expected.items() if name in found}
    assert set(expected) - set(found) == {
        name for name, value in expected.items() if isinstance(value, bytes)
    } | {
        part.name
        for part in structure.declaration.subcons
        if isinstance(getattr(part, "subcon", None), construct.Const)
    }
    packed = layout.pack(**{name: value for name, value in expected.items() if name in layout.places})
    assert flat(structure.parse(packed)) == expected


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        Layout(cdb.INQUIRY).pack(nonsense=1)


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"opcode": 0x112}, "opcode is 274, expected 0 to 255"),
        ({"evpd": 2}, "evpd is 2, expected 0 to 1"),
        ({"page_code": -2}, "page_code is -2, expected 0 to 255"),
        ({"page_code": b"x"}, "page_code is bytes, expected 0 to 255"),
    ],
)
def test_values_that_do_not_fit(values: dict[str, int | bytes], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Layout(cdb.INQUIRY).pack(**values)


def test_bytes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="vendor is 9 bytes, expected 8"):
        Layout(data.INQUIRY).pack(vendor=b"DEVMODELS")


def test_all_ones() -> None:
    assert Layout(cdb.INQUIRY).pack(opcode=0x12, evpd=-1, page_code=-1) == bytes.fromhex("12 01 ff 00 00 00")

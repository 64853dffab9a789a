"""Layouts read and written field by field, as construct reads and writes them."""

from __future__ import annotations

from typing import Any

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import block_cdb, cdb, copy, data, modes, parameters, reservations, sense, vpd

STRUCTURES: list[construct.Struct] = [
    value
    for module in (block_cdb, cdb, copy, data, modes, parameters, reservations, sense, vpd)
    for value in vars(module).values()
    if isinstance(value, construct.Struct)
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
def test_values_are_those_of_construct(structure: construct.Struct, payload: st.DataObject) -> None:
    layout = Layout(structure)
    raw = bytearray(payload.draw(st.binary(min_size=layout.size, max_size=layout.size)))
    for part in structure.subcons:
        if isinstance(part, construct.Renamed) and isinstance(part.subcon, construct.Const):
            at = layout.codec.offsets[part.name]
            raw[at : at + part.sizeof()] = part.subcon.build(None)
    expected = flat(structure.parse(bytes(raw)))
    found = layout.unpack(raw)
    assert found == {name: value for name, value in expected.items() if name in found}
    assert set(expected) - set(found) == {
        name for name, value in expected.items() if isinstance(value, bytes)
    } | {
        part.name for part in structure.subcons if isinstance(getattr(part, "subcon", None), construct.Const)
    }
    packed = layout.pack(**{name: value for name, value in expected.items() if name in layout.places})
    assert flat(structure.parse(packed)) == expected


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        Layout(cdb.INQUIRY).pack(nonsense=1)


def test_values_are_cut_to_their_width() -> None:
    assert Layout(cdb.INQUIRY).pack(opcode=0x112, evpd=3, page_code=0x1FF) == bytes.fromhex(
        "12 01 ff 00 00 00"
    )

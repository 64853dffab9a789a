"""What a ring refuses, and the bytes that it tells with it."""

from __future__ import annotations

import pytest

from devmodels.virtio.packed import PackedRing
from devmodels.virtio.ring import RingError
from devmodels.virtio.split import SplitRing
from tests.unit.virtio.hostile import chain, table_of
from tests.unit.virtio.model import INDIRECT_DESC, NEXT, WRITE, Form
from tests.unit.virtio.plain import Kind
from tests.unit.virtio.rig import DATA, TABLE, packed_rig, rig


@pytest.mark.parametrize("address", [1, 0x0102_0304_0506_0701, 0xFFFF_FFFF_FFFF_FFFF])
@pytest.mark.parametrize(("ring", "clause"), [(SplitRing, "§2.7.1"), (PackedRing, "§2.8.11")])
def test_where_a_part_cannot_lie_is_told_with_all_eight_bytes(
    ring: type[SplitRing | PackedRing], clause: str, address: int
) -> None:
    made = rig(8) if ring is SplitRing else packed_rig(8)
    for number in range(3):
        parts = list(made.parts)
        parts[number] = address
        with pytest.raises(RingError) as error:
            ring(made.memory, 8, (parts[0], parts[1], parts[2]), features=0, in_flight={})
        assert error.value.clause == f"VIRTIO 1.4 {clause}"
        assert error.value.data == address.to_bytes(8, "little")


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("form", [Form.DIRECT, Form.INDIRECT])
@pytest.mark.parametrize("third", [0, 1])
def test_a_chain_that_goes_back_is_a_loop(third: int, form: Form, kind: Kind) -> None:
    """VIRTIO 1.4 §2.7.5: its first descriptors are those of most requests, and a third one lies behind them."""
    r = rig(8, INDIRECT_DESC, kind=kind)
    direct = form is Form.DIRECT
    back = -1 - third if direct else third
    entries = (DATA, 8, NEXT, 1), (DATA + 8, 8, NEXT, back), (DATA + 64, 8, WRITE, 0)
    r.driver.move_idx(chain(r.driver, *entries) if direct else table_of(r.driver, TABLE, entries))
    r.device.kick(0)
    assert r.device.taken == []
    assert len(r.clauses) == 1

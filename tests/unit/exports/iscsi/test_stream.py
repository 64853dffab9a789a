"""PDUs come over a stream of bytes: however that is cut, they arrive as they were sent."""

from __future__ import annotations

import socket
from itertools import pairwise
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from devmodels.iocontext import IoContext
from devmodels.iscsistream import BUFFER_SIZE, Stream
from devmodels.protocols.iscsi.digest import digest
from devmodels.protocols.iscsi.pdu import BHS_SIZE, OPCODE_MASK


class Sent(NamedTuple):
    """One PDU; `broken`: the digest of its data is wrong."""

    header: bytes
    ahs: bytes
    data: bytes
    broken: bool = False

    def wire(self, *, header_digest: bool, data_digest: bool) -> bytes:
        """As it is sent."""
        head = self.header + self.ahs
        data = self.data + bytes(-len(self.data) % 4)
        parts = [head, digest(head) if header_digest else b"", data]
        if data_digest and data:
            right = digest(data)
            parts.append(bytes([right[0] ^ 1]) + right[1:] if self.broken else right)
        return b"".join(parts)


class Collector:
    """Takes what comes; gives some PDUs a place of their own."""

    def __init__(self, *, places: bool) -> None:
        self.found: list[Sent] = []
        self.end: str | None = "it has not ended"
        self._places = places

    def place(self, opcode: int, header: bytes, length: int) -> memoryview | None:
        return memoryview(bytearray(length)) if self._places else None

    def received(self, opcode: int, header: bytes, ahs: bytes, data: memoryview, intact: bool) -> None:
        assert opcode == header[0] & OPCODE_MASK
        self.found.append(Sent(header, ahs, bytes(data), not intact))

    def paused(self) -> None:
        pass

    def ended(self, reason: str | None) -> None:
        self.end = reason


@st.composite
def sent_pdus(draw: st.DrawFn) -> Sent:
    start = draw(st.binary(min_size=4, max_size=4))
    ahs = b"\1\2\3\4" * draw(st.sampled_from([0, 0, 0, 1, 255]))
    size = draw(st.sampled_from([0, 0, 1, 3, 4, 48, 512, 4096]))
    data = draw(st.binary(min_size=1, max_size=1)) * size
    rest = draw(st.binary(min_size=40, max_size=40))
    lengths = (len(ahs) // 4 << 24 | size).to_bytes(4, "big")
    return Sent(start + lengths + rest, ahs, data, bool(size) and draw(st.booleans()))


def long_pdu(size: int) -> Sent:
    """Longer than what is read at once."""
    return Sent(bytes(4) + size.to_bytes(4, "big") + bytes(40), b"", b"\x5a" * size)


@given(
    st.lists(sent_pdus(), max_size=6),
    st.lists(st.integers(0, 1 << 14), max_size=8),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@example([long_pdu(BUFFER_SIZE + 5), long_pdu(1)], [100, BUFFER_SIZE], True, True, True)
@example([long_pdu(BUFFER_SIZE - 40), long_pdu(2 * BUFFER_SIZE)], [BHS_SIZE - 1], False, True, False)
@example([long_pdu(3000)] * 60, [], False, False, False)
def test_pdus_arrive_as_they_were_sent(
    pdus: list[Sent], cuts: list[int], header_digest: bool, data_digest: bool, places: bool
) -> None:
    context = IoContext.stepped()
    ours, theirs = socket.socketpair()
    collector = Collector(places=places)
    stream = Stream(ours, context, collector)
    stream.header_digest, stream.data_digest = header_digest, data_digest
    wire = b"".join(pdu.wire(header_digest=header_digest, data_digest=data_digest) for pdu in pdus)
    theirs.setblocking(False)
    for start, end in pairwise(sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})):
        piece = memoryview(wire)[start:end]
        while piece:
            piece = piece[theirs.send(piece[: 1 << 16]) :]
            context.run_until_idle()
    assert collector.found == [pdu._replace(broken=pdu.broken and data_digest) for pdu in pdus]
    theirs.close()
    context.run_until_idle()
    assert collector.end is None
    context.close()


@given(sent_pdus(), st.data())
def test_a_pdu_that_is_cut_off_never_arrives(pdu: Sent, data: st.DataObject) -> None:
    context = IoContext.stepped()
    ours, theirs = socket.socketpair()
    collector = Collector(places=True)
    Stream(ours, context, collector)
    wire = pdu.wire(header_digest=False, data_digest=False)
    theirs.sendall(wire[: data.draw(st.integers(1, len(wire) - 1))])
    theirs.close()
    context.run_until_idle()
    assert (collector.found, collector.end) == ([], "left in the middle of a PDU")
    context.close()

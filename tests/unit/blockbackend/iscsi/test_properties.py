"""Whatever happens to connections and commands, a disk holds what was written to it, and every request ends."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import Flags, Op, Request
from devmodels.blockbackend.drivers.iscsi.node import IscsiNode
from devmodels.iocontext import IoContext
from devmodels.protocols.iscsi.codes import AsyncEvent
from devmodels.protocols.iscsi.pdu import Opcode
from tests.unit.blockbackend.support import Disk, payload
from tests.unit.exports.iscsi.initiator import NOBODY, Pdu

from .ours import options
from .target import BLOCK, Ends, Target, sense, settle

SECOND = 10**9
LENGTH = 64 * BLOCK

Fault = Callable[[Ends, Pdu], bool]


def hang_up(end: Ends, _found: Pdu) -> bool:
    end.close()
    return True


def hang_up_after(end: Ends, found: Pdu) -> bool:
    """It is done, and nobody hears of it."""
    end.send_bytes, sent = (lambda data: None), end.send_bytes  # type: ignore[method-assign]
    end.serve(found)
    end.send_bytes = sent  # type: ignore[method-assign]
    end.close()
    return True


def answer(status: int, data: bytes = b"") -> Fault:
    def fault(end: Ends, found: Pdu) -> bool:
        end.respond(found, status, data)
        return True

    return fault


def message(event: int, *parameters: int) -> Fault:
    def fault(end: Ends, _found: Pdu) -> bool:
        names: dict[str, Any] = {f"parameters[{number}]": value for number, value in enumerate(parameters)}
        end.status(Opcode.ASYNC_MESSAGE, tag=NOBODY, event=event, **names)
        return False

    return fault


def ask(end: Ends, _found: Pdu) -> bool:
    end.send(Opcode.NOP_IN, itt=NOBODY, ttt=5)
    return False


FAULTS: list[Fault] = [
    hang_up,
    hang_up_after,
    answer(0x08),
    answer(0x28),
    answer(0x02, sense(6, 0x2900)),
    message(AsyncEvent.LOGOUT_REQUESTED, 0, 0, 4),
    message(AsyncEvent.NEGOTIATION_REQUESTED, 0, 0, 4),
    ask,
    lambda end, found: True,  # Never answered.
]

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "write", "zero", "flush"]), st.integers(0, 60), st.integers(1, 4)),
        st.tuples(st.just("fault"), st.integers(0, len(FAULTS) - 1), st.integers(1, 2)),
    ),
    min_size=1,
    max_size=16,
)


@given(steps, st.sampled_from(["none", "crc32c"]), st.sampled_from(["Yes", "No"]))
def test_what_was_written_is_there(steps: list[tuple[str, int, int]], digests: str, initial_r2t: str) -> None:
    context = IoContext.virtual()
    target = Target(context)
    target.login_keys = {
        "InitialR2T": initial_r2t,
        "FirstBurstLength": "1024",
        "MaxRecvDataSegmentLength": "512",
    }
    before, IscsiNode.transport = IscsiNode.transport, target
    try:
        disk = Disk(options(header_digest=digests, data_digest=digests, timeout=20), context=context)
        _work(disk, target, steps)
        disk.backend.close()
        disk.node.close()
    finally:
        IscsiNode.transport = before
        target.close()
        settle(context)
        context.close()


def _work(disk: Disk, target: Target, steps: list[tuple[str, int, int]]) -> None:
    faults: list[Fault] = []

    def hook(end: Ends, found: Pdu) -> bool:
        return bool(faults) and faults.pop(0)(end, found)

    target.hooks[Opcode.SCSI_COMMAND] = hook
    model: list[set[int]] = [{0} for _ in range(LENGTH // BLOCK)]
    """What may be in a block: where a write has failed, one of two."""
    for number, (what, at, count) in enumerate(steps):
        if what == "fault":
            faults += [FAULTS[at]] * count
            continue
        fill = number + 1 if what == "write" else 0
        request = _submit(disk, what, at, count, fill)
        failed = disk.wait(request)
        assert failed in (0, errno.ECONNRESET, errno.ETIMEDOUT, errno.EBUSY, errno.EIO)
        for block in range(at, at + count):
            if what in ("write", "zero"):
                model[block] = {fill} if not failed else model[block] | {fill}
            elif what == "read" and not failed:
                part = payload(request)[(block - at) * BLOCK : (block - at + 1) * BLOCK]
                assert part == part[:1] * BLOCK
                assert part[0] in model[block]
                model[block] = {part[0]}
    faults.clear()
    request = disk.submit(Op.READ, 0, LENGTH)
    assert disk.wait(request) == 0
    assert payload(request) == bytes(target.disk[:LENGTH])


def _submit(disk: Disk, what: str, at: int, count: int, fill: int) -> Request:
    if what == "write":
        return disk.submit(Op.WRITE, at * BLOCK, data=bytes([fill]) * BLOCK * count, cut=700)
    if what == "read":
        return disk.submit(Op.READ, at * BLOCK, count * BLOCK, cut=300)
    if what == "zero":
        return disk.submit(Op.WRITE_ZEROES, at * BLOCK, count * BLOCK, flags=Flags.MAY_UNMAP)
    return disk.submit(Op.FLUSH)

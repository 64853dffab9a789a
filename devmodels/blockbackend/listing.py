"""What is in flight, as data for people and programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from devmodels.blockbackend.drain import below
from devmodels.blockbackend.request import Origin, Request

if TYPE_CHECKING:
    from devmodels.blockbackend.node import BlockNode
    from devmodels.blockbackend.throttling import Member

Where = Literal["held", "drained", "batched", "throttled", "suspended", "running"]
"""`held`: the machine is stopped; `drained`: the graph is being changed; `batched`: it goes with others that are being
gathered; `throttled`: by a throttle group; `suspended`: at a break point; `running`: anything else."""


class RequestData(msgspec.Struct, rename="kebab", frozen=True, omit_defaults=True):
    """One request in flight; `offset` and `length` are in bytes, `age_ns` is how long ago it was submitted."""

    op: str
    offset: int
    length: int
    age_ns: int
    where: Where
    origin: Origin | None = None
    label: str = ""

    @classmethod
    def of(cls, request: Request, now_ns: int, where: Where) -> RequestData:
        """`request` at `now_ns`."""
        return cls(
            op=request.op.name.lower().replace("_", "-"),
            offset=request.offset,
            length=request.length,
            age_ns=now_ns - request.started_ns,
            where=where,
            origin=request.origin,
            label=request.label,
        )


def whereabouts(node: BlockNode, member: Member | None) -> dict[Request, Where]:
    """Requests that `node` and those below it, or a throttle group, keep back, and where."""
    where: dict[Request, Where] = {}
    for each in below([node]):
        for request, reason in each.kept_back():
            where.update((root, reason) for root in request.roots())
    if member is not None:
        for request in member.requests():
            where.update((root, "throttled") for root in request.roots())
    return where

"""What is in flight, as data for people and programs."""

from __future__ import annotations

from typing import Literal

import msgspec

from devmodels.blockbackend.request import Request

Where = Literal["held", "drained", "batched", "throttled", "suspended", "running"]
"""`held`: the machine is stopped; `drained`: the graph is being changed; `batched`: it goes with others that are being
gathered; `throttled`: by a throttle group; `suspended`: at a break point; `running`: anything else."""


class OriginData(msgspec.Struct, frozen=True):
    """The device, its queue, and the request's tag there (a ring's head)."""

    device: str
    queue: int
    tag: int


class RequestData(msgspec.Struct, rename="kebab", frozen=True, omit_defaults=True):
    """One request in flight; `offset` and `length` are in bytes, `age_ns` is how long ago it was submitted."""

    op: str
    offset: int
    length: int
    age_ns: int
    where: Where
    origin: OriginData | None = None
    label: str = ""

    @classmethod
    def of(cls, request: Request, now_ns: int, where: Where) -> RequestData:
        """`request` at `now_ns`."""
        origin = request.origin
        return cls(
            op=request.op.name.lower().replace("_", "-"),
            offset=request.offset,
            length=request.length,
            age_ns=now_ns - request.started_ns,
            where=where,
            origin=None if origin is None else OriginData(*origin),
            label=request.label,
        )

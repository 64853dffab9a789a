"""What a traced backend has in flight, taken apart and put together again: a replay can begin in the middle.

What waits is put back where it waited, what had gone to the node goes there again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.request import Request


class InFlight(NamedTuple):
    """A request that a device has submitted: the trace's number for it, and its place among those that wait, or -1."""

    request: Request
    number: int
    place: int


class Counts(NamedTuple):
    """Numbers given to requests and dispatches, how often it is quiet, whether what waits is out of order."""

    submitted: int
    dispatched: int
    quiesced: int
    out_of_order: bool


def in_flight(backend: BlockBackend) -> list[InFlight]:
    """All of it, in order of submission; KeyError where something is not a device's."""
    places = {request: place for place, request in enumerate(backend.waiting.requests)}
    return [
        InFlight(request, backend.told.numbers[request], places.get(request, -1))
        for request in backend.in_flight
    ]


def counts(backend: BlockBackend) -> Counts:
    """Everything else that `resume` wants to know."""
    waiting = backend.waiting
    return Counts(backend.told.requests, backend.told.dispatches, waiting.quiesced, waiting.out_of_order)


def resume(
    backend: BlockBackend,
    requests: Iterable[InFlight],
    running: Iterable[tuple[int, Sequence[Request]]],
    before: Counts,
) -> None:
    """Let a backend that has nothing in flight go on; `running` are dispatches, by number, with what they serve."""
    known = list(requests)
    for request, number, _ in known:
        backend.in_flight[request] = None
        backend.told.numbers[request] = number
    waiting = sorted((each for each in known if each.place >= 0), key=lambda each: each.place)
    backend.waiting.put_again((request for request, _, _ in waiting), out_of_order=before.out_of_order)
    for _ in range(before.quiesced):
        backend.quiesce()
    for number, run in running:
        backend.told.dispatches = number
        backend.runs.dispatch(list(run))
    backend.told.requests, backend.told.dispatches = before.submitted, before.dispatched

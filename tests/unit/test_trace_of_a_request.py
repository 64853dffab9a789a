"""The whole way of one request, as the trace has it."""

from __future__ import annotations

from devmodels.trace import EventKind, TraceEvent, Tracer


def test_a_request_is_seen_at_every_station(disk, machine) -> None:  # type: ignore[no-untyped-def]
    events: list[TraceEvent] = []
    tracer = Tracer(machine.assembly.context.now_ns)
    tracer.sinks.append(events.append)
    machine.assembly.set_trace(tracer)
    disk.write(4096, b"\xa5" * 512)
    machine.assembly.set_trace(None)
    disk.read(0, 512)

    kinds = [event.kind for event in events]
    order = [
        EventKind.ACCESS_WRITE,  # the doorbell
        EventKind.KICK,
        EventKind.DMA_READ,  # the ring, the header, the data
        EventKind.REQUEST,
        EventKind.COMPLETION,
        EventKind.DMA_WRITE,  # the status byte, the used ring
        EventKind.INTERRUPT,
    ]
    places = [kinds.index(kind) for kind in order]
    assert places == sorted(places)
    request = next(event for event in events if event.kind is EventKind.REQUEST)
    assert request.detail[:4] == (0, "WRITE", 4096, 512)
    completion = next(event for event in events if event.kind is EventKind.COMPLETION)
    assert completion.detail == (0, 0)
    payload = [event.detail[1] for event in events if event.kind is EventKind.DMA_READ]
    assert b"\xa5" * 512 in payload
    assert [event.number for event in events] == list(range(len(events)))

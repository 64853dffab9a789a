from __future__ import annotations

from devmodels.trace import EventKind, TraceEvent, Tracer


def test_events_are_numbered_stamped_and_given_to_every_sink() -> None:
    now = iter((5, 9))
    tracer = Tracer(lambda: next(now))
    first: list[TraceEvent] = []
    second: list[TraceEvent] = []
    tracer.sinks += [first.append, second.append]
    tracer.emit("memory", EventKind.DMA_READ, 0x1000, b"ab")
    tracer.emit("vd0", EventKind.KICK, 0, -1)
    assert first == [
        TraceEvent(0, 5, "memory", EventKind.DMA_READ, (0x1000, b"ab")),
        TraceEvent(1, 9, "vd0", EventKind.KICK, (0, -1)),
    ]
    assert second == first


def test_events_before_a_sink_came_are_counted_but_not_kept() -> None:
    tracer = Tracer(lambda: 0)
    tracer.emit("memory", EventKind.DMA_READ, 0, b"")
    seen: list[TraceEvent] = []
    tracer.sinks.append(seen.append)
    tracer.emit("memory", EventKind.DMA_READ, 0, b"")
    assert [event.number for event in seen] == [1]

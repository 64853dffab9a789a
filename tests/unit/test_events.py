"""Events reach whoever listens, in order, until he no longer does."""

from __future__ import annotations

from collections.abc import Mapping

from devmodels.events import Events


def test_listeners_hear_in_their_order_until_they_leave() -> None:
    events = Events()
    heard: list[tuple[str, str, Mapping[str, object]]] = []

    def first(name: str, data: Mapping[str, object]) -> None:
        heard.append(("first", name, data))
        events.remove_listener(first)

    events.add_listener(first)
    events.add_listener(lambda name, data: heard.append(("second", name, data)))
    events.emit("STOP")
    events.emit("BLOCK_IO_ERROR", {"device": "e0"})
    assert heard == [
        ("first", "STOP", {}),
        ("second", "STOP", {}),
        ("second", "BLOCK_IO_ERROR", {"device": "e0"}),
    ]

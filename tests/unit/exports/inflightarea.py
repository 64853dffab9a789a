"""The in-flight area as a front end has it, and a look at it after every instruction of the back end."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from . import frontend as fe
from .frontend import Ring, World, inflight

PROTOCOL = fe.MQ | fe.REPLY_ACK | fe.CONFIG | fe.RESET | fe.INFLIGHT | fe.STATUS


def region_fields(data: bytes) -> tuple[int, ...]:
    """features, version, desc_num, last_batch_head, used_idx."""
    return struct.unpack_from("<QHHHH", data)


def entry(data: bytes, head: int) -> tuple[int, ...]:
    """inflight, next, counter."""
    return struct.unpack_from("<B5xHQ", data, 16 + 16 * head)


class Area:
    """What a front end keeps: the area's descriptor, and its bytes for a test to look at."""

    def __init__(self, front_end: fe.FrontEnd, num_queues: int = 2, queue_size: int = 8) -> None:
        answer, self.fd = front_end.ask_fd(fe.GET_INFLIGHT_FD, inflight(0, num_queues, queue_size))
        self.size, self.offset, self.num_queues, self.queue_size = struct.unpack_from("<QQHH", answer)

    def region(self, queue: int = 0) -> bytes:
        each = self.size // self.num_queues
        return os.pread(self.fd, each, self.offset + queue * each)

    def marked(self, queue: int = 0) -> list[int]:
        """Heads in flight, by counter."""
        region = self.region(queue)
        found = [head for head in range(self.queue_size) if entry(region, head)[0]]
        return sorted(found, key=lambda head: entry(region, head)[2])

    def poke(self, at: int, data: bytes) -> None:
        os.pwrite(self.fd, data, self.offset + at)

    def payload(self) -> bytes:
        return inflight(self.size, self.num_queues, self.queue_size, self.offset)

    def close(self) -> None:
        os.close(self.fd)


def begin(front_end: fe.FrontEnd, area: Area | None = None) -> Area:
    """Everything up to the rings, in the order that QEMU keeps; with an area of an earlier connection or a new one."""
    front_end.introduce(PROTOCOL)
    front_end.set_features()
    area = Area(front_end) if area is None else area
    assert front_end.acknowledged(fe.SET_INFLIGHT_FD, area.payload(), [area.fd]) == 0
    front_end.share()
    return area


@contextmanager
def tracked(world: World) -> Iterator[tuple[fe.FrontEnd, Area, Ring]]:
    with world.front_end() as front_end:
        area = begin(front_end)
        ring = Ring(front_end.memory)
        front_end.start(0, ring)
        yield front_end, area, ring
        area.close()


Moment = tuple[bytes, bytes]
"""What is in memory and in the area."""


def watching(files: set[str], look: Callable[[], None]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that looks after each instruction of these files."""

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        look()
        return trace

    return trace

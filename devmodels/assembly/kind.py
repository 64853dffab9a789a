"""What a module of devices says of each: its options, and how it is made and plugged into an assembly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from devmodels.iocontext import IoThread
from devmodels.iothreads import VqMapping
from devmodels.options import OptionError, shown
from devmodels.translation import Translate

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly


def _no_fault(_options: object) -> None:
    """It can be in any machine."""


class QueueOptions(Protocol):
    """Options of every virtio device."""

    @property
    def driver(self) -> str:
        """The model."""
        ...

    @property
    def num_queues(self) -> int:
        """How many queues can have a thread."""
        ...

    @property
    def iothread(self) -> str | None:
        """The thread of all of them."""
        ...

    @property
    def iothread_vq_mapping(self) -> Sequence[VqMapping] | None:
        """Which has which."""
        ...


class DeviceKind(msgspec.Struct, frozen=True):
    """`add(assembly, options, translate)` makes a device and returns its id; OptionError.

    It plugs the device, too, unless that is a unit on a SCSI or an ATA bus.  `hosted_fault` says what keeps a device
    with its options out of other programs' machines.
    """

    options: type[msgspec.Struct]
    add: Callable[[Assembly, Any, Translate | None], str]
    hosted_fault: Callable[[Any], str | None] = _no_fault


@contextmanager
def queue_threads(
    assembly: Assembly,
    options: QueueOptions,
    name: str,
) -> Iterator[list[IoThread]]:
    """The device is made and gets its place; its queues' threads, if it is to have such.

    OptionError, and the threads free again, where that cannot be.
    """
    threads = assembly.graph.iothreads
    user = f"device {shown(name)}"
    try:
        if options.iothread is not None and options.iothread not in threads.by_id:
            raise OptionError(f"Device '{options.iothread}' not found")
        wanted = (None, None) if assembly.one_context else (options.iothread, options.iothread_vq_mapping)
        yield threads.take(user, options.num_queues, *wanted)
    except ValueError as error:
        threads.release(user)
        raise OptionError(f"device {options.driver}: {error}") from error

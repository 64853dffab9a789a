"""`--object iothread`: threads by id, and which of them works on which queue (`iothread`, `iothread-vq-mapping`).

Names and errors are those of QEMU's objects and of its virtio-blk devices.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal, Protocol

import msgspec

from devmodels.iocontext import IoContext, IoThread
from devmodels.options import OptionError, convert, shown

POLL_MAX_NS = 32768


class IoThreadOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of `--object iothread`: `poll_max_ns` is the longest busy polling in ns, 0 for none."""

    qom_type: Literal["iothread"]
    id: Annotated[str, msgspec.Meta(min_length=1, description="a name for devices and exports to refer to")]
    poll_max_ns: Annotated[
        int, msgspec.Meta(ge=0, le=(1 << 63) - 1, description="a number of nanoseconds")
    ] = POLL_MAX_NS


class VqMapping(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    """An item of `iothread-vq-mapping`: a thread and the numbers of its queues; without them queues go round."""

    iothread: str
    vqs: list[int] = []


class DeviceThreads(Protocol):
    """What a device's options say of the threads of its queues."""

    @property
    def iothread(self) -> str | None:
        """The thread of all of them."""

    @property
    def iothread_vq_mapping(self) -> Sequence[VqMapping] | None:
        """The threads of some of them each."""

    @property
    def iommu_platform(self) -> bool:
        """Whether an IOMMU translates, which belongs to one thread."""


def check_threads(options: DeviceThreads) -> None:
    """ValueError where a device's options do not go together."""
    if options.iothread is not None and options.iothread_vq_mapping is not None:
        raise ValueError("iothread and iothread-vq-mapping properties cannot be set at the same time")
    if options.iommu_platform and (options.iothread is not None or options.iothread_vq_mapping is not None):
        raise ValueError("iommu_platform is on, expected no iothread with it")


class IoThreads:
    """The threads beside `home`, by id."""

    def __init__(self, home: IoContext) -> None:
        self.home = home
        self.by_id: dict[str, IoThread] = {}

    def add(self, options: Mapping[str, object]) -> IoThread:
        """Start a thread; OptionError where it cannot be."""
        checked = convert(options, IoThreadOptions, what="iothread")
        if checked.id in self.by_id:
            raise OptionError(f"id: {shown(checked.id)} is given; an object of that name is there")
        try:
            thread = IoThread(checked.id, self.home, poll_max_ns=checked.poll_max_ns)
        except ValueError as error:
            raise OptionError(str(error)) from None
        self.by_id[checked.id] = thread
        return thread

    def __getitem__(self, name: str) -> IoThread:
        """The thread of that name; OptionError where there is none."""
        thread = self.by_id.get(name)
        if thread is None:
            known = ", ".join(map(shown, sorted(self.by_id))) or "none"
            raise OptionError(f"no iothread {shown(name)}; the iothreads are: {known}")
        return thread

    def delete(self, name: str) -> None:
        """End a thread; OptionError where there is none of that name, or somebody has queues there."""
        thread = self[name]
        if thread.users:
            raise OptionError(f"object {shown(name)} is in use: by {', '.join(thread.users)}")
        thread.close()
        del self.by_id[name]

    def close(self) -> None:
        """End all threads, what is ready there done.  Idempotent."""
        while self.by_id:
            self.by_id.popitem()[1].close()

    # --- whose they are

    def take(
        self, user: str, num_queues: int, iothread: str | None, mapping: Sequence[VqMapping] | None
    ) -> list[IoThread]:
        """The thread of each queue of `user`, none where it has no threads; OptionError where there is no such.

        Until `release` the threads cannot be deleted.
        """
        if mapping is None:
            if iothread is None:
                return []
            if iothread not in self.by_id:
                raise OptionError(f'iothread "{iothread}" not found')
            names = [iothread] * num_queues
        else:
            names = assigned(mapping, num_queues, self.by_id)
        threads = [self.by_id[name] for name in names]
        for thread in dict.fromkeys(threads):
            thread.users.append(user)
        return threads

    def release(self, user: str) -> None:
        """`user` and its queues are gone.  Idempotent."""
        for thread in self.by_id.values():
            if user in thread.users:
                thread.users.remove(user)


def assigned(mapping: Sequence[VqMapping], num_queues: int, known: Collection[str]) -> list[str]:
    """The name of each queue's thread; OptionError where `mapping` is not one of all queues to `known` threads."""
    if not mapping:
        raise OptionError("iothread-vq-mapping is empty; expected at least one iothread")
    where = "in iothread-vq-mapping"
    by_queue: dict[int, str] = {}
    seen: set[str] = set()
    for item in mapping:
        name = item.iothread
        if name not in known:
            raise OptionError(f'IOThread "{name}" object does not exist')
        if name in seen:
            raise OptionError(f'duplicate IOThread name "{name}" {where}')
        seen.add(name)
        if bool(item.vqs) is not bool(mapping[0].vqs):
            raise OptionError(f"either all items {where} must have vqs or none of them must have it")
        for vq in item.vqs:
            if not 0 <= vq < num_queues:
                limit = f"must be less than num_queues {num_queues}"
                raise OptionError(f'vq index {vq} for IOThread "{name}" {limit} {where}')
            if vq in by_queue:
                raise OptionError(
                    f'cannot assign vq {vq} to IOThread "{name}" because it is already assigned'
                )
            by_queue[vq] = name
    if not by_queue:
        return [mapping[index % len(mapping)].iothread for index in range(num_queues)]
    missing = set(range(num_queues)) - by_queue.keys()
    if missing:
        raise OptionError(f"missing vq {min(missing)} IOThread assignment {where}")
    return [by_queue[index] for index in range(num_queues)]

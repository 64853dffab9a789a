"""`throttle`: requests keep to the limits of a throttle group, together with those of the group's other members."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec

from devmodels.blockbackend.debug.announcing import NOTHING
from devmodels.blockbackend.filters import FilterNode, FilterOptions
from devmodels.blockbackend.listing import Where
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, shown
from devmodels.blockbackend.passthrough import Direction, PassthroughRequest
from devmodels.blockbackend.request import Read, Request
from devmodels.blockbackend.throttling import Member, ThrottleGroup
from devmodels.iocontext import IoContext
from devmodels.secretobjects import Secrets


class ThrottleOptions(FilterOptions, frozen=True, kw_only=True):
    """`throttle-group`: the id of the group."""

    throttle_group: Annotated[str, msgspec.Meta(min_length=1)]


class ThrottleNode(FilterNode):
    """Reads, writes, zeroes and discards wait for their turn and for the group's limits; flushes never wait."""

    Options: ClassVar[type[NodeOptions]] = ThrottleOptions
    ANNOUNCES = NOTHING  # QEMU's throttle passes flushes on past the generic code that tells of them.

    CHANGEABLE = FilterNode.CHANGEABLE | {"throttle_group"}

    member: Member
    _objects: Mapping[str, ThrottleGroup]

    def bind(self, objects: Mapping[str, ThrottleGroup], secrets: Secrets) -> None:  # noqa: ARG002
        """Join the group."""
        self._objects = objects
        self.member = self._group().join(self.context)

    def moved(self, context: IoContext) -> None:
        """The group lets its requests go there."""
        super().moved(context)
        self.member.context = context

    def _group(self) -> ThrottleGroup:
        assert isinstance(self.options, ThrottleOptions)
        name = self.options.throttle_group
        if name not in self._objects:
            known = ", ".join(map(shown, sorted(self._objects))) or "a throttle group, and there is none"
            raise BlockOptionError(f"$.throttle-group: {shown(name)} is given; expected {known}")
        return self._objects[name]

    def _reopen(self, before: NodeOptions) -> None:
        """Perhaps another group; nothing waits meanwhile."""
        super()._reopen(before)
        group = self._group()
        if group is not self.member.group:
            self.member.move(group)

    def _close(self) -> None:
        if hasattr(self, "member"):
            self.member.leave()

    def drain_begin(self) -> None:
        """What waits goes at once: who drains would wait for it."""
        self.member.pause_limits()

    def drain_end(self) -> None:
        """The limits hold again."""
        self.member.resume_limits()

    def kept_back(self) -> Iterator[tuple[Request, Where]]:
        """What the limits keep."""
        return ((request, "throttled") for request in self.member.requests())

    def cancel(self, wanted: Callable[[Request], bool]) -> None:
        """It need not wait for the limits any more."""
        self.member.cancel(wanted)

    def throttled_ns(self) -> int:
        """Those that still wait included."""
        return self.member.throttled_ns(self.context.now_ns())

    def read_now(self, reads: Sequence[Read]) -> int:
        """Where neither the limits nor the child have anything against it."""
        return self.member.read_now(self.file.read_now, reads)

    async def read(self, request: Request) -> None:
        """Wait, then read."""
        if not self.member.try_admit(request.length, write=False):
            await self.member.wait(request.length, write=False, request=request)
        await self.file.read(request)

    async def write(self, request: Request) -> None:
        """Wait, then write."""
        if not self.member.try_admit(request.length, write=True):
            await self.member.wait(request.length, write=True, request=request)
        await self.file.write(request)

    async def discard(self, request: Request) -> None:
        """Wait as a write does, then discard."""
        await self.member.admit(request.length, write=True, request=request)
        await self.file.discard(request)

    async def write_zeroes(self, request: Request) -> None:
        """Wait as a write does, then write zeroes."""
        await self.member.admit(request.length, write=True, request=request)
        await self.file.write_zeroes(request)

    async def secure_erase(self, request: Request) -> None:
        """Wait as a write does, then erase."""
        await self.member.admit(request.length, write=True, request=request)
        await self.file.secure_erase(request)

    async def passthrough(self, request: Request) -> None:
        """Wait for as much as the command's data, then pass it on."""
        if isinstance(request, PassthroughRequest):
            command = request.command
            write = command.direction is not Direction.FROM_DEVICE
            await self.member.admit(command.length, write=write, request=request)
        await self.file.passthrough(request)

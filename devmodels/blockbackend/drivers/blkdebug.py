"""`blkdebug`: requests fail, or are held, by rules (options and rules as QEMU's driver of that name).

Rules and break points look at events: `debug/announcing.py` and `fitting.py` say which there are.  Without rules and
break points nothing is looked at, and the node costs nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec

from devmodels import logs
from devmodels.blockbackend.accounting.node import Served
from devmodels.blockbackend.debug import config
from devmodels.blockbackend.debug.rules import EVENTS, InjectErrorOptions, Rules, SetStateOptions
from devmodels.blockbackend.edge import Edge, Handler
from devmodels.blockbackend.filters import FilterNode
from devmodels.blockbackend.fitting import Fitting
from devmodels.blockbackend.listing import Where
from devmodels.blockbackend.node import BlockLimits, BlockNode
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, NodeRef
from devmodels.blockbackend.permissions import Perm, Use
from devmodels.blockbackend.request import Read, Request
from devmodels.blockbackend.status import BlockStatus
from devmodels.iocontext import Event, Future, IoContext
from devmodels.options import OptionError

logger = logs.logger(__name__)

Permission = Literal["consistent-read", "write", "write-unchanged", "resize"]
Bytes = Annotated[int, msgspec.Meta(ge=0, lt=(1 << 31) - 1, description="a number of bytes below 2**31 - 1")]


class BlkdebugOptions(NodeOptions, frozen=True, kw_only=True):
    """`image`: the node below.  `inject-error`, `set-state`: rules, those of the file `config` first.

    `align`, `max-transfer`, `opt-write-zero`, `max-write-zero`, `opt-discard`, `max-discard`: limits in bytes in place
    of the usual ones (0: as usual).  `take-child-perms`, `unshare-child-perms`: done with the image as well, and not
    shared, whoever the node's users are.
    """

    image: NodeRef
    config: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    align: Bytes = 0
    max_transfer: Bytes = 0
    opt_write_zero: Bytes = 0
    max_write_zero: Bytes = 0
    opt_discard: Bytes = 0
    max_discard: Bytes = 0
    inject_error: tuple[InjectErrorOptions, ...] = ()
    set_state: tuple[SetStateOptions, ...] = ()
    take_child_perms: tuple[Permission, ...] = ()
    unshare_child_perms: tuple[Permission, ...] = ()


class Held(NamedTuple):
    """A request that is held at a break point until it is `over`."""

    tag: str
    request: Request
    over: Future[None]


class BlkdebugNode(FilterNode):
    """Injects errors and holds requests."""

    Options: ClassVar[type[NodeOptions]] = BlkdebugOptions
    FILTERED = "image"
    CHANGEABLE = FilterNode.CHANGEABLE | {field.name for field in msgspec.structs.fields(BlkdebugOptions)}

    def __init__(
        self,
        options: BlkdebugOptions,
        context: IoContext,
        image: BlockNode,
        rules: Rules,
        limits: BlockLimits,
    ) -> None:
        self._held: list[Held] = []
        self._arrived = Event(context)
        self._drains = 0
        self._unflushed = False
        super().__init__(options, context, image)
        self._begin(rules, limits)

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        """Over the image; BlockOptionError where the configuration or a limit is wrong."""
        assert isinstance(options, BlkdebugOptions)
        image = children["image"]
        return cls(options, context, image, _rules(options), _limits(options, image))

    def moved(self, context: IoContext) -> None:
        """Requests are held there."""
        super().moved(context)
        self._arrived.move(context)

    def _begin(self, rules: Rules, limits: BlockLimits) -> None:
        """These rules from now on."""
        self.limits = limits
        self._rules = rules
        self.wants_events = bool(rules)
        rules.event("none", hold=False)

    def _reopen(self, before: NodeOptions) -> None:
        """Other rules, which begin in state 1; break points stay."""
        options = self.options
        assert isinstance(options, BlkdebugOptions)
        rules, limits = _rules(options), _limits(options, self.file.node)
        super()._reopen(before)
        rules.take_breaks(self._rules)
        self._unflushed = True
        self._begin(rules, limits)

    def child_permissions(self, edge: Edge, use: Use) -> Use:
        """As a filter, and what the options say."""
        assert isinstance(self.options, BlkdebugOptions)
        usual = super().child_permissions(edge, use)
        take, unshare = self.options.take_child_perms, self.options.unshare_child_perms
        return Use(usual.used | _together(take), usual.shared & ~_together(unshare))

    def fitting(self) -> Fitting | None:
        """Requests go by way of what tells of events, if there is anybody to tell."""
        return Fitting(self, self.served) if self.wants_events else super().fitting()

    @property
    def served(self) -> Served:
        """The image itself, where there is nothing to look at: then the node costs nothing."""
        looks = self.wants_events or self.counted or self.trace or self.limits.request_alignment > 1
        return super().served if looks else self.file

    def child_changed(self, edge: Edge) -> None:
        """Show what is there now, also to users whose requests go to the image by themselves."""
        super().child_changed(edge)
        if not self.wants_events:
            self.changed()

    # --- events and break points

    async def debug_event(self, event: str, request: Request) -> None:
        """Let the rules look at `event`, and wait where a break point says so."""
        tags = self._rules.event(event, hold=not self._drains)
        if tags:
            await self._hold(request, tags)

    async def _hold(self, request: Request, tags: Sequence[str]) -> None:
        held = [Held(tag, request, Future(self.context)) for tag in tags]
        for each in held:
            logger.info("blkdebug: Suspended request '%s'", each.tag)
            # QEMU lets the one go first that came last.
            self._held.insert(0, each)
        self._arrived.set()
        try:
            for each in held:
                await each.over
        finally:
            self._held = [each for each in self._held if each not in held]
            self._watch()

    def _release(self, each: Held) -> None:
        logger.info("blkdebug: Resuming request '%s'", each.tag)
        self._held.remove(each)
        each.over.set_result(None)

    def kept_back(self) -> Iterator[tuple[Request, Where]]:
        """What is held at break points."""
        return ((each.request, "suspended") for each in self._held)

    def _watch(self) -> None:
        """Look at events as long as there are rules."""
        if bool(self._rules) is not self.wants_events and not self.closed:
            self.wants_events = bool(self._rules)
            self._unflushed = True
            self.changed()

    def debug_breakpoint(self, event: str, tag: str) -> None:
        """Hold the next request that `event` is about; OSError (ENOENT) where there is no such event."""
        if event not in EVENTS:
            raise OSError(errno.ENOENT, f"no event {event!r}")
        self._rules.add_break(event, tag)
        self._watch()

    def debug_resume(self, tag: str) -> None:
        """Let a request go on that is held at `tag`; OSError (ENOENT) where none is."""
        for each in self._held:
            if each.tag == tag:
                self._release(each)
                return
        raise OSError(errno.ENOENT, f"no request is held at {tag!r}")

    def debug_remove_breakpoint(self, tag: str) -> None:
        """Drop the break points of `tag`, and let all go on that are held there; OSError (ENOENT) where is neither."""
        held = [each for each in self._held if each.tag == tag]
        if not self._rules.remove_break(tag) and not held:
            raise OSError(errno.ENOENT, f"no break point {tag!r}")
        for each in held:
            self._release(each)
        self._watch()

    def debug_is_suspended(self, tag: str) -> bool:
        """Whether a request is held at `tag`."""
        return any(each.tag == tag for each in self._held)

    async def debug_wait(self, tag: str) -> None:
        """Return when a request is held at `tag`."""
        while not self.debug_is_suspended(tag):
            self._arrived.clear()
            await self._arrived.wait()

    def drain_begin(self) -> None:
        """What is held goes on: who drains would wait for it.  Break points hold nothing meanwhile."""
        self._drains += 1
        self._release_all()

    def drain_end(self) -> None:
        """Break points hold again."""
        self._drains -= 1

    def _release_all(self) -> None:
        for each in list(self._held):
            self._release(each)

    def _close(self) -> None:
        """Requests that are held go on, and find the image gone."""
        self._release_all()

    # --- requests

    async def _change(self, handler: Handler, request: Request) -> None:
        """A change, even one that has failed, is something to flush."""
        try:
            await self._check(request)
            await handler(request)
        finally:
            self._unflushed = True

    async def _check(self, request: Request) -> None:
        """OSError, or more time, where a rule says so."""
        rule = self._rules.check(request)
        if rule is None:
            return
        self._watch()
        if rule.delay_ns or not rule.immediately:
            await self.context.sleep(rule.delay_ns)
        if rule.errno:
            raise OSError(rule.errno, "injected by blkdebug")

    def read_now(self, reads: Sequence[Read]) -> int:
        """What the image has at hand, where no rule wants to see it."""
        return 0 if self.wants_events else self.file.read_now(reads)

    async def read(self, request: Request) -> None:
        """Read, unless a rule forbids it."""
        if self.wants_events:
            await self._check(request)
        await self.read_blocks(request)

    async def write(self, request: Request) -> None:
        """Write, unless a rule forbids it."""
        if self.wants_events:
            await self._change(self.write_blocks, request)
        else:
            await self.write_blocks(request)

    async def flush(self, request: Request) -> None:
        """Flush, unless a rule forbids it.  No rule sees a flush with nothing to flush, as in QEMU."""
        if not self.wants_events:
            await self.file.flush(request)
            return
        unflushed, self._unflushed = self._unflushed, False
        try:
            if unflushed and not self.options.cache.no_flush:
                await self._check(request)
            await self.file.flush(request)
        except BaseException:
            self._unflushed = True
            raise

    async def discard(self, request: Request) -> None:
        """Discard, unless a rule forbids it."""
        if self.wants_events:
            await self._change(self.file.discard, request)
        else:
            await self.file.discard(request)

    async def write_zeroes(self, request: Request) -> None:
        """Write zeroes, unless a rule forbids it."""
        if self.wants_events:
            await self._change(self.file.write_zeroes, request)
        else:
            await self.file.write_zeroes(request)

    async def secure_erase(self, request: Request) -> None:
        """Erase, unless a rule forbids it."""
        if self.wants_events:
            await self._change(self.file.secure_erase, request)
        else:
            await self.file.secure_erase(request)

    async def block_status(self, request: Request) -> BlockStatus:
        """What the image says, unless a rule forbids it."""
        if self.wants_events:
            await self._check(request)
        return await self.file.block_status(request)


def _together(words: Sequence[str]) -> Perm:
    """Permissions by their names."""
    found = Perm.NONE
    for word in words:
        found |= Perm[word.upper().replace("-", "_")]
    return found


def _rules(options: BlkdebugOptions) -> Rules:
    """Those of the configuration file, then those of the options."""
    found = config.Config([], [])
    if options.config is not None:
        try:
            path = Path(options.config)
            if path.exists() and not path.is_file():
                # A pipe or a terminal would be waited for, and /dev/zero has no end.
                raise OSError(errno.EINVAL, "expected a regular file")
            found = config.parse(path.read_text(encoding="utf-8"), options.config)
        except OptionError as error:
            raise BlockOptionError(f"$.config: {error}") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise BlockOptionError(f"$.config: cannot read {options.config!r}: {reason}") from None
    return Rules([*found.errors, *options.inject_error], [*found.states, *options.set_state])


def _limits(options: BlkdebugOptions, image: BlockNode) -> BlockLimits:
    """The node's limits; BlockOptionError where one does not fit the others."""
    align = options.align
    if align & (align - 1):
        raise BlockOptionError(f"$.align: {align} is given; expected a power of 2")
    block = max(align, image.limits.request_alignment)
    for name, unit in (
        ("max_transfer", block),
        ("opt_write_zero", block),
        ("max_write_zero", max(block, options.opt_write_zero)),
        ("opt_discard", block),
        ("max_discard", max(block, options.opt_discard)),
    ):
        value = getattr(options, name)
        if value % unit:
            shown = name.replace("_", "-")
            raise BlockOptionError(f"$.{shown}: {value} is given; expected a multiple of {unit}")
    return BlockLimits(
        request_alignment=align or 1,
        max_transfer=options.max_transfer,
        pdiscard_alignment=options.opt_discard or 1,
        pwrite_zeroes_alignment=options.opt_write_zero or 1,
        max_pwrite_zeroes=options.max_write_zero,
        max_pdiscard=options.max_discard,
    )

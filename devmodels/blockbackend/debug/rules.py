"""blkdebug's rules: which event makes which error wait for which requests (QEMU: docs/devel/blkdebug.txt).

A node's rules are a small machine.  It has a state, an integer that begins at 1, and the errors that are active:

    event → rules of this event that hold in this state:
              inject-error   is active from now on; what other events have made active no longer is
              set-state      is the state after this event
              break point    holds the request that the event is about, once
    request → the first active error that matches it, in the order in which the rules were given

So an error stays active after the request that its event was about, until another event brings others.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import msgspec

from devmodels.blockbackend.request import Op, Request

Event = Literal[
    "l1_update",
    "l1_grow_alloc_table",
    "l1_grow_write_table",
    "l1_grow_activate_table",
    "l2_load",
    "l2_update",
    "l2_update_compressed",
    "l2_alloc_cow_read",
    "l2_alloc_write",
    "read_aio",
    "read_backing_aio",
    "read_compressed",
    "write_aio",
    "write_compressed",
    "vmstate_load",
    "vmstate_save",
    "cow_read",
    "cow_write",
    "reftable_load",
    "reftable_grow",
    "reftable_update",
    "refblock_load",
    "refblock_update",
    "refblock_update_part",
    "refblock_alloc",
    "refblock_alloc_hookup",
    "refblock_alloc_write",
    "refblock_alloc_write_blocks",
    "refblock_alloc_write_table",
    "refblock_alloc_switch_table",
    "cluster_alloc",
    "cluster_alloc_bytes",
    "cluster_free",
    "flush_to_os",
    "flush_to_disk",
    "pwritev_rmw_head",
    "pwritev_rmw_after_head",
    "pwritev_rmw_tail",
    "pwritev_rmw_after_tail",
    "pwritev",
    "pwritev_zero",
    "pwritev_done",
    "empty_image_prepare",
    "l1_shrink_write_table",
    "l1_shrink_free_l2_clusters",
    "cor_write",
    "cluster_alloc_space",
    "none",
]
"""QEMU's BlkdebugEvent."""

EVENTS: frozenset[str] = frozenset(get_args(Event))

IoType = Literal["read", "write", "write-zeroes", "discard", "flush", "block-status", "secure-erase"]
"""QEMU's BlkdebugIOType, and `secure-erase`."""

IO_TYPES: dict[Op, IoType] = {
    Op.READ: "read",
    Op.WRITE: "write",
    Op.WRITE_ZEROES: "write-zeroes",
    Op.DISCARD: "discard",
    Op.FLUSH: "flush",
    Op.BLOCK_STATUS: "block-status",
    Op.SECURE_ERASE: "secure-erase",
}

SECTOR = 512

State = Annotated[
    int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31, description="a 32-bit integer; 0: in any state")
]
Errno = Annotated[int, msgspec.Meta(ge=0, le=4095, description="an error number from 0 to 4095")]
Sector = Annotated[
    int, msgspec.Meta(ge=-1, lt=1 << 54, description="a sector's number, or -1 for requests anywhere")
]
Delay = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1, description="a number of ns from 0")]
Sectors = Annotated[int, msgspec.Meta(ge=1, lt=1 << 54, description="a number of sectors from 1")]


class InjectErrorOptions(
    msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True
):
    """Requests fail with `errno` (0: they do not) once `event` has come while the state was `state` (0: any).

    Those of one `iotype` (None: of any but block status), that touch one of `sectors` sectors from `sector` (-1: any
    place), whose label is `label` (None: any); only the first of them with `once`.  `immediately`: before anything else
    has its turn.  `delay_ns` (of newer QEMUs than 7.2): so many ns later, and with an `errno` of 0 the request is late
    and goes on.
    """

    event: Event
    state: State = 0
    iotype: IoType | None = None
    errno: Errno = errno.EIO
    sector: Sector = -1
    sectors: Sectors = 1
    label: str | None = None
    once: bool = False
    immediately: bool = False
    delay_ns: Delay = 0

    def __post_init__(self) -> None:
        if self.sectors != 1 and self.sector < 0:
            raise ValueError(f"sectors: {self.sectors} is given; expected with it a sector to begin at")

    def matches(self, request: Request) -> bool:
        """Whether `request` is one of those that fail."""
        iotype = IO_TYPES[request.op]
        if iotype != self.iotype and (self.iotype is not None or iotype == "block-status"):
            return False
        if self.label is not None and all(each.label != self.label for each in request.roots()):
            return False
        if self.sector < 0:
            return True
        start, end = self.sector * SECTOR, (self.sector + self.sectors) * SECTOR
        return request.length > 0 and request.offset < end and start < request.offset + request.length


class SetStateOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The state is `new_state` after `event`, where it was `state` (0: any)."""

    event: Event
    state: State = 0
    new_state: State = msgspec.field(name="new_state")


class Rules:
    """The machine.  `state` is its state, `active` are the errors that requests are looked at for."""

    def __init__(self, errors: Sequence[InjectErrorOptions], states: Sequence[SetStateOptions]) -> None:
        self.state = 1
        self.active: list[InjectErrorOptions] = []
        self._errors = list(errors)
        self._states = list(states)
        self._breaks: list[tuple[str, str]] = []

    def __bool__(self) -> bool:
        """Whether there are any rules."""
        return bool(self._errors or self._states or self._breaks)

    def event(self, name: str, *, hold: bool) -> list[str]:
        """`name` has come; returns the tags of the break points that hold the request, which are gone then.

        Without `hold` break points are left alone.
        """
        state = self.state
        errors = [rule for rule in self._errors if rule.event == name and rule.state in (0, state)]
        if errors:
            self.active = errors
        # Of several rules for one event and state the first has the say, as in QEMU.
        for rule in self._states:
            if rule.event == name and rule.state in (0, state):
                self.state = rule.new_state
                break
        if not (hold and self._breaks):
            return []
        tags = [tag for event, tag in self._breaks if event == name]
        self._breaks = [each for each in self._breaks if each[0] != name]
        return tags

    def check(self, request: Request) -> InjectErrorOptions | None:
        """The rule that `request` fails by, which is gone then where it holds once.

        What fails for several at once is tried again for each of them: the rule waits for those.
        """
        for rule in self.active:
            if rule.matches(request):
                if not rule.errno and not rule.delay_ns:
                    return None
                if rule.once and len(list(request.roots())) == 1:
                    self.active = [each for each in self.active if each is not rule]
                    self._errors = [each for each in self._errors if each is not rule]
                return rule
        return None

    def add_break(self, event: str, tag: str) -> None:
        """Hold the next request that `event` is about."""
        self._breaks.append((event, tag))

    def remove_break(self, tag: str) -> bool:
        """Drop the break points of that tag; False where there is none."""
        before = len(self._breaks)
        self._breaks = [each for each in self._breaks if each[1] != tag]
        return len(self._breaks) != before

    def take_breaks(self, other: Rules) -> None:
        """Have the break points of `other`, too."""
        self._breaks += other._breaks

"""A driver of a virtio function: what its actions are as accesses (VIRTIO 1.4 §3.1, §4.1.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace

from guestsim.diff.access import (
    Access,
    Break,
    Held,
    Late,
    Loose,
    Read,
    Rest,
    Resume,
    Step,
    Store,
    Unordered,
    Wait,
    Write,
)
from guestsim.diff.arena import MESSAGES, MESSAGES_SIZE
from guestsim.diff.grammar import Action
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.grammar.virtio import (
    Anew,
    BringUp,
    Broken,
    Ended,
    InFlight,
    Jump,
    Pending,
    ResetQueue,
    Submit,
    Suppress,
    common,
    get,
    put,
    put_wide,
)
from guestsim.diff.grammar.virtio_chains import BUFFERS, UNTOUCHED, Buffers, Chain, loose
from guestsim.diff.grammar.virtio_packed import PackedRing
from guestsim.diff.grammar.virtio_rings import AVAIL_AT, DESC_AT, USED_AT, Queue, Ring
from guestsim.drivers.layouts import COMMON_CFG, Feature, Status

QUEUE_FIELDS = range(0x18, 0x3C)
"""Offsets of what belongs to the selected queue (§4.1.4.3)."""
QUEUE_SIZE = COMMON_CFG["queue_size"].offset

MOST_QUEUES = 1024
"""QEMU's: it does not take a higher number into queue_select."""

HELD = "A"
"""The break point of a request that is held."""

RESET, RESET_QUEUE, RESET_COMMAND = "reset", "queue-reset", "reset-command"
"""Masks: what QEMU has done before a reset of the device, and after one of a queue; how a command ends at one."""

UNSENT = "unsent"
"""Mask: messages that come while there is no bus mastering."""

OPERATING = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK


@dataclass(slots=True)
class Lowering:
    """The driver while its actions become accesses."""

    queues: Sequence[Ring]
    features: int = 0
    vectors_on: bool = False
    selected: int = 0
    queue_feature: int = 0
    """The feature without which there is only queue 0."""
    control: int | None = None
    """The queue of which QEMU's device does not say anew when it wants to be notified, if it is packed."""
    feature_tags: Callable[[int], Iterator[str]] = field(default=lambda _: iter(()))
    """What is special about a set of features."""
    buffers: Buffers = field(default_factory=Buffers)
    forgotten: bool = True
    """Whether the device was reset after features were accepted last."""
    _state: frozenset[str] = frozenset()
    """Tags of all steps from an initialisation to the next one."""
    _tags: frozenset[str] = frozenset()
    """Tags of the step that is being made."""
    _marks: tuple[Loose, ...] = ()
    """What of used descriptors need not be the same at the next quiescent point."""
    _unordered: Unordered | None = None
    """What may have come in any order there."""

    def step(self, action: Action) -> Step:
        """The accesses of one action."""
        self._tags = self._state
        step = self._step(action)
        accesses = tuple(map(self._place, step.accesses))
        return replace(step, accesses=accesses, tags=step.tags | self._tags | self._state)

    def _place(self, access: Access) -> Access:
        """Where an access goes over another interface than the modern one."""
        return access

    def _step(self, action: Action) -> Step:
        match action:
            case BringUp():
                return self._bring_up(action)
            case Submit():
                return self._submit(action)
            case InFlight():
                return self._in_flight(action)
            case Ended():
                return self._ended(action)
            case Registers(name, accesses, needs, tags):
                if needs & ~self.features:
                    return Step(f"nothing: {name}, without the feature", ())
                self.forgotten = self.forgotten or put("device_status", 0) in accesses
                tags |= {"forgotten"} if self.forgotten else set()
                return Step(name, (*map(self._alias, accesses), *self._wait()), tags)
            case ResetQueue(number, again):
                return self._reset_queue(self.queues[number], again)
            case Suppress(number, flag, ahead):
                name = f"queue {number}: interrupts {'off' if flag else f'from {ahead} ahead'}"
                events = bool(self.features >> Feature.EVENT_IDX & 1)
                return Step(name, self.queues[number].suppress(ahead, flag=flag, events=events))
            case Jump(number, by):
                return self._jump(self.queues[number], by)
            case Broken():
                return self._broken(action)
            case Pending():
                return self._pending(action)
            case Anew(before, up, after):
                steps = [self._step(one) for one in (before, up, after)]
                name = "; ".join(step.name for step in steps)
                accesses = tuple(access for step in steps for access in step.accesses)
                return Step(name, accesses, frozenset().union(*(step.tags for step in steps)))
        raise TypeError(action)

    def _broken(self, action: Broken) -> Step:
        queue = self.queues[action.wrong.queue]
        wrong = self._step(action.wrong)
        if not wrong.tags:
            return self._bring_up(action.up)
        *do, wait = wrong.accesses
        isr = self._alias(Read("isr", 0, 1))
        if "chain:far" in wrong.tags:
            # It is answered: nothing is broken by it.
            do += (*(Loose("status-nowhere", at, 4) for at in queue.lengths(1)), wait, isr, Wait())
        else:
            do += self._broken_end([Loose("broken-hints", at, 2) for at in queue.hints()], wait, isr)
        up = self._bring_up(action.up)
        accesses = (*do, *up.accesses)
        return Step(f"{wrong.name}; {up.name}", accesses, wrong.tags | up.tags | {"broken"})

    def _broken_end(self, hints: Sequence[Loose], wait: Access, isr: Access) -> tuple[Access, ...]:
        """What is looked at when only a reset helps."""
        return (*hints, wait, isr, Wait())

    def _jump(self, queue: Ring, by: int) -> Step:
        jump = queue.jump(by) if queue.size else ()
        if not jump:
            return Step("nothing: there is no index", ())
        name = f"available index of queue {queue.number} goes on by {by}"
        return Step(name, (*jump, *self._notify(queue)), frozenset({"jump"}))

    def _pending(self, action: Pending) -> Step:
        """All vectors are free but for what holds the message back; the driver wants to be interrupted."""
        up = self._bring_up(action.up)
        queue, vectors = self.queues[action.submit.queue], action.up.vectors
        if not queue.size or vectors is None:
            return up
        vector = vectors[queue.number + 1]
        wish = queue.suppress(0, flag=False, events=bool(self.features >> Feature.EVENT_IDX & 1))
        made = self._submit(action.submit)
        if not made.tags:
            return up
        free = [Write("msix", 16 * entry + 12, 4, 0) for entry in range(len(vectors))]
        mask, unmask = replace(free[vector], value=1), free[vector]
        mask_all, unmask_all = Write("msixcap", 2, 2, 0xC000), Write("msixcap", 2, 2, 0x8000)
        pending, looks = Read("pba", 0, 8), (Wait(), Read("pba", 0, 8))
        before: tuple[Access, ...]
        after: tuple[Access, ...]
        match action.by:
            case "entry":
                before, after = (mask,), (unmask, *looks)
            case "function":
                before, after = (mask_all,), (unmask_all, *looks)
            case "both":
                before, after = (mask, mask_all), (unmask, *looks, mask, unmask_all, *looks, unmask, *looks)
            case _:
                message = (vector + 1).to_bytes(4, "little")
                sent = Loose(UNSENT, MESSAGES + 4 * vector, 4, values=(message, bytes(4)))
                off, on = Write("pci", 4, 1, 0x03), Write("pci", 4, 1, 0x07)
                kept = replace(pending, but=(UNSENT, 1 << vector, 0))
                before, after = (mask,), (off, unmask, Wait(), kept, on, sent, *looks)
                after += self._bring_up(action.up).accesses
        tags = made.tags | up.tags | {f"held-back:{action.by}"}
        name = f"{up.name}; {made.name}; its message is held back by: {action.by}"
        accesses = (*up.accesses, *free, *wish, *before, *made.accesses, pending, *after, Wait())
        return Step(name, accesses, tags)

    def _notify(self, queue: Ring) -> tuple[Access, ...]:
        """The device is told, and comes to rest."""
        return self._alias(Write("notify", 4 * queue.number, 2, queue.number)), *self._wait()

    def _wait(self) -> tuple[Access, ...]:
        """A quiescent point, last."""
        marks, unordered = self._marks, self._unordered
        self._marks, self._unordered = (), None
        return *marks, Wait(unordered)

    def _tell(self, queue: Ring) -> None:
        """What follows from a notification is for the next quiescent point."""
        told = queue.notified()
        self._marks += told.loose
        if "before-driver-ok" in self._state and queue.size:
            # It is the first that the device hears of the queue, which may ask for something then.
            self._marks += queue.first_hint()
        self._unordered = told.unordered or self._unordered
        self._tags |= told.tags

    def _alias(self, access: Access) -> Access:
        """With vectors ISR status is another thing, `isr-msix`; so are fields of a queue that is not there."""
        match access:
            case Write("notify", offset) if offset // 4 < len(self.queues):
                self._tell(self.queues[offset // 4])
            case Write("cap-pci", 16, 2, number) if number < len(self.queues):
                # `virtio_config.through` writes nothing else of this size.
                self._tell(self.queues[number])
            case Write("common", offset, _, value) if offset == common("queue_select")[0]:
                self.selected = value
            case Write("common", offset, _, 0) if offset == common("device_status")[0]:
                self._forget()
            case Write("msixcap") if not self.vectors_on:
                return Read("msixcap", 2, 2)
            case Read("isr") if self.vectors_on:
                return replace(access, window="isr-msix")
            case Read("common", offset) if offset in QUEUE_FIELDS and self.selected >= MOST_QUEUES:
                return replace(access, window="common-beyond")
            case Read("common", offset) if offset in QUEUE_FIELDS and self._no_queue(offset == QUEUE_SIZE):
                return replace(access, window="common-none")
        return access

    def _no_queue(self, size: bool) -> bool:
        """Whether what is read is of a queue that is not there; its size is 0 then, unless features are to blame."""
        return self._available <= self.selected and not (size and self.selected >= len(self.queues))

    @property
    def _available(self) -> int:
        """Queues that there are, by what was negotiated."""
        return 1 if self.queue_feature & ~self.features else len(self.queues)

    def _forget(self) -> None:
        """The device was reset."""
        self.features = 0
        for queue in self.queues:
            queue.size = 0

    # --- initialisation

    def _bring_up(self, action: BringUp) -> Step:
        do: list[Access] = [put("device_status", 0), Wait(), get("device_status")]
        self._forget()
        self.forgotten = "features" in action.skip
        self.features = 0 if self.forgotten else action.features
        self.queues = [self._ring(queue.number) for queue in self.queues]
        self.vectors_on = action.vectors is not None
        if "acknowledge" not in action.skip:
            do.append(put("device_status", Status.ACKNOWLEDGE))
        do.append(put("device_status", Status.ACKNOWLEDGE | Status.DRIVER))
        if "features" not in action.skip:
            for word in range(2):
                do += [put("device_feature_select", word), get("device_feature")]
                do += [put("driver_feature_select", word)]
                do += [put("driver_feature", action.features >> 32 * word & 0xFFFF_FFFF)]
        if "features-ok" not in action.skip:
            do += [put("device_status", OPERATING), get("device_status")]
        on = action.vectors is not None
        do.append(Write("msixcap", 2, 2, 0x8000 if on else 0))
        if action.vectors is not None:
            do += [put("config_msix_vector", action.vectors[0]), get("config_msix_vector")]
        for number, size in enumerate(action.sizes[: self._available]):
            queue = self.queues[number]
            do += self._start_queue(queue, queue.allowed(size), action)
        if "driver-ok" not in action.skip:
            do += [put("device_status", OPERATING | Status.DRIVER_OK), get("device_status")]
        return self._brought_up(action, do)

    def _ring(self, number: int) -> Ring:
        """What rings are like with the features that were accepted."""
        if self.features >> Feature.RING_PACKED & 1:
            return PackedRing(number, late=number == self.control)
        return Queue(number)

    def _brought_up(self, action: BringUp, do: Sequence[Access]) -> Step:
        early = ("before-driver-ok",) if "driver-ok" in action.skip else ()
        self._state = frozenset((*early, *self.feature_tags(self.features)))
        tags = frozenset(f"skip:{part}" for part in action.skip)
        return Step(f"bring up with features {action.features:#x}", (*do, Wait()), tags)

    def _start_queue(self, queue: Ring, size: int, action: BringUp | None = None) -> list[Access]:
        """Rings for a queue, and it is enabled (§4.1.5.1.3)."""
        do = [*queue.emptied(size), *queue.first_hint()]
        do += [put("queue_select", queue.number), get("queue_size"), put("queue_size", size)]
        if action is not None and action.vectors is not None:
            do.append(put("queue_msix_vector", action.vectors[queue.number + 1]))
            do.append(get("queue_msix_vector"))
        for name, at in (("queue_desc", DESC_AT), ("queue_driver", AVAIL_AT), ("queue_device", USED_AT)):
            do += put_wide(name, queue.base + at)
        if action is None or "enable" not in action.skip:
            do += [put("queue_enable", 1), get("queue_enable"), get("queue_size")]
        return do

    def _reset_queue(self, queue: Ring, again: bool) -> Step:
        if not self.features >> Feature.RING_RESET & 1 or not queue.size:
            return Step("nothing: no queue that can be reset", ())
        do: list[Access] = [put("queue_select", queue.number), put("queue_reset", 1), Wait()]
        do += [get("queue_reset"), get("queue_enable"), get("queue_size")]
        if again:
            do += self._start_queue(queue, queue.size)
        else:
            queue.size = 0
        tags = frozenset({"queue-reset"})
        return Step(f"queue {queue.number} is reset" + ", and set up anew" * again, (*do, Wait()), tags)

    # --- requests

    def _submit(self, action: Submit) -> Step:
        queue = self.queues[action.queue]
        if not queue.size:
            return Step("nothing: there is no queue", ())
        do: list[Access] = []
        tags: set[str] = set()
        chains = [chain for chain in action.chains if self._add(queue, chain, do)]
        for chain in chains:
            tags |= {chain.name, *chain.traits, *((f"chain:{chain.quirk}",) if chain.quirk else ())}
        # In which order they are used is not known here.
        ours = {_length(value) for chain in chains for value in chain.written}
        theirs = {_length(chain.counted) for chain in chains if chain.written}
        do += _used_lengths(queue.lengths(len(chains)), ours, theirs)
        do += queue.published()
        do += self._wait() if action.notify is None else self._notify(self.queues[action.notify])
        what = ", ".join(chain.name for chain in chains) or "nothing that fits"
        return Step(f"queue {queue.number}: {what}", tuple(do), frozenset(tags))

    def _in_flight(self, action: InFlight) -> Step:
        queue = self.queues[action.submit.queue]
        first = queue.avail
        held = self._submit(action.submit)
        if not held.tags:
            return held
        *submitted, wait = held.accesses
        do = [Break(action.event, HELD), *submitted, Held(HELD), wait]
        queue.held = 1
        others = [self._step(one) for one in action.meanwhile]
        queue.held = 0
        for step in others:
            do += step.accesses
        do += Resume(HELD), Wait()
        loose = {one: None for one in do if isinstance(one, Loose)}
        places = queue.lengths(queue.avail - first & 0xFFFF)
        loose |= dict.fromkeys(_used_lengths(places, _lengths(loose, 0), _lengths(loose, 1)))
        accesses: list[Access] = []
        for one in do:
            # When each of them is over is not known here.
            accesses += (*loose, one) if isinstance(one, Wait) else (one,)
        names = "; ".join(step.name for step in others)
        among = frozenset().union(*(step.tags for step in others))
        tags = (
            held.tags | among | {f"meanwhile:{tag}" for tag in among} | {"in-flight", f"held:{action.event}"}
        )
        # Commands that ours may have waiting: those of the control queue never wait.
        beside = sum(
            bool(step.tags)
            for one, step in zip(action.meanwhile, others, strict=True)
            if isinstance(one, Submit) and one.queue != self.control
        )
        tags |= {f"beside:{beside}"}
        name = f"held at {action.event}: {held.name}; meanwhile: {names or 'nothing'}"
        return Step(name, tuple(accesses), tags)

    def _ended(self, action: Ended) -> Step:
        """What ends a request that is held, and what is done then."""
        ended = self._held_and_ended(action)
        if "ended" not in ended.tags:
            return ended
        again = [self._step(one) for one in action.again]
        accesses = (*ended.accesses, *(access for step in again for access in step.accesses))
        return replace(ended, accesses=accesses, tags=ended.tags.union(*(step.tags for step in again)))

    def _held_and_ended(self, action: Ended) -> Step:
        queue = self.queues[action.submit.queue]
        held = self._submit(action.submit)
        if not held.tags:
            return held
        *submitted, wait = held.accesses
        do = [Break(action.event, HELD), *submitted, Held(HELD), wait]
        match action.by:
            case Submit():
                by, end = self._managed(action.by, submitted, wait, drains=action.drains)
            case BringUp():
                by, end = self._reset_while_held(action.by, queue, submitted)
            case ResetQueue():
                by, end = self._queue_reset_while_held(queue, submitted, wait)
        tags = held.tags | by.tags | {"in-flight", "ended", f"held:{action.event}"}
        return Step(f"held at {action.event}: {held.name}; ended: {by.name}", (*do, *end), tags)

    def _managed(
        self, action: Submit, submitted: Sequence[Access], wait: Access, *, drains: bool
    ) -> tuple[Step, list[Access]]:
        """Both are over when what was held has gone on: QEMU answers only then, and waits for it in a reset."""
        by = self._submit(action)
        *told, last = by.accesses if by.tags else (wait,)
        # Of what was ended anything may have been done.
        again = {replace(one, status=None, good=False): None for one in submitted if isinstance(one, Loose)}
        late: list[Access] = [Late(HELD)] if drains else []
        return by, [*late, *told, Resume(HELD), *again, last]

    def _reset_while_held(
        self, action: BringUp, queue: Ring, submitted: Sequence[Access]
    ) -> tuple[Step, list[Access]]:
        """Ours waits until what is held goes on, and nobody hears of it; QEMU does it first, in the reset."""
        messages = Loose(RESET, MESSAGES, MESSAGES_SIZE, values=(bytes(MESSAGES_SIZE), None))
        untouched = list(_untouched(submitted, RESET))
        ended = untouched if self.control is not None else ()
        left = [*untouched, *(replace(one, reason=RESET_COMMAND, values=None) for one in ended)]
        left += (*queue.dropped(RESET), messages)
        up = self._bring_up(action)
        reset, wait, *others = up.accesses
        return up, [Late(HELD), reset, Resume(HELD), *left, wait, *others]

    def _queue_reset_while_held(
        self, queue: Ring, submitted: Sequence[Access], wait: Access
    ) -> tuple[Step, list[Access]]:
        """Ours waits until what is held goes on, and nobody hears of it; QEMU does it then, without a ring."""
        by = self._reset_queue(queue, again=True)
        if not by.tags:
            return by, [Resume(HELD), *(one for one in submitted if isinstance(one, Loose)), wait]
        select, reset, still, *others = by.accesses
        isr = Read("isr-msix" if self.vectors_on else "isr", 0, 1, (RESET_QUEUE, 0, 1))
        late: list[Access] = [Resume(HELD), Rest(), isr, *_untouched(submitted, RESET_QUEUE), Wait()]
        return by, [select, reset, still, *late, *others]

    def _add(self, queue: Ring, chain: Chain, do: list[Access]) -> bool:
        """Add a chain's buffers and descriptors, if there is room for them.

        The quirk `far`: a buffer is outside memory; a ring's `add` has others.
        """
        indirect = chain.indirect and bool(self.features >> Feature.INDIRECT_DESC & 1)
        if not queue.can(chain.quirk, indirect=indirect):
            return False
        if len(chain.pieces) > queue.size or chain.needs & ~self.features:
            return False
        if not queue.room(1 if indirect else len(chain.pieces)):
            return False
        parts = [self.buffers.place(piece, do) for piece in chain.pieces]
        do += loose(chain, parts)
        if chain.quirk == "far" and parts:
            address, length, flags = parts[-1]
            parts[-1] = address + (1 << 45), length, flags
        do += queue.add(parts, chain.quirk, indirect=indirect)
        return True


USED_LENGTH = "used-len"


def _length(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _used_lengths(places: Iterable[int], ours: Set[bytes], theirs: Set[bytes]) -> Iterator[Loose]:
    """Used lengths that are some of these, on either side."""
    if ours:
        values = tuple(sorted(ours)), tuple(sorted(theirs))
        yield from (Loose(USED_LENGTH, at, 4, values=values) for at in places)


def _lengths(marks: Iterable[Loose], side: int) -> set[bytes]:
    """All used lengths that there may be on one side: ours is 0."""
    found: set[bytes] = set()
    for one in marks:
        if one.reason == USED_LENGTH and one.values is not None:
            values = one.values[side]
            found.update(values if isinstance(values, tuple) else ())
    return found


def _untouched(submitted: Sequence[Access], reason: str) -> Iterator[Loose]:
    """Buffers that the device may write: ours has not."""
    for one in submitted:
        if (
            isinstance(one, Store)
            and one.address >= BUFFERS
            and one.data == bytes([UNTOUCHED]) * len(one.data)
        ):
            yield Loose(reason, one.address, len(one.data), values=(one.data, None))

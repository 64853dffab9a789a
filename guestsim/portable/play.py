"""Feeding lowered requests to a target, and comparing what it answers with what was recorded."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devmodels.tracefile import TraceFileError
from guestsim.drivers.layouts import BLK_CONFIG, BlkFeature, Feature
from guestsim.drivers.virtio_blk import BLK_FEATURES
from guestsim.errors import GuestError, GuestTimeoutError, RaisedError
from guestsim.portable import differences
from guestsim.portable.content import EVERYTHING
from guestsim.portable.differences import Difference, compare, found
from guestsim.portable.limits import Limits, feature_name, features_of, power_of_two
from guestsim.portable.machine import DRIVE
from guestsim.portable.readback import forget_what_differs, read_back
from guestsim.portable.requests import ConfigRead, ConfigWrite, Item, Request, Reset, Resize, Session
from guestsim.portable.survey import unheard
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from pathlib import Path

    from guestsim.drivers.virtio_blk import Pending, VirtioBlk
    from guestsim.portable.machine import Place
    from guestsim.portable.ranges import RangeMap
    from guestsim.portable.readback import LastContent
    from guestsim.portable.survey import Progress, Survey
    from guestsim.script.world import World

IN_FLIGHT_BYTES = 16 << 20
"""Guest memory for requests in flight; one that is longer goes alone."""
_FILLED = 1 << 20
KEPT = 100
"""How many differences are kept whole."""

_WRITEBACK = BLK_CONFIG["writeback"]
_SAME_EVERYWHERE = {"capacity": None, "blk_size": BlkFeature.BLK_SIZE, "num_queues": BlkFeature.MQ}
"""Configuration fields that are no limits of an implementation's own, and the feature that each needs."""


class _StoppedError(Exception):
    """The target cannot go on."""


@dataclass(slots=True)
class Tally:
    """What came of a run.

    `compared` requests were fed and answered; `different` counts what is not as recorded and unexplained, of which the
    first are in `differences`; `explained` counts what is known to be different, by reason.  `skipped` counts requests
    that were not fed, `unknown` those of whose data not everything is compared, `left_out` what else could not be
    done, each by reason.  `read_back` are the bytes of the disk that were compared when all had been fed.  `stopped`
    says why the run ended before the trace.
    """

    requests: int = 0
    compared: int = 0
    equal: int = 0
    different: int = 0
    differences: list[Difference] = field(default_factory=list)
    explained: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    read_back: int = 0
    stopped: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is different that could have been the same."""
        return not self.different and not self.stopped

    def add(self, difference: Difference) -> None:
        """Take note of a difference."""
        if difference.because:
            self.explained[difference.because] += 1
            return
        self.different += 1
        if len(self.differences) < KEPT:
            self.differences.append(difference)


@dataclass(slots=True, eq=False)
class _Flight:
    request: Request
    pending: Pending


class Player:
    """Feeds requests to the one device of `world`, of a trace of which `survey` is known.

    With `first_only` it ends soon after the first difference.  When all has been fed, the disk is held to `content`.
    """

    def __init__(
        self,
        world: World,
        place: Place,
        survey: Survey,
        progress: Progress = unheard,
        *,
        first_only: bool = False,
        content: LastContent | None = None,
    ) -> None:
        self.tally = Tally()
        self.reached = -1
        """The number of the item that was fed last."""
        self._first_only = first_only
        self._content = content
        self._world = world
        self._place = place
        self._progress = progress
        self._survey = survey
        self._driver: VirtioBlk = world.blk()
        self._target = place.target.name
        self._group: list[Request] = []
        self._flights: list[_Flight] = []
        self._nbytes = 0
        self._violations: Counter[str] = Counter()
        self._violations_seen = 0
        self._resized = False

    # --- running

    def prepare(self) -> Limits:
        """Bring the device up once, to see what it takes; GuestError where that cannot be."""
        driver = self._driver
        self._run(driver.probe())
        offered = driver.device.offered & BLK_FEATURES
        legacy = driver.device.transport.legacy
        if legacy:
            offered |= {Feature.VERSION_1}
        foreign = self._place.target.socket is not None
        disk, sessions = self._survey.disk, self._survey.sessions
        capacity = driver.capacity if foreign else None
        return Limits(offered, driver.config, sessions, disk.size, disk.read_only, capacity)

    def fill(self, image: Path, ranges: RangeMap[bool]) -> None:
        """Write what the disk held first to a disk that is somebody's: `ranges` of `image`.

        GuestError where that cannot be.
        """
        driver = self._driver
        if BlkFeature.RO in driver.device.offered:
            return
        with image.open("rb") as file:
            for start, end, _ in ranges.find(0, driver.capacity):
                for at in range(start, end, _FILLED):
                    data = os.pread(file.fileno(), min(_FILLED, end - at), at)
                    self._run(driver.write(at, data))

    def play(self, items: Iterable[Item], limits: Limits) -> Tally:
        """Feed everything; what keeps the target from going on is in the tally."""
        begun = time.perf_counter()
        try:
            self._run(self._play(items, limits))
        except _StoppedError as error:
            self.tally.stopped = str(error)
        except RaisedError as error:
            self.tally.stopped = f"event {self.reached}: {error}"
        except (GuestError, TargetError) as error:
            self.tally.stopped = str(error)
        self.tally.seconds = time.perf_counter() - begun
        return self.tally

    def _run(self, work: Coroutine[object, object, object]) -> None:
        """Have the guest do something; RaisedError where the device raises, which is a defect of its own."""
        try:
            self._world.guest.run(work)
        except (_StoppedError, GuestError, TargetError, TraceFileError, OSError):
            raise
        except Exception as error:
            raise RaisedError(error) from error

    async def _play(self, items: Iterable[Item], limits: Limits) -> None:
        for item in items:
            if self._first_only and self.tally.different:
                return
            self._progress(item.number)
            self.reached = item.number
            if isinstance(item, Request):
                await self._request(item)
                continue
            await self._drain()
            if isinstance(item, Session):
                await self._session(item, limits)
            elif isinstance(item, Reset):
                await self._reset(item)
            elif isinstance(item, ConfigRead):
                self._config_read(item)
            elif isinstance(item, ConfigWrite):
                self._config_write(item)
            else:
                self._resize(item)
        await self._drain()
        if self._content is not None:
            tally = self.tally
            tally.read_back, different = await read_back(self._driver, self._content)
            for difference in different:
                tally.add(difference)

    # --- requests

    async def _request(self, request: Request) -> None:
        """Make it available as soon as what was used before it was taken has been used here."""
        tally = self.tally
        tally.requests += 1
        if request.skip:
            tally.skipped[request.skip] += 1
            return
        group = self._group
        if group and (group[0].queue, group[0].kick) != (request.queue, request.kick):
            await self._submit()
        number = request.number
        if any(one.used < number for one in group if one.used is not None):
            await self._submit()
        await self._wait([one for one in self._flights if _before(one.request, number)])
        if self._nbytes + request.nbytes > IN_FLIGHT_BYTES:
            await self._drain()
        self._nbytes += request.nbytes
        self._group.append(request)

    async def _submit(self) -> None:
        """Make the group available, with one notification."""
        group, self._group = self._group, []
        if not group:
            return
        queue = group[0].queue % len(self._driver.queues)
        for request in group:
            self._violations.update(request.violations)
        pending = await self._driver.submit([request.operation() for request in group], queue=queue)
        self._flights += [_Flight(request, one) for request, one in zip(group, pending, strict=True)]
        await self._reap()

    async def _drain(self) -> None:
        await self._submit()
        await self._wait(self._flights)

    async def _wait(self, flights: list[_Flight]) -> None:
        """Until these have been answered."""
        waiting = [one for one in flights if not one.pending.done]
        if waiting:
            device = self._driver.device
            what = f"the answer to {waiting[0].request}"
            try:
                await device.wait_for(lambda: all(one.pending.done for one in waiting), what)
            except GuestTimeoutError as error:
                self._unheard(waiting, error)
        await self._reap()

    def _unheard(self, waiting: list[_Flight], error: GuestTimeoutError) -> None:
        """Nobody has told the driver of an answer: it looks by itself."""
        self._driver.device.service()
        lost = [one.request for one in waiting if not one.pending.done]
        if lost:
            for request in lost:
                expected = f"{differences.status_text(request.status)}, used length {request.used_length}"
                self.tally.add(found(request, differences.ANSWER, expected, "none"))
            # Of the others nobody need have been told: with EVENT_IDX a driver asks to be told of the last.
            raise _StoppedError(str(error))
        for one in waiting:
            self.tally.add(
                found(one.request, differences.NOTIFICATION, "one", "none, though there is an answer")
            )

    async def _reap(self) -> None:
        """Compare what has been answered."""
        going = [one for one in self._flights if not one.pending.done]
        if len(going) == len(self._flights):
            return
        done = [one for one in self._flights if one.pending.done]
        self._flights = going
        for one in done:
            await self._compare(one)
        if not going and not self._group:
            self._compare_violations(done[-1].request)

    async def _compare(self, flight: _Flight) -> None:
        driver, tally, request = self._driver, self.tally, flight.request
        answer = await driver.finish(flight.pending)
        self._nbytes -= request.nbytes
        tally.compared += 1
        for why in {one.why for one in request.unknown}:
            tally.unknown[why] += 1
        legacy = driver.device.transport.legacy
        equal = True
        for difference in compare(request, answer, self._target, legacy=legacy):
            tally.add(difference)
            equal = False
        tally.equal += equal
        if self._content is not None and answer.status != request.status:
            forget_what_differs(self._content, request)

    def _compare_violations(self, last: Request) -> None:
        """Where the target keeps account of what the guest does wrong, it is what was recorded."""
        told = self._world.target.violations()
        if told is None:
            return
        new = Counter(clause for clause, _ in told[self._violations_seen :])
        self._violations_seen = len(told)
        recorded, self._violations = self._violations, Counter()
        for clause in sorted((new - recorded) | (recorded - new)):
            expected, got = (f"{number} of {clause}" for number in (recorded[clause], new[clause]))
            self.tally.add(found(last, differences.VIOLATION, expected, got))

    # --- what comes between

    async def _session(self, session: Session, limits: Limits) -> None:
        """Bring the device up with what the recorded driver negotiated, as far as it is there."""
        driver = self._driver
        ring = self._place.ring
        features = features_of(
            session.features, limits.offered, packed=None if ring is None else ring == "packed"
        )
        size = session.queue_size or None
        if size is not None and Feature.RING_PACKED not in features:
            size = power_of_two(size)
        await driver.probe(features=features, queues=session.queues or 1, queue_size=size)
        wanted = {bit for bit in BLK_FEATURES if session.features >> bit & 1}
        lost = wanted - driver.device.features - {Feature.RING_PACKED}
        if driver.device.transport.legacy:
            lost = {bit for bit in lost if bit < Feature.VERSION_1}
        for name in sorted(map(feature_name, lost)):
            if name not in self.tally.missing:
                self.tally.missing.append(name)
        if not session.index:
            self.tally.left_out["a session whose beginning is not in the trace"] += 1

    async def _reset(self, reset: Reset) -> None:
        driver = self._driver
        if reset.queue == -1:
            await driver.reset()
        elif Feature.RING_RESET in driver.device.features and reset.queue in driver.device.queues:
            await driver.reset_queue(reset.queue)
        else:
            self.tally.left_out["the reset of one queue, which the target does not offer"] += 1

    def _config_read(self, read: ConfigRead) -> None:
        """Hold the fields to the recorded ones that are no limits of an implementation's own."""
        if self._place.target.socket is not None:
            return
        device = self._driver.device
        for name, feature in _SAME_EVERYWHERE.items():
            field_ = BLK_CONFIG[name]
            start = max(field_.offset, read.offset)
            end = min(field_.offset + field_.size, read.offset + len(read.data))
            if start >= end or (feature is not None and feature not in device.offered):
                continue
            (value,) = device.read_config([field_])
            whole = value.to_bytes(field_.size, "little")
            got = whole[start - field_.offset : end - field_.offset]
            expected = read.data[start - read.offset : end - read.offset]
            if got != expected:
                text = f"{name} {int.from_bytes(expected, 'little')}"
                told = str(int.from_bytes(got, "little"))
                untold = name == "capacity" and self._resized and self._target == "qemu-storage-daemon"
                because = differences.CAPACITY_UNTOLD if untold else ""
                self.tally.add(Difference(read.number, -1, -1, "", differences.CONFIG, text, told, because))

    def _config_write(self, write: ConfigWrite) -> None:
        driver = self._driver
        if write.offset != _WRITEBACK.offset or write.data not in (b"\0", b"\1"):
            self.tally.left_out["a write of the configuration other than of writeback"] += 1
        elif BlkFeature.CONFIG_WCE not in driver.device.features:
            self.tally.left_out["a switch of the write cache, which the target does not offer"] += 1
        else:
            driver.set_write_cache(on=write.data == b"\1")

    def _resize(self, resize: Resize) -> None:
        if self._content is not None:
            self._content.forget(resize.size, EVERYTHING)
        if not self._resized and self._driver.capacity == resize.size:
            return
        try:
            self._world.target.resize(DRIVE, resize.size)
            self._resized = True
        except TargetError:
            self.tally.left_out["a new size of the disk, which the target cannot be given"] += 1


def _before(request: Request, number: int) -> bool:
    return request.used is not None and request.used < number

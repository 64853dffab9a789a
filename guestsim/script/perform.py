"""Performing a script's steps on its world, and reporting each."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from guestsim.drivers.virtio_blk import VirtioBlk
from guestsim.drivers.virtio_scsi import VirtioScsi
from guestsim.errors import GuestError, RaisedError
from guestsim.script import ahci, ata, control, raw, requests, rings, scsi
from guestsim.script.needs import lacking
from guestsim.script.outcome import Outcome, check
from guestsim.script.schema_expect import Expect
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from guestsim.drivers.virtio_driver import Pending, VirtioDriver
    from guestsim.guest import VCpu
    from guestsim.script.schema import Step
    from guestsim.script.world import World


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step as it went: `did` and `answered` in words, and `failures`, one line each, empty where all is well.

    `difference` is why the target answers otherwise than the script expects elsewhere, where it says so, and `same`
    that it does not; `skipped` is what the step needs that the target lacks: it was left out.
    """

    path: str
    line: int
    did: str
    answered: str
    failures: tuple[str, ...] = ()
    note: str | None = None
    difference: str | None = None
    same: bool = False
    cpu: int = 0
    skipped: str | None = None

    @property
    def ok(self) -> bool:
        """Whether everything was as expected."""
        return not self.failures


class StepFailedError(Exception):
    """A step was not as expected: it has been reported, and the script ends here."""


_SIMPLE: dict[str, Callable[[World, Step], Awaitable[Outcome]]] = {
    "probe": control.probe,
    "reset": control.reset,
    "reset_queue": control.reset_queue,
    "write_cache": control.write_cache,
    "config": control.config,
    "statistics": control.statistics,
    "resize": control.resize,
    "task_management": scsi.task_management,
    "notifications": scsi.notifications,
    "control": scsi.control,
    "event_buffers": scsi.event_buffers,
    "scsi_event": scsi.scsi_event,
    "scan": scsi.scan,
    "ata_probe": ata.ata_probe,
    "ata_reset": ata.ata_reset,
    "ncq": ata.ncq,
    "slot": ahci.slot,
    "ide_probe": ata.ide_probe,
    "ide_reset": ata.ide_reset,
    "ata": ata.ata,
    "packet": ata.packet,
    "regions": ata.regions,
    "task_file": ata.task_file,
    "registers": ata.registers,
    "ide_data": ata.ide_data,
    "plug": scsi.plug,
    "unplug": scsi.unplug,
    "qmp": control.qmp,
    "stop": control.stop,
    "cont": control.cont,
    "event": control.event,
    "image": control.image,
    "random": control.random,
    "sleep": control.sleep,
    "get": raw.get,
    "set": raw.set_,
    "notify": raw.notify,
    "allocate": raw.allocate,
    "poke": raw.poke,
    "peek": raw.peek,
    "table": rings.table,
    "chain": rings.chain,
    "packed_table": rings.packed_table,
    "packed_chain": rings.packed_chain,
}


@dataclass(slots=True)
class Performer:
    """Performs steps one after another; `on_report` hears of each, with `quiet` only of those that fail."""

    world: World
    on_report: Callable[[StepReport], None]
    quiet: int = field(default=0)
    side_by_side: int = field(default=0)
    """Above 0 while vCPUs run side by side: what is reported then belongs to the whole, not to one of their steps."""
    at: str = field(default="steps")
    """The step that was begun last."""

    async def perform(self, steps: Sequence[Step], path: str) -> None:
        """Perform steps; StepFailedError at the first that isn't as expected."""
        for number, step in enumerate(steps):
            await self._step(step, f"{path}[{number}]")

    def give_up(self, error: Exception) -> None:
        """Report what the target raised outside any step, while the guest was waiting, for the step begun last."""
        text = str(RaisedError(error))
        line = self.world.source.line(self.at)
        self.on_report(StepReport(self.at, line, "wait for the machine", text, (text,)))

    async def _step(self, step: Step, path: str) -> None:
        self.at = path
        if (need := lacking(self.world.spec, step)) is not None:
            self._leave_out(step, path, need)
            return
        driver = self._counted(step)
        before = _counts(driver)
        try:
            outcome = await self._act(step, path)
            self._take_interrupts()
        except StepFailedError:
            raise
        except Exception as error:
            known = _known(error)
            outcome = Outcome(step.action.replace("_", "-"), str(known), error=known)
            with suppress(Exception):
                self._take_interrupts()
        driver = driver or self._counted(step)
        if outcome.interrupts is None:
            outcome.interrupts, outcome.config_changes = (
                now - then for now, then in zip(_counts(driver), before, strict=True)
            )
        if not self.side_by_side:
            outcome.violations = self.world.new_violations()
        self._report(step, path, outcome)

    def _leave_out(self, step: Step, path: str, need: str) -> None:
        """Report a step that only looks at what this target hasn't got."""
        if not self.quiet:
            line = self.world.source.line(path)
            did = step.action.replace("_", "-")
            self.on_report(StepReport(path, line, did, f"left out: needs {need}", skipped=need))

    def _take_interrupts(self) -> None:
        """Have what arrived without anybody waiting for it counted to this step."""
        with suppress(GuestError):
            self.world.guest.interrupts.poll()

    def _counted(self, step: Step) -> VirtioDriver[Any] | None:
        """The driver whose interrupts a step is about; None before the device's first probe."""
        name = step.device
        if name is None and len(self.world.device_names) == 1:
            name = self.world.device_names[0]
        return self.world.drivers.get(name) if name is not None else None

    def _report(self, step: Step, path: str, outcome: Outcome) -> None:
        target = self.world.target.name
        failures = (*check(step.expected_on(target), outcome), *self._strays())
        differences = step.differences(target)
        same = bool(differences) and not check(step.expect or Expect(), outcome)
        answer = outcome.answered
        if outcome.interrupts:
            plural = "s" if outcome.interrupts > 1 else ""
            answer += f"{', ' if answer else ''}{outcome.interrupts} interrupt{plural}"
        if outcome.violations:
            answer += "".join(f"; violation of {clause}: {what}" for clause, what in outcome.violations)
        if failures or not self.quiet:
            self.on_report(
                StepReport(
                    path,
                    self.world.source.line(path),
                    outcome.did,
                    answer,
                    failures,
                    step.note,
                    " ".join(one.because for one in differences) or None,
                    same,
                    self.world.guest.cpu,
                )
            )
        if failures:
            raise StepFailedError(path)

    def _strays(self) -> list[str]:
        """A failure for each vector that was signalled although nobody has it (any more)."""
        stray = self.world.guest.interrupts.stray
        found = [
            f"{number} interrupts on vector {vector}, which nobody has" for vector, number in stray.items()
        ]
        stray.clear()
        return found

    # --- actions

    async def _act(self, step: Step, path: str) -> Outcome:
        action = step.action
        if action == "scsi" or action in requests.BUILDERS:
            (pending,) = await self._start(step.device, [step], step.queue)
            return await self._finish(step, *pending)
        if action in _SIMPLE:
            return await _SIMPLE[action](self.world, step)
        if step.together is not None:
            await self._submit(step, step.together, f"{path}.together")
            return await self._answers(f"{len(step.together)} requests with one notification")
        if step.submit is not None:
            await self._submit(step, step.submit, f"{path}.submit")
            return Outcome(f"submit {len(step.submit)} requests", "in flight")
        if step.repeat is not None:
            return await self._repeat(step, path)
        if step.parallel is not None:
            return await self._parallel(step, path)
        if step.wait_for == "answers":
            return await self._answers("wait for all answers")
        return await control.wait_for(self.world, step)

    async def _start(
        self, device: str | None, items: Sequence[Step], queue: int | None
    ) -> list[tuple[VirtioDriver[Any], Pending[Any]]]:
        """Make requests available with one notification."""
        driver = self.world.driver(device)
        if isinstance(driver, VirtioScsi):
            commands = [scsi.build(driver, item)[0] for item in items]
            return [(driver, one) for one in await driver.submit(commands, queue=queue)]
        operations = [requests.build(item)[0] for item in items]
        return [(driver, one) for one in await driver.submit(operations, queue=queue)]

    async def _finish(self, item: Step, driver: VirtioDriver[Any], pending: Pending[Any]) -> Outcome:
        """Wait for the answer to a request."""
        if isinstance(driver, VirtioScsi):
            return scsi.answered(scsi.build(driver, item)[1], await driver.finish(pending))
        assert isinstance(driver, VirtioBlk)
        return requests.answered(item, requests.build(item)[1], await driver.finish(pending))

    async def _submit(self, step: Step, items: Sequence[Step], path: str) -> None:
        pending = await self._start(step.device, items, step.queue)
        for number, (item, (driver, one)) in enumerate(zip(items, pending, strict=True)):
            self.world.submitted.append((item, f"{path}[{number}]", driver, one))

    async def _answers(self, text: str) -> Outcome:
        """Finish what was submitted, holding each to its own expectation."""
        submitted = self.world.submitted
        self.world.submitted = []
        failed = None
        for item, path, driver, pending in submitted:
            try:
                outcome = await self._finish(item, driver, pending)
            except GuestError as error:
                outcome = Outcome(item.action.replace("_", "-"), str(error), error=error)
            try:
                self._report(item, path, outcome)
            except StepFailedError as error:
                failed = error
        if failed is not None:
            raise failed
        return Outcome(text, f"{len(submitted)} answers")

    async def _repeat(self, step: Step, path: str) -> Outcome:
        assert step.repeat is not None
        self.quiet += 1
        try:
            for _ in range(step.repeat.times):
                await self.perform(step.repeat.steps, f"{path}.repeat.steps")
        finally:
            self.quiet -= 1
        return Outcome(f"{len(step.repeat.steps)} steps, {step.repeat.times} times")

    async def _parallel(self, step: Step, path: str) -> Outcome:
        assert step.parallel is not None
        cpus: list[VCpu[None]] = [
            self.world.guest.start(self.perform(steps, f"{path}.parallel[{number}]"))
            for number, steps in enumerate(step.parallel)
        ]
        self.side_by_side += 1
        try:
            await self.world.guest.wait_until(
                lambda: all(cpu.finished for cpu in cpus),
                "the vCPUs to end",
                timeout_ns=_PARALLEL_TIMEOUT_NS,
            )
        finally:
            self.side_by_side -= 1
        for cpu in cpus:
            cpu.result()
        return Outcome(f"{len(cpus)} vCPUs side by side", "all ended")


def _known(error: Exception) -> GuestError:
    """What ended a step, as the guest or the host says it where it is theirs."""
    if isinstance(error, GuestError):
        return error
    return GuestError(str(error)) if isinstance(error, TargetError) else RaisedError(error)


_PARALLEL_TIMEOUT_NS = 600 * 1_000_000_000


def _counts(driver: VirtioDriver[Any] | None) -> tuple[int, int]:
    return (driver.device.queue_interrupts, driver.device.config_changes) if driver is not None else (0, 0)

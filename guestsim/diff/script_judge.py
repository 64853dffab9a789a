"""Says of each difference what it is, while a script runs on both sides."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from guestsim.diff.ata_interrupts import take_back
from guestsim.diff.ata_memory import AtaMemory
from guestsim.diff.ata_said import as_said, is_data
from guestsim.diff.ata_watch import AtaWatch
from guestsim.diff.both import Both, Sight
from guestsim.diff.known import known
from guestsim.diff.offered import Offered
from guestsim.diff.play import Difference
from guestsim.diff.registers import Registers
from guestsim.diff.script_device import machine_text
from guestsim.diff.script_machines import ALIKE, NAMED, THEIRS, copied, devices_like
from guestsim.diff.script_masks import ATA_OWN, OFFERED, OWN
from guestsim.diff.script_memory import MemoryMasks
from guestsim.diff.script_steps import another_course, excused, step_at, tags_of
from guestsim.drivers.ide_layouts import BusMaster, Reg
from guestsim.errors import GuestError
from guestsim.script.machine import ATA_HOSTS, ON_BUSES, place
from guestsim.script.perform import Performer, StepFailedError
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from guestsim.diff.access import Read
    from guestsim.diff.script_record import Record
    from guestsim.diff.scripts import ScriptDiff
    from guestsim.script.needs import TargetSpec
    from guestsim.script.perform import StepReport
    from guestsim.script.recording import Recording
    from guestsim.script.run import YamlScript
    from guestsim.script.schema import Script, Step
    from guestsim.script.schema_expect import Difference as Said
    from guestsim.script.world import World

_SHOWN = 16
_QCOW2 = b"QFI\xfb"
_CHUNK = 1 << 20
_ENDS = frozenset({("ide", Reg.STATUS), ("control", 0), ("master", BusMaster.STATUS)})
"""Registers that show whether a command has ended."""
_RESETS = frozenset({"ata_probe", "ata_reset", "ide_probe", "ide_reset"})


class Judge:
    """The judge of one script: it opens both machines, runs the steps, and writes what it finds into `report`."""

    def __init__(self, runnable: YamlScript, report: ScriptDiff) -> None:
        self.machine = ""
        """The device and its machine, as a file of accesses names them."""
        self._script, self._source = runnable.script, runnable.source
        self._report = report
        self._devices = tuple(device.under(report.profile) for device in devices_like(self._script))
        of_devices = [mask for device in self._devices for mask in device.hiding]
        self._hiding = [mask for mask in (*OWN, *ATA_OWN, *of_devices) if report.profile in mask.profiles]
        self._not_hiding = {mask.name for device in self._devices for mask in device.masks} - {
            mask.name for mask in self._hiding
        }
        """What ours does as QEMU's."""
        report.devices = tuple(device.name for device in self._devices)
        self._performer: Performer | None = None
        self._tags: set[str] = set()
        self._files: dict[Path, Path] = {}
        self._offered: Offered | None = None
        self._masks: MemoryMasks | None = None
        self._ata: AtaWatch | None = None
        self._ata_masks: AtaMemory | None = None
        self._command_step: Step | None = None
        """Where the last ATA command was given: its status stays."""
        self._differed = False
        self._ended_there = False
        """Whether QEMU's device was made to end a command in this step."""

    def open(
        self,
        spec: TargetSpec,  # noqa: ARG002 - it is both
        script: Script,
        drives: list[dict[str, object]],
        devices: list[dict[str, object]],
        memory: str,
        recording: Recording | None = None,  # noqa: ARG002 - there is none
    ) -> Both:
        """Both machines, with images of their own."""
        self._folder = tempfile.TemporaryDirectory(prefix="guestsim-", dir=_fast())
        folder = Path(self._folder.name)
        slots = [place(str(one["addr"]))[0] for one in devices if one.get("driver") not in ON_BUSES]
        shared = (script.machine.memory or memory) == "shared"
        devices = [{**NAMED.get(str(device.get("driver")), {}), **device} for device in devices]
        alike = [{**ALIKE.get(str(device.get("driver")), {}), **device} for device in devices]
        ours = {"blockdevs": drives, "devices": alike, "shared": shared, "clock": script.machine.clock}
        ours["profile"] = self._report.profile
        theirs = {
            "blockdevs": [copied(msgspec.to_builtins(drive), folder, self._files) for drive in drives],
            "devices": [
                msgspec.to_builtins({**THEIRS.get(str(device.get("driver")), {}), **device})
                for device in devices
            ],
        }
        try:
            self._both = Both(
                folder / "ram", slots, ours=ours, theirs=theirs, judge=self.explained, name=self._name
            )
        except BaseException:
            self._folder.cleanup()
            raise
        self._registers = Registers(self._both.ours, devices)
        self.machine = f"{self._devices[0].name} {machine_text(drives, devices)}"
        if any(device.get("driver") in ATA_HOSTS for device in devices):
            self._ata = AtaWatch(self._both.ours, devices, self._both.memories)
            self._ata_masks = AtaMemory(self._ata, self._both.memories)
            self._both.watch = self._ata
        return self._both

    def run(self, world: World, on_report: Callable[[StepReport], None]) -> None:
        """The script's steps; in the end everything is compared."""
        performer = self._performer = Performer(world, on_report)
        both = self._both
        offered = self._offered = Offered(world, both.memories)
        both.memories.watch = offered
        both.ours.waits = offered.waits
        masks = self._masks = MemoryMasks(offered, both.memories)
        both.all_used = masks.all_used
        try:
            world.guest.run(performer.perform(self._script.steps, "steps"))
            both.compare(everywhere=True)
            self._compare_disks()
        except (StepFailedError, GuestError, TargetError):
            raise
        except Exception as error:
            performer.give_up(error)
        finally:
            self._report.accesses = both.counts.pop("accesses", 0)
            self._report.compared = both.compared
            self._report.masked += both.counts
            self._folder.cleanup()

    def after(self, _: StepReport) -> None:
        """A step has ended."""
        self._report.steps += 1
        self._tags |= self._step_tags()
        if self._both.comparing and self._ata is not None and self._both.rest():
            self._end_there()
        compared = self._step().submit is None and self._both.compare()
        if compared and self._offered is not None:
            self._offered.rest()
        if self._both.comparing:
            self._both.record.end(self._step().action, self._step_tags(), compared=compared)
        if self._ata is not None:
            self._after_ata(self._ata)

    def _after_ata(self, ata: AtaWatch) -> None:
        """What the script has said of QEMU's in this step asks for an interrupt no longer."""
        if ata.issued:
            self._command_step = self._step()
        elif self._step().action in _RESETS:
            self._command_step = None
        if self._differed and self._both.comparing:
            take_back(self._both, ata.ports)
        self._differed = self._ended_there = False
        if not self._both.ours.busy:
            ata.rest()

    def _compare_disks(self) -> None:
        """What raw images hold; those of other formats may hold the same in other places."""
        if not self._both.comparing or self._both.ours.busy:
            return
        if self._report.masked["reset"] or another_course(self._script):
            self._report.masked["disk"] += 1
            return
        for mine, others in self._files.items():
            where = _first_difference(mine, others)
            if where is not None:
                at, ours, theirs = where
                self._tell(self._found("disk", mine.name, f"{ours} at {at:#x}", f"{theirs} at {at:#x}"))
                return
            self._report.disks += 1

    @property
    def _name(self) -> str:
        """The target that the script's expectations are of."""
        return "qemu" if self._report.profile == "qemu" else "devmodels"

    @property
    def record(self) -> Record:
        """What the guest has done."""
        return self._both.record

    # --- judging

    def explained(self, sight: Sight, lasts: bool) -> int | None:
        """What the guest sees of a difference that is known, masked, or said by the script.

        None of another one: where it `lasts`, it ends the comparison.
        """
        seen = sight.ours if isinstance(sight.ours, int) else 0
        read = self._register(sight) if sight.kind == "register" else None
        if lasts and read is not None:
            sight = self._ended(sight, read)
            if sight.ours == sight.theirs:
                return seen
        if read is not None and isinstance(sight.theirs, int):
            if (read.window, read.offset) in OFFERED:
                self._report.masked["features offered"] += 1
                return seen & sight.theirs
            now = self._tags_at(sight)
            for mask in self._hiding:
                if mask.hides(read, seen, sight.theirs, now):
                    self._report.masked[mask.name] += 1
                    if self._ata is not None:
                        self._ata.hid(sight.address, sight.theirs & ~seen)
                    return seen
        found, profile = self._difference(sight, read), self._report.profile
        entry = next((one for device in self._devices if (one := known(device.name, found, profile))), None)
        if entry is not None and (lasts or read is not None):
            self._report.known[entry.name] += 1
            self._differed = self._differed or sight.kind == "line"
            return seen
        if not lasts:
            return None
        if self._excused(sight) or self._masked(sight):
            return seen
        self._tell(self._difference(self._narrowed(sight), read))
        return None

    def _narrowed(self, sight: Sight) -> Sight:
        """The first memory of all that nothing explains; of the rest is recorded what is explained."""
        if sight.kind not in ("memory", "unread"):
            return sight
        memories = self._both.memories
        first = None
        for at in [*memories.blocks()]:
            for start, ours, theirs in memories.runs(at):
                is_read = sight.address <= start < sight.address + sight.size
                kind = sight.kind if is_read else "unread"
                part = Sight(kind, start, len(ours), ours, theirs)
                if self._names(part) or any(self._said(part)):
                    self.record.explained(part)
                elif first is None:
                    first = part
        return first or sight

    def _excused(self, sight: Sight) -> bool:
        """Whether the script says of this step that something else is there, in such a place."""
        said = [one.because for one in self._said(sight)]
        self._differed = self._differed or bool(said)
        self._report.said.update([" ".join(said)] if said else ())
        return bool(said)

    def _said(self, sight: Sight) -> Iterator[Said]:
        """What the script says of it; under the profile `qemu` that is what ours does, too, and explains nothing."""
        if self._report.profile == "qemu":
            return
        where = sight.kind
        read = self._register(sight) if sight.kind == "register" else None
        if sight.kind in ("memory", "unread"):
            where = self._memory_place(sight)
        elif is_data(read):
            where = "data register"
        steps = self._steps_that_say()
        seen = sight.ours if isinstance(sight.ours, int) else 0
        found = [one for step in steps for one in excused(step, where)]
        ends = [one for step in steps for one in excused(step, "end")]
        if self._ata is not None and read is not None and isinstance(sight.theirs, int):
            theirs = sight.theirs
            found = [one for one in found if as_said(read, seen, theirs, one, otherwise=one in ends)]
        elif where == "received FISes" and self._ata_masks is not None:
            of_registers = self._ata_masks.as_said
            found = [one for one in found if of_registers(sight, one, otherwise=one in ends)]
        elif where == "line" and self._ended_there:
            found = [one for step in steps for one in excused(step, "data register")]
        if where == "received FISes" and not found and self._ata_masks is not None:
            counts = self._ata_masks.is_byte_count
            said_so = (one for step in steps for one in excused(step, "byte count"))
            found = [one for one in said_so if one.length is not None and counts(sight, one.length)]
        yield from found

    def _steps_that_say(self) -> list[Step]:
        """This step, and that of the last ATA command where this one has given none."""
        steps = [self._step()]
        if self._ata is not None and not self._ata.issued and self._command_step is not None:
            steps.append(self._command_step)
        return steps

    def _ended(self, sight: Sight, read: Read) -> Sight:
        """The same when QEMU's device has ended a command by PIO that goes on there, as the script says."""
        if (read.window, read.offset) not in _ENDS or not self._end_there():
            return sight
        return replace(sight, theirs=self._both.theirs.io_read(sight.address, 1))

    def _end_there(self) -> bool:
        """QEMU's devices end what goes on there alone, as the step says; whether there was anything."""
        step = self._step()
        if self._ata is None or not any(excused(step, "data register")):
            return False
        ended = self._ata.end(self._both.theirs, step.ata.given if step.ata is not None else b"")
        self._differed = self._differed or ended
        self._ended_there = self._ended_there or ended
        return ended

    def _masked(self, sight: Sight) -> bool:
        names = self._names(sight)
        self._report.masked.update(names)
        return bool(names)

    def _names(self, sight: Sight) -> set[str]:
        """The masks that hide all of a difference in memory."""
        if sight.kind not in ("memory", "unread") or self._masks is None:
            return set()
        names = self._masks.names(sight)
        if not names and self._ata_masks is not None:
            names = self._ata_masks.names(sight)
        return set() if names & self._not_hiding else names

    def _tell(self, found: Difference) -> None:
        """This one is not explained."""
        self._report.unexplained = found
        self.record.end(found.name, found.now, compared=found.kind not in ("register", "disk"))
        at = self._where_now
        self._report.place = f"{self._source.file}:{self._source.line(at)}: {at}"

    def _difference(self, sight: Sight, read: Read | None) -> Difference:
        if isinstance(sight.ours, int) or isinstance(sight.theirs, int):
            mine, others = _hex(sight.ours), _hex(sight.theirs)
        else:
            start = next(at for at in range(sight.size) if sight.ours[at] != sight.theirs[at])
            mine, others = (
                f"{side[start : start + _SHOWN].hex(' ')} at {sight.address + start:#x}"
                for side in (sight.ours, sight.theirs)
            )
        return self._found(
            "memory" if sight.kind == "unread" else sight.kind, self._place(sight, read), mine, others
        )

    def _found(self, kind: str, where: str, mine: str, others: str) -> Difference:
        now = self._step_tags()
        tags = frozenset(self._tags | now)
        return Difference(kind, where, mine, others, self._report.steps, self._step().action, tags, now)

    def _place(self, sight: Sight, read: Read | None) -> str:
        if sight.kind == "line":
            return "interrupt"
        if sight.kind == "register":
            if read is None:
                return f"{'port' if sight.port else 'memory'}+{sight.address:#x}"
            return self._devices[0].label(read)
        where = self._memory_place(sight)
        return {"messages": "interrupt messages", "elsewhere": "memory that no device may write"}.get(
            where, where
        )

    def _memory_place(self, sight: Sight) -> str:
        """Messages, ring, buffers, what else a device may write, or elsewhere."""
        found = self._ata_masks.place(sight) if self._ata_masks is not None else None
        return found or (self._masks.place(sight) if self._masks is not None else "elsewhere")

    def _register(self, sight: Sight) -> Read | None:
        """The register that is read."""
        found = self._ata.ports.find(sight.address, sight.size, port=sight.port) if self._ata else None
        if found is not None and self._ata is not None:
            return self._ata.read_of(found)
        return self._registers.find(sight.address, sight.size, port=sight.port)

    def _tags_at(self, sight: Sight) -> frozenset[str]:
        """The step's tags, with those of ATA commands."""
        if self._ata is None:
            return self._step_tags()
        place = self._ata.ports.find(sight.address, sight.size, port=sight.port)
        return self._step_tags() | frozenset(self._ata.tags(place))

    @property
    def _where_now(self) -> str:
        return self._performer.at if self._performer is not None else "steps"

    def _step(self) -> Step:
        return step_at(self._script, self._where_now)

    def _step_tags(self) -> frozenset[str]:
        of_ata = self._ata.tags(None) if self._ata is not None else ()
        return frozenset({*tags_of(self._step()), *of_ata})


def _first_difference(mine: Path, others: Path) -> tuple[int, str, str] | None:
    """Where two raw images are not the same, and what they hold there; None where they are."""
    with mine.open("rb") as ours, others.open("rb") as theirs:
        at = 0
        while True:
            one, other = ours.read(_CHUNK), theirs.read(_CHUNK)
            if one[:4] == _QCOW2 and not at:
                return None
            if one != other:
                first = next(
                    (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
                    min(len(one), len(other)),
                )
                mine_there, there = (side[first : first + _SHOWN].hex(" ") for side in (one, other))
                return at + first, mine_there, there
            if not one:
                return None
            at += len(one)


def _hex(value: int | bytes) -> str:
    return f"{value:#x}" if isinstance(value, int) else value.hex(" ")


def _fast() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None

"""Scripts in Python: functions that are given a machine, with the same drives, devices and targets as YAML scripts.

from guestsim.script.python import PythonWorld, scripted

@scripted(
    drives=[{"driver": "file", "node-name": "d0", "size": "4M"}],
    devices=[{"driver": "virtio-blk-pci", "drive": "d0"}],
)
def writes_are_read_back(world: PythonWorld) -> None:
    disk = world.disk()
    disk.write(0, b"\\xa5" * 4096)
    assert disk.read(0, 4096) == b"\\xa5" * 4096
"""

from __future__ import annotations

import runpy
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from guestsim.disk import Disk
from guestsim.errors import GuestError
from guestsim.script.load import ScriptError, Source
from guestsim.script.outcome import status_name
from guestsim.script.perform import StepReport
from guestsim.script.run import Options, ScriptReport, run_on
from guestsim.script.schema import TARGETS, Script
from guestsim.script.values import decode_hook
from guestsim.script.world import World
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from guestsim.drivers.virtio_blk import Answer, Operation
    from guestsim.script.schema import TargetName

SUFFIX = ".guest.py"


class PythonWorld:
    """The machine of a Python script; what its disks are asked and answer is reported."""

    def __init__(self, world: World, on_step: Callable[[StepReport], None], function: str, file: str) -> None:
        self.world = world
        self._on_step = on_step
        self._function = function
        self._file = file

    def disk(self, device: str | None = None, *, probe: bool = True) -> Disk:
        """A disk by its device's id (the only one where None), probed unless the script wants to do that itself."""
        driver = self.world.blk(device)
        driver.on_answer = self._answered
        if probe:
            self.world.guest.run(driver.probe())
        return Disk(self.world.guest, driver)

    def violations(self) -> list[tuple[str, str]]:
        """(clause, what happened) of what the devices have reported since the last call.

        What a script doesn't take by this call is a failure at its end.
        """
        return self.world.new_violations() or []

    def say(self, text: str) -> None:
        """Put a line into the report."""
        self._on_step(StepReport(self._function, self._line(), text, ""))

    def _answered(self, operation: Operation, answer: Answer) -> None:
        said = f"{status_name(answer.status)}, used length {answer.used_length}"
        self._on_step(StepReport(self._function, self._line(), str(operation), said))

    def _line(self) -> int:
        """Where the script is just now."""
        frames = traceback.extract_stack()
        return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == self._file), 1)


@dataclass(frozen=True, slots=True)
class PythonScript:
    """One function of a file, with its machine."""

    script: Script
    source: Source
    function: Callable[[PythonWorld], None]

    def run(self, options: Options) -> ScriptReport:
        """Run it; what it raises is a failure at the line of the script where it came from."""
        name, file = self.function.__name__, self.source.file

        def body(world: World, on_report: Callable[[StepReport], None]) -> None:
            try:
                self.function(PythonWorld(world, on_report, name, file))
                left = tuple(
                    f"violation of {clause}: {what}" for clause, what in world.new_violations() or ()
                )
                if left:
                    on_report(StepReport(name, self.source.line(""), "the script ends", "", left))
            except TargetError:
                raise
            except (Exception, SystemExit) as error:
                on_report(
                    StepReport(name, _line_of(error, file), "the script ends", "", (_describe(error, file),))
                )

        return run_on(self.script, self.source, options, body)


def scripted(
    *,
    name: str | None = None,
    machine: Mapping[str, object] | None = None,
    drives: Sequence[Mapping[str, object]] = (),
    devices: Sequence[Mapping[str, object]] = (),
    targets: Sequence[TargetName] = TARGETS,
) -> Callable[[Callable[[PythonWorld], None]], PythonScript]:
    """Make a function a script; the options are those of a YAML script, whose name is the function's by default.

    Raises `ScriptError` where they are wrong.
    """

    def decorate(function: Callable[[PythonWorld], None]) -> PythonScript:
        if isinstance(targets, str):
            expected = f"a list of {', '.join(TARGETS)}"
            code = function.__code__
            raise ScriptError(
                code.co_filename,
                code.co_firstlineno,
                function.__name__,
                f"targets {targets!r}, expected {expected}",
            )
        file, line = function.__code__.co_filename, function.__code__.co_firstlineno
        given = {
            "name": name or function.__name__.replace("_", " "),
            "machine": dict(machine or {}),
            "drives": [dict(drive) for drive in drives],
            "devices": [dict(device) for device in devices],
            "targets": list(targets),
            "steps": [],
        }
        try:
            script = msgspec.convert(given, Script, dec_hook=decode_hook)
        except msgspec.ValidationError as error:
            raise ScriptError(file, line, function.__name__, str(error)) from None
        return PythonScript(script, Source(file, line=line), function)

    return decorate


def load(path: Path) -> list[PythonScript]:
    """The scripts of a Python file, in order; ScriptError where it can't be run or holds none."""
    file = str(path)
    try:
        module = runpy.run_path(file)
    except ScriptError:
        raise
    except SyntaxError as error:
        raise ScriptError(file, error.lineno or 1, "", f"not Python: {error.msg}") from error
    except OSError as error:
        raise ScriptError(file, 1, "", f"cannot be read: {error.strerror or error}") from error
    except (Exception, SystemExit) as error:
        raise ScriptError(file, _line_of(error, file), "", _describe(error, file)) from error
    scripts = [value for value in module.values() if isinstance(value, PythonScript)]
    if not scripts:
        raise ScriptError(file, 1, "", "expected a function decorated with @scripted")
    return scripts


def _frame(error: BaseException, file: str) -> traceback.FrameSummary | None:
    """The innermost frame of `file` that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame for frame in reversed(frames) if frame.filename == file), None)


def _line_of(error: BaseException, file: str) -> int:
    frame = _frame(error, file)
    return (frame.lineno or 1) if frame is not None else 1


def _describe(error: BaseException, file: str) -> str:
    """An exception in one line; an assertion without a text is told by its source."""
    text = " ".join(str(error).split())
    if isinstance(error, GuestError):
        return text
    frame = _frame(error, file)
    if isinstance(error, AssertionError) and not text and frame is not None:
        return f"does not hold: {frame.line}"
    return f"{type(error).__name__}: {text}"

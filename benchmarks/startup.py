"""How long a fresh machine with a disk takes to start, beside QEMU's way to its first reply on a qtest socket."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import fresh_machine

REPOSITORY = Path(__file__).resolve().parent.parent
QEMU = "qemu-system-x86_64"
QEMU_PROBE = f"{QEMU} (TCG, q35): exec to its first qtest reply"
TIMEOUT = 20.0
IN_A_ROW = 10
DISK_SIZE = 64 << 20
FIRMWARE_SIZE = 65536
RESET_VECTOR = 0xFFF0


class StartupError(Exception):
    """A start-up could not be measured; one line."""


def halting_firmware() -> bytes:
    """Stops the CPU at the reset vector (cli; hlt; jmp back), so that no guest code is timed."""
    image = bytearray(b"\xf4" * FIRMWARE_SIZE)
    image[RESET_VECTOR : RESET_VECTOR + 4] = b"\xfa\xf4\xeb\xfd"
    return bytes(image)


def qemu_once() -> float:
    """Seconds from the exec of QEMU (TCG, q35, virtio-blk on null-co) to its first reply on the qtest socket.

    Raises `StartupError` where there is no QEMU, or it does not reply.
    """
    if shutil.which(QEMU) is None:
        raise StartupError(f"{QEMU} is not on the PATH")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        firmware = Path(folder) / "bios.bin"
        firmware.write_bytes(halting_firmware())
        path = Path(folder) / "qtest"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(TIMEOUT)
            listener.bind(str(path))
            listener.listen(1)
            return _time_first_reply(_qemu_command(firmware, path), listener)


def _qemu_command(firmware: Path, qtest: Path) -> list[str]:
    node = {"driver": "null-co", "node-name": "d0", "size": DISK_SIZE}
    disk = ["-blockdev", json.dumps(node), "-device", "virtio-blk-pci,drive=d0"]
    control = ["-qtest", f"unix:{qtest}", "-qtest-log", "/dev/null"]
    return [QEMU, "-machine", "q35,accel=tcg", "-bios", str(firmware), "-display", "none", *control, *disk]


def _time_first_reply(command: list[str], listener: socket.socket) -> float:
    with tempfile.TemporaryFile("w+") as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        try:
            with accept(process, listener, start + TIMEOUT) as connection:
                connection.settimeout(TIMEOUT)
                connection.sendall(b"endianness\n")
                reply = connection.recv(4096)
                took = time.perf_counter() - start
        except OSError as error:
            log.seek(0)
            said = log.read().strip().rpartition("\n")[2]
            raise StartupError(f"{QEMU} did not answer on its qtest socket: {said or error}") from error
        finally:
            process.kill()
            process.wait()
    if not reply.startswith(b"OK"):
        raise StartupError(f"{QEMU} answered {reply!r} to its first qtest command; OK was expected")
    return took


def accept(process: subprocess.Popen[bytes], listener: socket.socket, deadline: float) -> socket.socket:
    """The connection that `process` makes; raises `OSError` if it ends instead, or the deadline passes."""
    listener.settimeout(0.1)
    while process.poll() is None and time.perf_counter() < deadline:
        with contextlib.suppress(TimeoutError):
            return listener.accept()[0]
    raise ConnectionError("it made no connection")


def in_process_once() -> float:
    """Seconds for one of `IN_A_ROW` machines that a process makes one after the other, as a suite of tests does."""
    return statistics.mean(fresh_machine.first_request() for _ in range(IN_A_ROW))


def new_process_once() -> float:
    """Seconds from the exec of a new Python to its machine's first completed request."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fresh_machine"], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - start
    if line != b"done\n":
        raise StartupError(f"benchmarks.fresh_machine ended with status {process.returncode}")
    return took


@dataclass(frozen=True, slots=True)
class Probe:
    """One way to start; `once` measures it in seconds, raising `StartupError` where it cannot be done here."""

    name: str
    once: Callable[[], float]


@dataclass(slots=True)
class Starts:
    """What was measured: seconds of each probe in rounds, and why some are absent."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def peer(self) -> float | None:
        """The median of QEMU's start in seconds, if it was measured."""
        seconds = self.seconds.get(QEMU_PROBE)
        return statistics.median(seconds) if seconds else None


def probes() -> list[Probe]:
    """What is compared; the last is the peer."""
    return [
        Probe("devmodels: fresh machine to its first completed request, in process", in_process_once),
        Probe("devmodels: the same, from the exec of a new process", new_process_once),
        Probe(QEMU_PROBE, qemu_once),
    ]


def measure(probes: Sequence[Probe], rounds: int, step: Callable[[str], None]) -> Starts:
    """Runs all probes in turn, round by round, after one run of each that is not counted (cold files)."""
    starts = Starts()
    for probe in probes:
        try:
            probe.once()
        except StartupError as error:
            starts.absent[probe.name] = str(error)
    for _ in range(rounds):
        for probe in probes:
            step(f"start: {probe.name}")
            if probe.name not in starts.absent:
                starts.seconds.setdefault(probe.name, []).append(probe.once())
    return starts

"""A QEMU with a stock kernel and a vhost-user disk: started, awaited, ended; its results told.

The guest writes its results to a second serial port, so that kernel messages never fall into a line. What it
reported before it hung or died is kept; what it did not report fails with the console's last lines, the back
end's and QEMU's own words.

Documents: QEMU `docs/interop/vhost-user.rst` (guest memory must be shareable), Xen `docs/misc/pvh.pandoc` (the
entry that a vmlinux is booted through), Linux `Documentation/admin-guide/kernel-parameters.txt`.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from guestsim.targets import TargetError
from guestsim.targets.qmp import QmpClient

from .backends import Backend
from .host import alone, cache_folder, tool, write_whole
from .initramfs import SCRIPTS, base_archive, run_archive
from .kernel import Kernel, get_kernel
from .newer_qemu import newer_qemu

MEMORY = "512M"
COMMAND_LINE = "console=ttyS0 quiet panic=-1 oops=panic printk.time=1"
KVM_PROBE_SECONDS = 8  # where it works, a boot takes a second or two
SHOWN_LINES = 60
FIRST_SLOT = 4  # of functions on the PCI bus
MOVE_BANDWIDTH = (
    64 << 20
)  # bytes a second: a live move lasts long enough for the guest to read much meanwhile
LOOK_SECONDS = 0.01  # between two looks at what another process has written


class GuestFailure(AssertionError):
    """The guest did not do what it was to do; the text holds the console and the processes' own words."""


@dataclass(frozen=True, slots=True)
class Result:
    """One item as the guest reported it; `seconds` by the guest's clock, `commands` what it ran, as far as it said."""

    item: str
    ok: bool
    seconds: float
    detail: str
    commands: tuple[str, ...] = ()


@dataclass(slots=True)
class GuestRun:
    """A finished run: the items in the order reported, and the console.

    `failure` is None where the guest came to its end, else what went wrong and all that was printed.
    """

    results: dict[str, Result] = field(default_factory=dict)
    console: str = ""
    failure: str | None = None

    def check(self, item: str) -> Result:
        """The item's result; raises `GuestFailure` where it failed or was never reported."""
        result = self.results.get(item)
        if result is None:
            raise GuestFailure(f"no result for {item}: {self.failure or 'the script has no such item'}")
        if not result.ok:
            raise GuestFailure(f"{item}: {result.detail}{_shown('console', self.console)}")
        return result


def parse_results(text: str) -> dict[str, Result]:
    """What the guest wrote to its result port, by item; lines that are no results are left out.

    `RESULT <item> ok|FAIL <seconds> <detail>`, perhaps after `RAN <item> <command><tab>…`. An item reported twice
    must be ok twice.
    """
    results: dict[str, Result] = {}
    commands: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        if ran := re.fullmatch(r"RAN (\S+) (.*)", line):
            commands[ran[1]] = tuple(command for command in ran[2].split("\t") if command)
            continue
        found = re.fullmatch(r"RESULT (\S+) (ok|FAIL) ([0-9]+\.[0-9]+) ?(.*)", line)
        if found is None:
            continue
        item, ok, seconds, detail = found.groups()
        result = Result(item, ok == "ok", float(seconds), detail.strip(), commands.get(item, ()))
        before = results.get(result.item)
        if before is None or before.ok:
            results[result.item] = result
    return results


@dataclass(slots=True)
class Guest:
    """A guest that runs: what it has reported so far, a line to its script, and its way to another QEMU.

    `folders` are those of the QEMUs it has lived in; `backend` is that of the last.
    """

    qemu: subprocess.Popen[bytes]
    folders: list[Path]
    backend: Backend | None
    deadline: float
    start: Callable[[Backend, Path], subprocess.Popen[bytes]]
    """Starts another QEMU that waits for the guest, with this back end and folder."""

    def texts(self, name: str) -> str:
        """What all its QEMUs wrote to a file."""
        return "".join(_text(folder / name) for folder in self.folders)

    def reported(self, item: str) -> Result | None:
        """The item's result, if it has been reported."""
        return parse_results(self.texts("results")).get(item)

    def await_item(self, item: str) -> Result:
        """Wait until the guest reports the item; raises `GuestFailure` where it ends or the time is up before that."""
        while (found := self.reported(item)) is None:
            self.check_alive(f"{item} was not reported")
            time.sleep(LOOK_SECONDS)
        return found

    def check_alive(self, otherwise: str) -> None:
        """`GuestFailure` where QEMU has ended or the time is up."""
        if self.qemu.poll() is not None or time.monotonic() > self.deadline:
            raise GuestFailure(otherwise + _shown("console", self.texts("console")))

    def tell(self, line: str) -> None:
        """Send a line to the guest's third serial port, where its script is reading."""
        with socket.socket(socket.AF_UNIX) as port:
            port.connect(str(self.folders[-1] / "control"))
            port.sendall(line.encode() + b"\n")

    @contextmanager
    def qmp(self) -> Iterator[QmpClient]:
        """A session with its QEMU."""
        path = self.folders[-1] / "qmp"
        with socket.socket(socket.AF_UNIX) as connection:
            while connection.connect_ex(str(path)):
                self.check_alive("QEMU does not open its monitor")
                time.sleep(LOOK_SECONDS)
            client = QmpClient(connection.dup(), lambda: "QEMU has gone")
            try:
                yield client
            finally:
                client.close()

    def await_stop(self, monitor: QmpClient) -> str:
        """Wait until the machine stands still; returns QEMU's word for why (`io-error`)."""
        while (state := _json(monitor.execute("query-status")))["running"]:
            self.check_alive("it was not stopped")
            time.sleep(LOOK_SECONDS)
        return str(state["status"])

    def move(self, backend: Backend, *, live: bool) -> dict[str, int]:
        """Migrate it to another QEMU on another back end; returns what `query-migrate` says of it at the end.

        It runs meanwhile where that is `live`, else it stands still.
        """
        with self.qmp() as source:
            folder = Path(tempfile.mkdtemp(dir=self.folders[0]))
            before = self.qemu
            self.qemu = self.start(backend, folder)
            self.folders.append(folder)
            self.backend = backend
            with self.qmp():
                pass  # it is there, and listens
            if not live:
                source.execute("stop")
            source.execute("migrate-set-parameters", {"max-bandwidth": MOVE_BANDWIDTH})
            source.execute("migrate", {"uri": f"unix:{folder / 'incoming'}"})
            while (state := _json(source.execute("query-migrate")))["status"] not in ("completed", "failed"):
                self.check_alive(f"migration is {state['status']}")
                time.sleep(LOOK_SECONDS)
            if state["status"] == "failed":
                raise GuestFailure(f"migration failed: {state}")
            before.kill()
        # The source is done before the target has loaded everything: what it was told meanwhile would be overwritten.
        with self.qmp() as target:
            while _json(target.execute("query-status"))["status"] != ("running" if live else "paused"):
                self.check_alive("the guest does not go on after its migration")
                time.sleep(LOOK_SECONDS)
            if not live:
                target.execute("cont")
        return {key: value for key, value in state.items() if isinstance(value, int)}


def _json(answer: object) -> dict[str, Any]:
    assert isinstance(answer, dict)
    return answer


Attend = Callable[[Guest], None]


def run_guest(
    script: str,
    backend: Backend | None,
    *,
    files: dict[str, bytes] | None = None,
    cpus: int = 1,
    queues: int = 1,
    timeout: float = 120.0,
    accelerator: str | None = None,
    disk: str = "",
    arguments: Sequence[str] = (),
    attend: Attend | None = None,
    shared: bool = True,
    reboots: bool = False,
) -> GuestRun:
    """Boot, run `scripts/<script>`, power off.

    `files` appear in the guest's root; `timeout` is wall time in seconds; `disk` are further options of the disk's
    device, `arguments` further ones of QEMU's; `attend` is called with the running guest, and may do to it and its back
    end what it likes.  `shared` False keeps memory in QEMU alone; `reboots` lets the guest boot again.  Raises
    `Unavailable` where something to boot with is missing.
    """
    kernel = get_kernel()
    with tempfile.TemporaryDirectory(prefix="devmodels-guest-") as name, ExitStack() as processes:
        folder = Path(name)
        initrd = folder / "initrd"
        initrd.write_bytes(base_archive(kernel).read_bytes() + run_archive(SCRIPTS / script, files or {}))
        with_accelerator = accelerator or best_accelerator(kernel)

        def start(backend: Backend | None, folder: Path, *more: str) -> subprocess.Popen[bytes]:
            newer = backend is not None and backend.kind == "vfio"
            program = newer_qemu() if newer else (str(tool("qemu-system-x86_64", "qemu-system-x86")),)
            command = [*program, *_command(kernel, with_accelerator, initrd, folder, cpus)]
            command += _MEMORY if shared else ["-machine", "q35"]
            if not reboots:
                command.append("-no-reboot")
            if backend is not None:
                command += _device(backend, queues, disk)
            command += arguments
            output = processes.enter_context((folder / "qemu").open("wb"))
            return processes.enter_context(_process([*command, *more], output.fileno()))

        guest = Guest(
            start(backend, folder),
            [folder],
            backend,
            time.monotonic() + timeout,
            lambda backend, folder: start(backend, folder, "-incoming", f"unix:{folder / 'incoming'}"),
        )
        wrong = None
        if attend is not None:
            try:
                attend(guest)
            except (GuestFailure, TargetError) as failure:
                wrong = str(failure)
        if wrong is None:
            wrong = _await_end(guest, timeout)
        if wrong is not None:
            guest.qemu.kill()
        run = GuestRun(parse_results(guest.texts("results")), guest.texts("console"))
        if wrong is None and (guest.qemu.returncode or "end" not in run.results):
            wrong = f"QEMU ended with status {guest.qemu.returncode} before the guest's script did"
        if wrong is not None:
            run.failure = wrong + _shown("console", run.console) + _shown("QEMU", guest.texts("qemu"))
            run.failure += _shown("back end", guest.backend.words()) if guest.backend is not None else ""
    return run


@cache
def best_accelerator(kernel: Kernel) -> str:
    """`kvm` where a guest was seen to boot on it, else `tcg`; the probe's outcome is kept until the host restarts."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = cache_folder() / f"kvm-{kernel.key}-{boot}"
    with alone(known.name):
        if not known.exists():
            try:
                run_guest("probe.sh", None, timeout=KVM_PROBE_SECONDS, accelerator="kvm").check("probe")
            except GuestFailure:
                write_whole(known, b"tcg")
            else:
                write_whole(known, b"kvm")
    return known.read_text()


def _command(kernel: Kernel, accelerator: str, initrd: Path, folder: Path, cpus: int) -> list[str]:
    """QEMU's options without memory and disk; the console and the results go to files in `folder`."""
    return [
        *("-nodefaults", "-nographic", "-accel", accelerator, "-smp", str(cpus), "-m", MEMORY),
        *("-kernel", str(kernel.image), "-initrd", str(initrd), "-append", COMMAND_LINE),
        *("-serial", f"file:{folder / 'console'}", "-serial", f"file:{folder / 'results'}"),
        *("-chardev", f"socket,id=control,path={folder / 'control'},server=on,wait=off"),
        *("-serial", "chardev:control", "-qmp", f"unix:{folder / 'qmp'},server=on,wait=off"),
    ]


_MEMORY = [
    *("-object", f"memory-backend-memfd,id=mem,size={MEMORY},share=on"),
    *("-machine", "q35,memory-backend=mem"),
]
"""Memory that other processes can have."""


def _device(backend: Backend, queues: int, options: str) -> list[str]:
    """A disk that finds its back end again, where that is started anew, or a SCSI host, which would not."""
    more = f",{options}" if options else ""
    if backend.kind == "vfio":
        functions: list[str] = []
        for slot, path in enumerate((backend.socket, *backend.others), FIRST_SLOT):
            socket = {"type": "unix", "path": str(path)}
            function = {"driver": "vfio-user-pci", "addr": f"{slot:x}", "socket": socket}
            functions += ["-device", json.dumps(function)]
        return functions
    if backend.kind == "scsi":
        return [
            *("-chardev", f"socket,id=disk,path={backend.socket}"),
            *("-device", f"vhost-user-scsi-pci,chardev=disk,num_queues={queues}{more}"),
        ]
    return [
        *("-chardev", f"socket,id=disk,path={backend.socket},reconnect=1"),
        *("-device", f"vhost-user-blk-pci,chardev=disk,num-queues={queues}{more}"),
    ]


@contextmanager
def _process(command: list[str], errors: int) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is dead and reaped afterwards, whatever happened."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors) as process:
        try:
            yield process
        finally:
            process.kill()


def _await_end(guest: Guest, timeout: float) -> str | None:
    """Wait for QEMU's end; says what went wrong where the time was up or the back end went first."""
    qemu = guest.qemu
    processes = [qemu] if guest.backend is None else [qemu, guest.backend.process]
    watched = [os.pidfd_open(process.pid) for process in processes]
    try:
        poller = select.poll()
        for descriptor in watched:
            poller.register(descriptor, select.POLLIN)
        ready = [
            descriptor for descriptor, _ in poller.poll(max(guest.deadline - time.monotonic(), 0) * 1000)
        ]
        if watched[0] in ready:
            qemu.wait()
            return None
        return "the back end ended during the run" if ready else f"the guest was not done in {timeout:g} s"
    finally:
        for descriptor in watched:
            os.close(descriptor)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _shown(title: str, text: str) -> str:
    """The end of a log, under a title; nothing where there is none."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    return f"\n--- {title} (last lines)\n" + "\n".join(lines[-SHOWN_LINES:])

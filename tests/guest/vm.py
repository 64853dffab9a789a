"""A QEMU with a stock kernel and a vhost-user-blk disk: started, awaited, ended; its results told.

The guest writes its results to a second serial port, so that kernel messages never fall into a line. What it
reported before it hung or died is kept; what it did not report fails with the console's last lines, the back
end's and QEMU's own words.

Documents: QEMU `docs/interop/vhost-user.rst` (guest memory must be shareable), Xen `docs/misc/pvh.pandoc` (the
entry that a vmlinux is booted through), Linux `Documentation/admin-guide/kernel-parameters.txt`.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .backends import Backend
from .host import cache_folder, tool, write_whole
from .initramfs import SCRIPTS, base_archive, run_archive
from .kernel import Kernel, get_kernel

MEMORY = "512M"
COMMAND_LINE = "console=ttyS0 quiet panic=-1 printk.time=1"
KVM_PROBE_SECONDS = 8  # where it works, a boot takes a second or two
SHOWN_LINES = 60
LOOK_SECONDS = 0.01  # between two looks at what another process has written


class GuestFailure(AssertionError):
    """The guest did not do what it was to do; the text holds the console and the processes' own words."""


@dataclass(frozen=True, slots=True)
class Result:
    """One item as the guest reported it; `seconds` by the guest's clock."""

    item: str
    ok: bool
    seconds: float
    detail: str


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

    `RESULT <item> ok|FAIL <seconds> <detail>`. An item reported twice must be ok twice.
    """
    results: dict[str, Result] = {}
    for line in text.splitlines():
        found = re.fullmatch(r"RESULT (\S+) (ok|FAIL) ([0-9]+\.[0-9]+) ?(.*)", line)
        if found is None:
            continue
        result = Result(found[1], found[2] == "ok", float(found[3]), found[4].strip())
        before = results.get(result.item)
        if before is None or before.ok:
            results[result.item] = result
    return results


@dataclass(slots=True)
class Guest:
    """A guest that runs: what it has reported so far, and a line to its script."""

    qemu: subprocess.Popen[bytes]
    folder: Path
    deadline: float

    def reported(self, item: str) -> Result | None:
        """The item's result, if it has been reported."""
        return parse_results(_text(self.folder / "results")).get(item)

    def await_item(self, item: str) -> Result:
        """Wait until the guest reports the item; raises `GuestFailure` where it ends or the time is up before that."""
        while (found := self.reported(item)) is None:
            if self.qemu.poll() is not None or time.monotonic() > self.deadline:
                console = _shown("console", _text(self.folder / "console"))
                raise GuestFailure(f"{item} was not reported{console}")
            time.sleep(LOOK_SECONDS)
        return found

    def tell(self, line: str) -> None:
        """Send a line to the guest's third serial port, where its script is reading."""
        with socket.socket(socket.AF_UNIX) as port:
            port.connect(str(self.folder / "control"))
            port.sendall(line.encode() + b"\n")


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
    attend: Attend | None = None,
) -> GuestRun:
    """Boot, run `scripts/<script>`, power off.

    `files` appear in the guest's root; `timeout` is wall time in seconds; `disk` are further options of the disk's
    device; `attend` is called with the running guest, and may do to its back end what it likes.  Raises `Unavailable`
    where something to boot with is missing.
    """
    kernel = get_kernel()
    with tempfile.TemporaryDirectory(prefix="devmodels-guest-") as name:
        folder = Path(name)
        initrd = folder / "initrd"
        initrd.write_bytes(base_archive(kernel).read_bytes() + run_archive(SCRIPTS / script, files or {}))
        command = _command(kernel, accelerator or best_accelerator(kernel), initrd, folder, cpus)
        if backend is not None:
            command += _disk(backend.socket, queues, disk)
        words = folder / "qemu"
        with words.open("wb") as output, _process(command, output.fileno()) as qemu:
            deadline = time.monotonic() + timeout
            wrong = None
            if attend is not None:
                try:
                    attend(Guest(qemu, folder, deadline))
                except GuestFailure as failure:
                    wrong = str(failure)
            if wrong is None:
                wrong = _await_end(qemu, backend, deadline - time.monotonic(), timeout)
        run = GuestRun(parse_results(_text(folder / "results")), _text(folder / "console"))
        if wrong is None and (qemu.returncode or "end" not in run.results):
            wrong = f"QEMU ended with status {qemu.returncode} before the guest's script did"
        if wrong is not None:
            run.failure = wrong + _shown("console", run.console) + _shown("QEMU", _text(words))
            run.failure += _shown("back end", backend.words()) if backend is not None else ""
    return run


@cache
def best_accelerator(kernel: Kernel) -> str:
    """`kvm` where a guest was seen to boot on it, else `tcg`; the probe's outcome is kept until the host restarts."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = cache_folder() / f"kvm-{kernel.key}-{boot}"
    if not known.exists():
        try:
            run_guest("probe.sh", None, timeout=KVM_PROBE_SECONDS, accelerator="kvm").check("probe")
        except GuestFailure:
            write_whole(known, b"tcg")
        else:
            write_whole(known, b"kvm")
    return known.read_text()


def _command(kernel: Kernel, accelerator: str, initrd: Path, folder: Path, cpus: int) -> list[str]:
    """QEMU's command line without the disk; the console and the results go to files in `folder`."""
    return [
        str(tool("qemu-system-x86_64", "qemu-system-x86")),
        *("-nodefaults", "-nographic", "-no-reboot", "-accel", accelerator, "-smp", str(cpus), "-m", MEMORY),
        *("-object", f"memory-backend-memfd,id=mem,size={MEMORY},share=on"),
        *("-machine", "q35,memory-backend=mem"),
        *("-kernel", str(kernel.image), "-initrd", str(initrd), "-append", COMMAND_LINE),
        *("-serial", f"file:{folder / 'console'}", "-serial", f"file:{folder / 'results'}"),
        *("-chardev", f"socket,id=control,path={folder / 'control'},server=on,wait=off"),
        *("-serial", "chardev:control"),
    ]


def _disk(path: Path, queues: int, options: str) -> list[str]:
    """A disk that finds its back end again, where that is started anew."""
    more = f",{options}" if options else ""
    return [
        *("-chardev", f"socket,id=disk,path={path},reconnect=1"),
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


def _await_end(
    qemu: subprocess.Popen[bytes], backend: Backend | None, left: float, timeout: float
) -> str | None:
    """Wait for QEMU's end for the seconds `left` of the `timeout`.

    Says what went wrong where the time was up or the back end went first.
    """
    processes = [qemu] if backend is None else [qemu, backend.process]
    watched = [os.pidfd_open(process.pid) for process in processes]
    try:
        poller = select.poll()
        for descriptor in watched:
            poller.register(descriptor, select.POLLIN)
        ready = [descriptor for descriptor, _ in poller.poll(max(left, 0) * 1000)]
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

"""What this machine gives to the guest tests: tools, and a cache whose entries appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND_SECONDS = 300  # a kernel package's download is the slowest


class Unavailable(Exception):
    """Something the guest needs is not on this machine; the text says what, and how to get it."""


def cache_folder() -> Path:
    """The folder for what is slow to make: `DEVMODELS_CACHE`, else `~/.cache/devmodels`; made if missing."""
    chosen = os.environ.get("DEVMODELS_CACHE")
    folder = Path(chosen) if chosen else Path.home() / ".cache" / "devmodels"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tool(name: str, package: str) -> Path:
    """The program's path, the system folders included; raises `Unavailable` naming its Debian package."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise Unavailable(f"{name} is missing: apt-get install {package}")
    return Path(found)


def output_of(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints; raises `Unavailable` with its last line of complaint when it fails."""
    run = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if run.returncode:
        complaint = (run.stderr.strip() or run.stdout.strip() or "no message").splitlines()[-1]
        raise Unavailable(f"{Path(command[0]).name} {command[1]} failed: {complaint}")
    return run.stdout


@contextmanager
def alone(what: str) -> Iterator[None]:
    """One process at a time is in here for `what`; those that waited look whether it has been made meanwhile."""
    with (cache_folder() / f".{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """A scratch folder that is renamed to `folder` when all went well; a rival that was faster wins."""
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield scratch
        scratch.chmod(0o755)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(scratch).rename(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise

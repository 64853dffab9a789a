"""A QEMU that is a vfio-user client (10.1 or later): the installed one, or Debian's backport, which is not installed.

Its packages, with all that they need, are downloaded by apt with folders of its own, from the mirror that this machine
has Debian from, judged by apt's signed lists, and unpacked below the cache folder in one that appears whole or not at
all.  The program is started by the loader and with the libraries that came with it, and with its own firmware.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from .host import Unavailable, alone, appearing_whole, cache_folder, output_of, tool

SUITE = "trixie"
BACKPORTS = f"{SUITE}-backports"
PACKAGE = "qemu-system-x86"
PROGRAM = "qemu-system-x86_64"
DRIVER = "vfio-user-pci"
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_UNUSED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/icons",
    "usr/share/bug",
    "etc",
    "var",
)


@cache
def newer_qemu() -> tuple[str, ...]:
    """The beginning of its command line; raises `Unavailable`."""
    installed = shutil.which(PROGRAM)
    if installed is not None and _is_client(installed):
        return (installed,)
    with alone("newer-qemu"):
        folder = next(iter(sorted(cache_folder().glob("newer-qemu_*"))), None) or _fetch()
    libraries = folder / "usr" / "lib" / "x86_64-linux-gnu"
    share = folder / "usr" / "share"
    command = (
        # Modules of an installed one would not fit.
        *(str(tool("env", "coreutils")), f"QEMU_MODULE_DIR={libraries / 'qemu'}"),
        *(str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)),
        *(str(folder / "usr" / "bin" / PROGRAM), "-L", str(share / "qemu"), "-L", str(share / "seabios")),
    )
    if not _is_client(*command):
        raise Unavailable(f"{folder.name} in the cache folder is no QEMU with {DRIVER}: remove it")
    return command


def _is_client(*command: str) -> bool:
    run = subprocess.run((*command, "-device", f"{DRIVER},help"), capture_output=True, check=False)
    return b"socket=" in run.stdout


def _fetch() -> Path:
    """Download and unpack; the folder."""
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".newer-qemu.apt.") as name:
        private = Path(name)
        options = _private_apt(private)
        apt_get = str(tool("apt-get", "apt"))
        output_of(apt_get, "update", "-q", *options)
        folder = cache_folder() / f"newer-qemu_{_version(options)}".replace(":", "%3a")
        install = ("install", "-q", "-y", "-d", "--no-install-recommends", "-t", BACKPORTS, PACKAGE)
        output_of(apt_get, *install, *options)
        with appearing_whole(folder) as scratch:
            for archive in (private / "archives").glob("*.deb"):
                output_of(tool("dpkg-deb", "dpkg"), "-x", archive, scratch)
            for unused in _UNUSED:
                shutil.rmtree(scratch / unused, ignore_errors=True)
    return folder


def _private_apt(folder: Path) -> list[str]:
    """Options for apt that has nothing installed, and whose lists and archives are in `folder`."""
    signed = f" [signed-by={KEYS}]" if KEYS.exists() else ""
    sources = folder / "sources.list"
    sources.write_text("".join(f"deb{signed} {_mirror()} {suite} main\n" for suite in (SUITE, BACKPORTS)))
    (folder / "status").touch()
    for name in ("lists", "archives"):
        (folder / name / "partial").mkdir(parents=True)
    chosen = {
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives",
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Update::Error-Mode": "any",
    }
    return [part for name, value in chosen.items() for part in ("-o", f"{name}={value}")]


def _mirror() -> str:
    """Where this machine has Debian from."""
    form = "$(REPO_URI) $(CODENAME) $(ORIGIN)"
    for line in output_of(tool("apt-get", "apt"), "indextargets", "--format", form).splitlines():
        uri, _, rest = line.partition(" ")
        codename, _, origin = rest.partition(" ")
        if origin == "Debian" and "-" not in codename:
            return uri
    raise Unavailable("apt knows no mirror of Debian: apt-get update")


def _version(options: list[str]) -> str:
    shown = output_of(tool("apt-cache", "apt"), "madison", PACKAGE, *options)
    found = re.search(rf"\| *(\S+) *\| \S+ {re.escape(BACKPORTS)}/", shown)
    if found is None:
        raise Unavailable(f"there is no {PACKAGE} in {BACKPORTS}")
    return found[1]

"""A stock Linux logs in to our iSCSI export by its own initiator, over a network, and keeps a file system there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.exports.iscsi.served import TARGET, serving

from .conftest import Check, needed
from .host import tool
from .initramfs import MODULES as USUAL_MODULES
from .initramfs import libraries
from .kernel import close_modules, get_kernel
from .vm import GuestRun, run_guest

pytestmark = pytest.mark.guest

INITIATOR = "iqn.2026-11.org.example:guest"
SECRET, OTHER = "twelve-bytes-and-more", "another-secret-of-its-own"
MODULES = ["virtio_net", "iscsi_tcp"]
HOST = "10.0.2.2"
"""The host, as the user network shows it."""

ITEMS = [
    *(
        "network",
        "iscsi-login",
        "iscsi-agreed",
        "iscsi-disk",
        "mkfs.ext4",
        "mount",
        "files-written",
        "unmount",
    ),
    *("fsck", "files-read-back", "files-deleted-fstrim", "fsck-again"),
]


def own_files(login: list[str], digests: str) -> dict[str, bytes]:
    """What this guest has beside what all have."""
    program = tool("iscsistart", "open-iscsi")
    modules, usual = (close_modules(get_kernel().modules, names) for names in (MODULES, USUAL_MODULES))
    modules = [path for path in modules if path not in usual]
    found = {f"network-modules/{path.name}": path.read_bytes() for path in modules}
    # The loader is there already, and must stay what can be executed.
    shared = [path for path in libraries(program) if not path.name.startswith("ld-")]
    found |= {str(path).lstrip("/"): path.read_bytes() for path in shared}
    found["iscsistart"] = program.read_bytes()
    found["network"] = "".join(f"{path.name}\n" for path in modules).encode()
    found["login"] = " ".join(login).encode()
    found["digests"] = digests.encode()
    found["granularity"] = b"4096"
    found["host.bin"] = random.Random(3).randbytes(2 << 20)
    return found


@pytest.fixture(scope="module", params=["None", "CRC32C"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestRun]:
    """A guest's life; once without, and once with digests and mutual CHAP."""
    folder: Path = tmp_path_factory.mktemp("iscsi")
    digests = request.param != "None"
    objects = f"secret,id=s0,data={SECRET}", f"secret,id=s1,data={OTHER}"
    options = (
        ("user=me", "password-secret=s0", "target-user=it", "target-password-secret=s1") if digests else ()
    )
    with needed(), serving(folder, *options, objects=objects) as served:
        login = ["-i", INITIATOR, "-t", TARGET, "-g", "1", "-a", HOST, "-p", str(served.port)]
        if digests:
            login += ["-u", "me", "-w", SECRET, "-U", "it", "-W", OTHER]
            for kind in ("HeaderDigest", "DataDigest"):
                login += ["-P", f"node.conn[0].iscsi.{kind}=CRC32C"]
        yield run_guest(
            "iscsi.sh",
            None,
            files=own_files(login, "1" if digests else "0"),
            arguments=["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"],
            timeout=240,
        )


@pytest.mark.parametrize("item", ITEMS)
def test_linux_keeps_a_file_system_on_our_target(run: GuestRun, item: str, check: Check) -> None:
    check(run, item)

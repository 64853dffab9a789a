"""What QEMU says of `rerror` and `werror` where a script does not see it: io-status, and places in its object tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import pytest

from devmodels.blockbackend.errorpolicy import OnReadError, OnWriteError
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget
from guestsim.targets.qemu import QemuTarget
from guestsim.targets.qmp import Json

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

NO_SPACE: dict[str, Json] = {
    "driver": "blkdebug",
    "node-name": "d0",
    "image": {"driver": "null-co", "size": 1 << 20},
    "inject-error": [{"event": "none", "iotype": "write", "errno": 28, "once": True}],
}
PLAIN: dict[str, Json] = {"driver": "null-co", "node-name": "d0", "size": 1 << 20}


def query_block(target: QemuTarget) -> Mapping[str, object]:
    (found,) = cast("list[Mapping[str, object]]", target.qmp("query-block"))
    return found


@pytest.mark.parametrize("rerror", ["auto", "report", "ignore", "stop"])
@pytest.mark.parametrize("werror", ["auto", "report", "ignore", "stop", "enospc"])
def test_where_there_is_an_io_status(rerror: OnReadError, werror: OnWriteError) -> None:
    device: dict[str, Json] = {"driver": "virtio-blk-pci", "drive": "d0", "rerror": rerror, "werror": werror}
    with (
        QemuTarget(blockdevs=[PLAIN], devices=[device]) as qemu,
        InProcessTarget(blockdevs=[PLAIN], devices=[device]) as ours,
    ):
        assert query_block(qemu).get("io-status") == ours.assembly.backends["d0"].io_status


@pytest.mark.parametrize(("driver", "board"), [("virtio-blk-pci", "q35"), ("virtio-blk-device", "microvm")])
@pytest.mark.parametrize("name", ["vd0", None])
def test_where_a_device_is_in_the_tree(
    driver: str, board: Literal["q35", "microvm"], name: str | None
) -> None:
    device: dict[str, Json] = {"driver": driver, "drive": "d0", **({} if name is None else {"id": name})}
    with (
        QemuTarget(blockdevs=[PLAIN], devices=[device], board=board) as qemu,
        InProcessTarget(blockdevs=[PLAIN], devices=[device]) as ours,
    ):
        path = ours.assembly.backends["d0"].qom_path
        assert qemu.qmp("qom-get", {"path": path, "property": "drive"}) == "d0"


def test_what_makes_an_io_status_ok_again() -> None:
    """Not a reset of the device, but `cont`; QEMU 7.2 leaves that out where the drive is a node, not a `-drive`."""
    device: dict[str, Json] = {"driver": "virtio-blk-pci", "drive": "d0", "id": "vd0", "addr": "4"}
    with (
        QemuTarget(blockdevs=[NO_SPACE], devices=[device]) as qemu,
        InProcessTarget(blockdevs=[NO_SPACE], devices=[device]) as ours,
    ):
        backend = ours.assembly.backends["d0"]
        seen: list[list[object]] = []
        for target in (qemu, ours):
            guest = Guest(target)
            disk = boot(guest)
            found: list[object] = []

            def look(target: QemuTarget | InProcessTarget = target, found: list[object] = found) -> None:
                found.append(
                    query_block(target)["io-status"] if isinstance(target, QemuTarget) else backend.io_status
                )

            look()
            target.take_events()
            guest.run(disk.driver.submit([virtio_blk.write(0, bytes(512))]))

            told: list[str] = []

            def stopped(target: QemuTarget | InProcessTarget = target, told: list[str] = told) -> bool:
                told += [name for name, _ in target.take_events()]
                return "STOP" in told

            guest.run(guest.wait_until(stopped, "the stop"))
            look()
            guest.run(disk.driver.reset())
            look()
            target.cont()
            look()
            seen.append(found)
        assert seen[1] == ["ok", "nospace", "nospace", "ok"]
        assert seen[0][:-1] == seen[1][:-1]

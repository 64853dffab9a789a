"""What a guest sees of an error, for each policy, operation, errno and device: measured, and as docs/errors.md says.

The cell of a `stop` stands for the whole story: the request is held and the machine stopped with the io-status shown;
the disk becomes well, the machine is continued, and the guest gets one answer, as if nothing had happened.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from devmodels.blockbackend import Op
from devmodels.blockbackend.errorpolicy import OnReadError, OnWriteError
from guestsim.drivers import virtio_blk

from . import faulty
from .errordevices import DEVICES, Device
from .faulty import Faulty

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
POLICIES: tuple[OnWriteError, ...] = ("report", "ignore", "stop", "enospc", "auto")
ERRORS = (errno.EIO, errno.ENOSPC, errno.ENOMEDIUM)
CONTENT = b"\x77" * 512
OPERATIONS = {
    Op.READ: virtio_blk.read(512, 512),
    Op.WRITE: virtio_blk.write(512, CONTENT),
    Op.FLUSH: virtio_blk.flush(),
    Op.DISCARD: virtio_blk.discard([(4096, 4096)]),
    Op.WRITE_ZEROES: virtio_blk.write_zeroes([(4096, 4096)]),
    Op.SECURE_ERASE: virtio_blk.secure_erase([(4096, 4096)]),
}
OK, IOERR = 0, 1


def failed(device: Device) -> int:
    """How many requests count as failed."""
    return sum(count for name, count in device.backend.stats.as_dict().items() if name.startswith("failed"))


def outcome(device: Device, op: Op, error: int) -> str:
    """What comes of one request that fails once."""
    node = device.backend.node
    assert isinstance(node, Faulty)
    told: list[tuple[str, Mapping[str, object]]] = []

    def hear(name: str, data: Mapping[str, object]) -> None:
        told.append((name, data))

    events = device.run_state.events
    events.add_listener(hear)
    failures = failed(device)
    node.errors = {op: error}
    device.submit(OPERATIONS[op])
    answer = device.answer()
    node.errors = {}
    stopped = answer is None
    if answer is None:
        cell = f"stop, {device.backend.io_status}"
        action = "stop"
        assert device.run_state.status == "io-error"
        device.run_state.cont()
        answer = device.answer()
        assert answer is not None
        assert answer[0] == OK
    else:
        cell, action = {OK: ("OK", "ignore"), IOERR: ("IOERR", "report")}[answer[0]]
    events.remove_listener(hear)
    assert device.answer() is None, "one answer, and no more"
    assert [name for name, _ in told] == ["BLOCK_IO_ERROR", *(["STOP", "RESUME"] if stopped else [])]
    assert failed(device) - failures == (action == "report")
    members = told[0][1]
    assert (members["action"], members["operation"]) == (action, "read" if op is Op.READ else "write")
    if op is Op.READ:
        assert answer[1] == (CONTENT if stopped else bytes(512))
    return cell


def cells(name: str, folder: Path) -> Iterator[tuple[Op, int, str, str]]:
    """Operation, errno, policy and result of each cell of one device."""
    for werror in POLICIES:
        rerror: OnReadError = "report" if werror == "enospc" else werror
        folder_of = folder / werror
        folder_of.mkdir()
        with DEVICES[name](folder_of, rerror, werror) as device:
            device.submit(OPERATIONS[Op.WRITE])
            assert device.answer() == (OK, b"")
            for op in OPERATIONS:
                for error in ERRORS:
                    if op is not Op.READ or rerror == werror:
                        yield op, error, werror, outcome(device, op, error)


def table(name: str, folder: Path) -> list[str]:
    """The rows of one device."""
    found = {(op, error, policy): cell for op, error, policy, cell in cells(name, folder)}
    return [
        f"| {op.name} | {errno.errorcode[error]} | {name} | "
        + " | ".join(found.get((op, error, policy), "-") for policy in POLICIES)
        + " |"
        for op in OPERATIONS
        for error in ERRORS
    ]


@pytest.mark.parametrize("name", DEVICES)
def test_the_table_is_true(tmp_path: Path, name: str) -> None:
    with faulty.installed():
        rows = table(name, tmp_path)
    found = [line for line in PAGE.read_text().splitlines() if f"| {name} |" in line]
    assert found == rows, "the rows should be\n" + "\n".join(rows)

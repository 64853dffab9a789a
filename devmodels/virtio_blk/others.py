"""Requests other than reads and writes, VIRTIO 1.4 §5.2.6."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from devmodels.blockbackend.request import Op, Request
from devmodels.conformance import written
from devmodels.memoryregions import GuestMemoryError
from devmodels.virtio.scatter import fill
from devmodels.virtio_blk.layout import ID_BYTES, LIFETIME, BlkFeature, BlkType
from devmodels.virtio_blk.ranges import RANGE_OPS, range_parts
from devmodels.virtio_blk.request import (
    OPERATION,
    S_IOERR,
    S_OK,
    S_UNSUPP,
    T_FLUSH_OUT,
    T_SCSI_CMD,
    BlkRequest,
)

if TYPE_CHECKING:
    from devmodels.virtio_blk.device import VirtioBlk

_ERRORS = (255).to_bytes(4, "little")
"""With which QEMU's in-header of a SCSI command begins where the command was not done."""


def start_other(
    device: VirtioBlk,
    request: BlkRequest,
    kind: int,
    sector: int,
    data_in: list[tuple[int, int]],
    starting: list[Request],
) -> None:
    """Everything but IN and OUT; what is to be submitted is added to `starting`."""
    if kind == BlkType.VIRTIO_BLK_T_FLUSH or (kind == T_FLUSH_OUT and device.legacy):
        flush(device, request, sector)
        starting.append(request)
    elif kind in RANGE_OPS:
        starting += range_parts(device, request, BlkType(kind))
    elif kind == BlkType.VIRTIO_BLK_T_GET_ID:
        serial = device.options.serial.encode().ljust(ID_BYTES, b"\0")
        answer(device, request, data_in, serial)
    elif kind == BlkType.VIRTIO_BLK_T_GET_LIFETIME and device.has(BlkFeature.VIRTIO_BLK_F_LIFETIME):
        life = device.options.lifetime
        assert life is not None
        values = (life.pre_eol_info, life.device_lifetime_est_typ_a, life.device_lifetime_est_typ_b)
        answer(device, request, data_in, LIFETIME.pack(*values))
    elif kind == T_SCSI_CMD and device.habits.scsi_commands:
        refuse_command(device, request)
    else:
        reason = f"request type {kind} is unknown or was not negotiated"
        device.refuse(request, S_UNSUPP, reason, clause=OPERATION)


def flush(device: VirtioBlk, request: BlkRequest, sector: int) -> None:
    """Make `request` a flush, whose sector is to be 0."""
    if sector:
        device.wrong(request, f"FLUSH with sector {sector}, expected 0", OPERATION)
    if not device.has(BlkFeature.VIRTIO_BLK_F_FLUSH):
        device.wrong(request, "FLUSH without VIRTIO_BLK_F_FLUSH", OPERATION)
    request.op = Op.FLUSH
    request.offset = request.length = 0
    request.vectors = ()
    request.done = device.io_done


def refuse_command(device: VirtioBlk, request: BlkRequest) -> None:
    """Answer a SCSI command as QEMU does: a command, sense data and an in-header, with errors, belong to it."""
    chain = request.chain
    if len(chain.readable) < 2 or len(chain.writable) < 3:
        device.refuse(request, S_IOERR, "a part of a SCSI command is missing")
        return
    with suppress(GuestMemoryError):
        device.memory.write(chain.writable[-2][0], _ERRORS)
    device.refuse(request, S_UNSUPP, "SCSI commands are not supported")


def answer(device: VirtioBlk, request: BlkRequest, data_in: list[tuple[int, int]], payload: bytes) -> None:
    """Answer from the device itself: `payload`, cut or zero-padded to the driver's buffer."""
    room = request.chain.writable_bytes - 1
    if room != len(payload):
        device.wrong(request, f"buffer of {room} bytes for an answer of {len(payload)}", OPERATION)
    try:
        fill(device.memory, data_in, payload, padded=not device.habits.writes_no_rest)
    except GuestMemoryError as error:
        device.wrong(request, f"answer outside memory: {error}", OPERATION, written(error.address, 8))
        device.finish(request, S_IOERR, reachable=False)
        return
    device.finish(request, S_OK, filled=True)

"""The control queue: task management, and what MMC devices tell of themselves (VIRTIO 1.4 §5.6.6.2)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.conformance import written
from devmodels.memoryregions import GuestMemoryError
from devmodels.scsi import Function, Outcome, Response, Status
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio_scsi.events import supported_events
from devmodels.virtio_scsi.layout import (
    ASYNC,
    ASYNC_ANSWER,
    CONTROL_TYPE,
    TMF,
    ControlType,
    ScsiResponse,
    TmfType,
)

if TYPE_CHECKING:
    from devmodels.scsi import LogicalUnit
    from devmodels.virtio_scsi.device import VirtioScsi

CLAUSE = "VIRTIO 1.4 §5.6.6.2"
UNKNOWN_LIMIT = 4096
"""So many bytes of an unknown request's answer are written at most."""

FUNCTIONS = {
    TmfType.VIRTIO_SCSI_T_TMF_ABORT_TASK: Function.ABORT_TASK,
    TmfType.VIRTIO_SCSI_T_TMF_ABORT_TASK_SET: Function.ABORT_TASK_SET,
    TmfType.VIRTIO_SCSI_T_TMF_CLEAR_ACA: Function.CLEAR_ACA,
    TmfType.VIRTIO_SCSI_T_TMF_CLEAR_TASK_SET: Function.CLEAR_TASK_SET,
    TmfType.VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET: Function.I_T_NEXUS_RESET,
    TmfType.VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET: Function.LOGICAL_UNIT_RESET,
    TmfType.VIRTIO_SCSI_T_TMF_QUERY_TASK: Function.QUERY_TASK,
    TmfType.VIRTIO_SCSI_T_TMF_QUERY_TASK_SET: Function.QUERY_TASK_SET,
}
_ENDING = (Function.ABORT_TASK, Function.ABORT_TASK_SET, Function.CLEAR_TASK_SET)
"""Those that end commands of a unit."""
_RESPONSES = {
    Response.COMPLETE: ScsiResponse.VIRTIO_SCSI_S_OK,
    Response.SUCCEEDED: ScsiResponse.VIRTIO_SCSI_S_FUNCTION_SUCCEEDED,
    Response.REJECTED: ScsiResponse.VIRTIO_SCSI_S_FUNCTION_REJECTED,
    Response.INCORRECT_LUN: ScsiResponse.VIRTIO_SCSI_S_INCORRECT_LUN,
}


class ControlQueue:
    """The control queue of `device`."""

    def __init__(self, device: VirtioScsi, queue: VirtQueue) -> None:
        self._device = device
        self._queue = queue

    def handle(self, chain: Chain) -> None:
        """One request."""
        try:
            self._handle(chain)
        except GuestMemoryError as error:
            self._violation(chain, f"request outside memory: {error}", written(error.address, 8))
            self._unknown(chain)

    def _handle(self, chain: Chain) -> None:
        data = self._device.read_all(chain.readable, min(chain.readable_bytes, TMF.size))
        kind = CONTROL_TYPE.unpack_from(data, 0)[0] if len(data) >= CONTROL_TYPE.size else -1
        if kind == ControlType.VIRTIO_SCSI_T_TMF:
            self._manage(chain, data)
        elif kind in (ControlType.VIRTIO_SCSI_T_AN_QUERY, ControlType.VIRTIO_SCSI_T_AN_SUBSCRIBE):
            self._asynchronous(chain, data, subscribe=kind == ControlType.VIRTIO_SCSI_T_AN_SUBSCRIBE)
        else:
            self._violation(
                chain, f"request type {kind:#x}" if kind >= 0 else f"request of {len(data)} bytes", data
            )
            self._unknown(chain)

    # --- task management

    def _manage(self, chain: Chain, data: bytes) -> None:
        if len(data) < TMF.size or not chain.writable_bytes:
            self._violation(
                chain,
                f"task management in {len(data)} bytes, room for {chain.writable_bytes} of response",
                data,
            )
            self._unknown(chain)
            return
        _, subtype, lun, tag = TMF.layout.unpack(data)
        function = FUNCTIONS.get(subtype)
        if function is None:
            self._violation(chain, f"task management function {subtype}", data)
            self._finish(chain, ScsiResponse.VIRTIO_SCSI_S_FUNCTION_REJECTED)
        else:
            self._device.when_taken(partial(self._do, chain, function, lun, tag))

    def _do(self, chain: Chain, function: Function, lun: bytes, tag: int) -> None:
        """Every command that was made available before is known."""
        if self._dropped(chain):
            return
        if self._device.bus.attention is not None:
            self._do_as_qemu(chain, function, lun, tag)
            return
        place = self._device.bus.find(lun)
        if place is None or self._queue.resetting or self._device.resetting:
            self._finish(chain, ScsiResponse.VIRTIO_SCSI_S_BAD_TARGET)
        else:
            managed = partial(self._managed, chain)
            place.target.manage(place.nexus, function, place.lun, tag, managed)

    def _do_as_qemu(self, chain: Chain, function: Function, lun: bytes, tag: int) -> None:
        """CLEAR ACA is of nobody; a reset of a nexus is one of the target in byte 1, there or not."""
        of_target = function is Function.I_T_NEXUS_RESET
        place = self._device.bus.find(bytes((1, lun[1])) + bytes(6) if of_target else lun)
        if function is Function.CLEAR_ACA:
            self._finish(chain, ScsiResponse.VIRTIO_SCSI_S_FUNCTION_REJECTED)
        elif self._queue.resetting or self._device.resetting or (place is None and not of_target):
            self._finish(chain, ScsiResponse.VIRTIO_SCSI_S_BAD_TARGET)
        elif place is None:
            self._finish(chain, ScsiResponse.VIRTIO_SCSI_S_OK)
        elif function in _ENDING and place.lun == place.unit.lun:
            self._end_as_qemu(chain, place.unit, tag if function is Function.ABORT_TASK else None)
        else:
            function = Function.TARGET_RESET if of_target else function
            place.target.manage(place.nexus, function, place.lun, tag, partial(self._managed, chain))

    def _end_as_qemu(self, chain: Chain, unit: LogicalUnit, tag: int | None) -> None:
        """End the first command with `tag`, or all; what something else is ending already is not waited for."""
        tasks = [each for each in unit.tasks if not each.aborted and tag in (None, each.tag)]
        if tag is not None:
            del tasks[1:]
        unit.abort(tasks, Outcome.ABORTED, Status.GOOD, partial(self._managed, chain, Response.COMPLETE))

    def _managed(self, chain: Chain, response: Response) -> None:
        """A function is complete: what it has ended is shown before its own answer."""
        self._device.when_shown(partial(self._finish, chain, _RESPONSES[response]))

    # --- asynchronous notification

    def _asynchronous(self, chain: Chain, data: bytes, *, subscribe: bool) -> None:
        if len(data) < ASYNC.size or chain.writable_bytes < ASYNC_ANSWER.size:
            self._violation(
                chain,
                f"notification request in {len(data)} bytes, room for {chain.writable_bytes} of answer",
                data,
            )
            self._unknown(chain)
            return
        if self._device.bus.attention is not None:
            # QEMU has no events, and does not look at the LUN.
            self._answer(chain, ASYNC_ANSWER.pack(0, ScsiResponse.VIRTIO_SCSI_S_OK))
            return
        _, lun, requested = ASYNC.layout.unpack_from(data)
        place = self._device.bus.find(lun)
        if place is None:
            self._answer(chain, ASYNC_ANSWER.pack(0, ScsiResponse.VIRTIO_SCSI_S_BAD_TARGET))
            return
        unit = place.target.unit(place.lun)
        if unit is None:
            self._answer(chain, ASYNC_ANSWER.pack(0, ScsiResponse.VIRTIO_SCSI_S_INCORRECT_LUN))
            return
        actual = requested & supported_events(unit)
        if subscribe and lun[0] == 1:
            self._device.subscriptions[lun[1], unit.lun] = actual
        self._answer(chain, ASYNC_ANSWER.pack(actual, ScsiResponse.VIRTIO_SCSI_S_OK))

    # --- answers

    def give_back(self) -> None:
        """Where the queue alone is being reset that waits for no function: there are only their effects from now on."""
        if not self._device.resetting:
            self._queue.finish([(chain, 0) for chain in self._queue.in_flight.values()])

    def _dropped(self, chain: Chain) -> bool:
        """Whether a reset has given the buffer back, so that nothing of it is the device's."""
        return self._queue.in_flight.get(chain.head) is not chain

    def _violation(self, chain: Chain, summary: str, data: bytes) -> None:
        self._device.violations.report(CLAUSE, summary, f"{self._queue.name} head {chain.head}", data)

    def _finish(self, chain: Chain, response: ScsiResponse) -> None:
        self._answer(chain, bytes((response,)))

    def _unknown(self, chain: Chain) -> None:
        """Whatever it was: its response is the last byte of its writable part."""
        room = chain.writable_bytes
        answer = (
            b"" if room > UNKNOWN_LIMIT else bytes(room)[:-1] + bytes((ScsiResponse.VIRTIO_SCSI_S_FAILURE,))
        )
        self._answer(chain, answer if room else b"")

    def _answer(self, chain: Chain, data: bytes) -> None:
        device, queue = self._device, self._queue
        if self._dropped(chain):
            return
        if queue.drops:
            if device.as_qemu:
                device.write_all(queue, chain, data)
            queue.finish(((chain, 0),))
        elif device.paused:
            device.put_off.append(partial(self._answer, chain, data))
        else:
            queue.finish(((chain, device.write_all(queue, chain, data)),))

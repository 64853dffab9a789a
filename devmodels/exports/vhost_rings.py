"""The messages of a vhost-user front end that concern rings: where they are, what they notify by, start and stop.

Follows "Vhost-user Protocol" (docs/interop/vhost-user.rst of QEMU), "Starting and stopping rings" above all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from devmodels.exports.eventfd import is_eventfd
from devmodels.exports.vhost_channel import ProtocolError, RequestRefused
from devmodels.exports.vhost_inflight import InflightArea
from devmodels.exports.vhost_log import DirtyLogging
from devmodels.exports.vhost_memory import FrontEndMemory
from devmodels.exports.vhost_vring import Vring
from devmodels.protocols.vhost_user import (
    U64,
    VRING_ADDR,
    VRING_F_LOG,
    VRING_INDEX_MASK,
    VRING_NO_FD,
    VRING_STATE,
)
from devmodels.virtio.device import VirtioDevice


class Later:
    """The answer comes when something has ended."""


LATER: Final = Later()


class Rings:
    """`vrings` are those of `device`, one for each queue.

    `answer` takes an answer that comes later; `woken` is called in a turn of its own after the first of them has
    started.
    """

    def __init__(
        self,
        device: VirtioDevice,
        memory: FrontEndMemory,
        logging: DirtyLogging,
        *,
        answer: Callable[[bytes], None],
        woken: Callable[[], None],
    ) -> None:
        self._device = device
        self._logging = logging
        self._answer = answer
        self._woken = woken
        self._inflight: InflightArea | None = None
        self._active = False
        self.vrings = [Vring(device, queue, memory, self._activate) for queue in device.queues]

    @property
    def running(self) -> bool:
        """Whether any of them is started."""
        return any(vring.started for vring in self.vrings)

    def _vring(self, index: int) -> Vring:
        if index >= len(self.vrings):
            raise RequestRefused(f"vring {index} of {len(self.vrings)}")
        return self.vrings[index]

    def _stopped(self, index: int) -> Vring:
        vring = self._vring(index)
        if vring.started:
            raise RequestRefused(f"vring {index} runs")
        return vring

    def set_num(self, payload: bytes, _fds: list[int]) -> None:
        """How many entries a ring has."""
        index, num = VRING_STATE.unpack_from(payload, 0)
        vring = self._stopped(index)
        if not vring.queue.allows(num):
            kind = "1 to" if self._device.packed else "a power of two up to"
            raise RequestRefused(f"vring {index} of {num} entries, expected {kind} {vring.queue.max_size}")
        vring.num = num
        vring.update()

    def set_addr(self, payload: bytes, _fds: list[int]) -> None:
        """Where the parts of a ring are."""
        index, flags, desc, used, available, log_address = VRING_ADDR.unpack_from(payload, 0)
        vring = self._vring(index)
        parts = (desc, available, used)
        # Front ends send the addresses again when they switch the dirty log: the same ones are fine.
        if vring.started and parts != vring.parts:
            raise RequestRefused(f"vring {index} runs, and elsewhere")
        _, _, used = vring.translate(parts)
        self._logging.alias(
            index, used, vring.device_area_size(), log_address if flags & VRING_F_LOG else None
        )
        vring.parts = parts
        vring.update()

    def set_base(self, payload: bytes, _fds: list[int]) -> None:
        """Where a ring goes on."""
        index, base = VRING_STATE.unpack_from(payload, 0)
        self._stopped(index).set_base(base)

    def get_base(self, payload: bytes, _fds: list[int]) -> Later:
        """The answer waits until everything taken from the ring has been given back."""
        index, _ = VRING_STATE.unpack_from(payload, 0)
        self._vring(index).stop(lambda base: self.rest(lambda: self._answer(VRING_STATE.pack(index, base))))
        return LATER

    def _activate(self) -> None:
        """A ring is about to start: the device takes what it needs, its disk above all."""
        if not self._active:
            try:
                self._device.activate()
            except OSError as error:
                raise RequestRefused(error.strerror or str(error)) from None
            self._active = True
            # What changed while all rings rested has not been told.
            self._device.context.call_soon(self._woken)

    def rest(self, then: Callable[[], None]) -> None:
        """A ring has stopped: where it was the last one, the device gives up its disk, and `then` is called later."""
        if self._active and not self.running:
            self._active = False
            self._device.inactivate(then)
        else:
            then()

    def _ring_fd(self, payload: bytes, fds: list[int]) -> tuple[Vring, int | None]:
        """The vring that a descriptor is for, and the descriptor, now ours (None: poll instead)."""
        (value,) = U64.unpack_from(payload, 0)
        vring = self._vring(value & VRING_INDEX_MASK)
        expected = 0 if value & VRING_NO_FD else 1
        if len(fds) != expected:
            raise ProtocolError(f"{len(fds)} file descriptors for vring {vring.queue.index}, not {expected}")
        if not fds:
            return vring, None
        if not is_eventfd(fds[0]):
            raise RequestRefused(f"the descriptor for vring {vring.queue.index} is no eventfd")
        return vring, fds.pop()

    def set_kick(self, payload: bytes, fds: list[int]) -> None:
        """The descriptor by which the driver notifies."""
        vring, fd = self._ring_fd(payload, fds)
        if fd is None:
            raise RequestRefused(f"vring {vring.queue.index} without a kick descriptor is not supported")
        vring.set_kick(fd)

    def set_call(self, payload: bytes, fds: list[int]) -> None:
        """The descriptor by which it is notified, or none."""
        vring, fd = self._ring_fd(payload, fds)
        vring.set_call(fd)

    def set_err(self, payload: bytes, fds: list[int]) -> None:
        """The descriptor that tells of a broken ring, or none."""
        vring, fd = self._ring_fd(payload, fds)
        vring.set_err(fd)

    def set_enable(self, payload: bytes, _fds: list[int]) -> None:
        """Whether a ring's requests are done."""
        index, num = VRING_STATE.unpack_from(payload, 0)
        vring = self._vring(index)
        if num > 1:
            raise RequestRefused(f"vring {index} enabled with {num}, expected 0 or 1")
        vring.enabled = bool(num)
        vring.update()

    def track(self, area: InflightArea | None) -> None:
        """Keep what is in flight in `area`, and in the one before no longer."""
        for vring in self.vrings:
            vring.region = None
        if self._inflight is not None:
            self._inflight.close()
        self._inflight = area
        if area is not None:
            for vring, region in zip(self.vrings, area.regions, strict=False):
                vring.region = region

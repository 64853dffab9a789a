"""The device's own state on its way to or from the front end while its guest moves.

Follows "Migrating back-end state" of the protocol's document.  The state is what the driver chose and the front end
cannot know: a small JSON object, written to or read from the descriptor that the front end gives, up to its end.
"""

from __future__ import annotations

import logging
import os
import select
from collections.abc import Callable

import msgspec

from devmodels.exports.vhost_channel import RequestRefused
from devmodels.trace import EventKind
from devmodels.virtio.device import VirtioDevice

log = logging.getLogger("devmodels.vhost-user")

VERSION = 1
LIMIT = 4096
"""Most bytes of a state; a pipe takes so many at once when it takes any (PIPE_BUF)."""

SAVE, LOAD = 0, 1
STOPPED = 0


class _State(msgspec.Struct, frozen=True):
    version: int
    device: int
    own: dict[str, int]


class StateTransfer:
    """One transfer after the other; `check` says how the last one went."""

    def __init__(self, device: VirtioDevice) -> None:
        self._device = device
        self._context = device.context
        self._fd: int | None = None
        self._watched = False
        self._data = b""
        self._good = False
        self._checking: Callable[[bool], None] | None = None

    def begin(self, direction: int, phase: int, fd: int) -> None:
        """Start to save or to load; `fd` becomes its own.  RequestRefused, and `fd` stays the caller's, for else."""
        if direction not in (SAVE, LOAD):
            raise RequestRefused(f"transfer direction {direction}, expected {SAVE} or {LOAD}")
        if phase != STOPPED:
            raise RequestRefused(f"migration phase {phase}, expected {STOPPED}")
        self.close()
        self._fd = fd
        self._good = False
        if direction == SAVE:
            state = _State(VERSION, self._device.DEVICE_ID, self._device.migration_state())
            self._data = msgspec.json.encode(state)
            self._wait(select.EPOLLOUT, self._write)
        else:
            self._data = b""
            self._wait(select.EPOLLIN, self._read)

    def check(self, answer: Callable[[bool], None]) -> None:
        """Call `answer` with whether the transfer went well, once it is over."""
        if self._fd is None:
            answer(self._good)
        else:
            self._checking = answer

    def close(self) -> None:
        """Give up a transfer that is not over. Idempotent."""
        if self._fd is not None:
            if self._watched:
                self._context.unwatch(self._fd)
                self._watched = False
            os.close(self._fd)
            self._fd = None

    def _wait(self, events: int, step: Callable[[int], None]) -> None:
        assert self._fd is not None
        try:
            self._context.watch(self._fd, events, step)
        except PermissionError:
            # A file is always ready.
            self._context.call_soon(lambda: step(events))
        else:
            self._watched = True

    def _over(self, good: bool) -> None:
        self.close()
        self._good = good
        checking, self._checking = self._checking, None
        if checking is not None:
            checking(good)

    def _write(self, _events: int) -> None:
        if self._fd is None:
            return
        try:
            self._over(os.write(self._fd, self._data) == len(self._data))
        except OSError as error:
            log.warning("%s: state cannot be saved: %s", self._device.name, error.strerror)
            self._over(False)

    def _read(self, events: int) -> None:
        if self._fd is None:
            return
        try:
            piece = os.read(self._fd, LIMIT)
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("%s: state cannot be loaded: %s", self._device.name, error.strerror)
            self._over(False)
            return
        self._data += piece
        if len(self._data) > LIMIT:
            log.warning("%s: state of more than %d bytes", self._device.name, LIMIT)
            self._over(False)
        elif not piece:
            self._over(self._load())
        elif not self._watched:
            self._context.call_soon(lambda: self._read(events))

    def _load(self) -> bool:
        try:
            state = msgspec.json.decode(self._data, type=_State)
            if (state.version, state.device) != (VERSION, self._device.DEVICE_ID):
                raise ValueError(f"version {state.version} of device type {state.device}")
            self._device.note(EventKind.MIGRATED, msgspec.json.encode(state.own).decode())
            self._device.take_migration_state(state.own)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            log.warning("%s: state is not of this device: %s", self._device.name, error)
            return False
        return True

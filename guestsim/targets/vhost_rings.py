"""The rings of one connection to a vhost-user back end: set up, notified, stopped, and what they need before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import DESC, PACKED_EVENT, USED, avail_size, used_size
from guestsim.errors import GuestCheckError, GuestError
from guestsim.targets import vhost_messages as msg
from guestsim.targets.vhost_messages import Protocol, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guestsim.targets.vhost_connection import VhostConnection
    from guestsim.targets.vhost_user import Device, VhostUserTarget


class _Ring:
    """A ring that was enabled: its descriptors, and what tells how far it is."""

    __slots__ = ("err", "kick", "packed", "used")

    def __init__(self, used: int, *, packed: bool) -> None:
        self.kick = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.err = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.used = used
        self.packed = packed


class VhostRings:
    """The rings of `device` over `connection`, which has `queues` of them at most, of at most `largest` entries.

    `device` looks when an error descriptor is signalled.  Memory is shared before the first ring is enabled, and an
    in-flight area, where the back end has such, after each `begin`.
    """

    __slots__ = ("_connection", "_device", "_largest", "_prepared", "_queues", "_rings", "_shared", "_target")

    def __init__(
        self,
        connection: VhostConnection,
        target: VhostUserTarget,
        device: Device,
        queues: int,
        largest: int,
    ) -> None:
        self._connection = connection
        self._target = target
        self._device = device
        self._queues = queues
        self._largest = largest
        self._rings: dict[int, _Ring] = {}
        self._shared = False
        self._prepared = False

    def __bool__(self) -> bool:
        return bool(self._rings)

    def begin(self) -> None:
        """The device starts afresh."""
        self._prepared = False

    def enable(
        self, index: int, size: int, addresses: Sequence[int], call: int | None, *, packed: bool
    ) -> None:
        """Set a ring up at guest-physical `addresses` and start it; `call` is its call descriptor.

        GuestError where an area lies in no region of memory, `RefusedError` where the back end doesn't want it.
        """
        self._prepare()
        descriptor, available, used = self._users(index, size, addresses, packed=packed)
        ring = self._rings[index] = _Ring(addresses[2], packed=packed)
        self._target.watch(ring.err, self._device)
        send = self._connection.send
        send(Request.SET_VRING_NUM, msg.VRING_STATE.pack(index, size))
        send(Request.SET_VRING_BASE, msg.VRING_STATE.pack(index, msg.PACKED_BASE if packed else 0))
        send(Request.SET_VRING_ADDR, msg.VRING_ADDR.pack(index, 0, descriptor, used, available, 0))
        self._send_fd(Request.SET_VRING_ERR, index, ring.err)
        self._send_fd(Request.SET_VRING_CALL, index, call)
        self._send_fd(Request.SET_VRING_KICK, index, ring.kick)
        if self._connection.has_protocol:
            send(Request.SET_VRING_ENABLE, msg.VRING_STATE.pack(index, 1))

    def _users(self, index: int, size: int, addresses: Sequence[int], *, packed: bool) -> list[int]:
        """The user addresses of a ring's areas, each of which must lie in one region."""
        driver, device = (PACKED_EVENT.size,) * 2 if packed else (avail_size(size), used_size(size))
        users = []
        for address, length in zip(addresses, (DESC.size * size, driver, device), strict=True):
            user = self._target.memory.user(address, length)
            if user is None:
                raise GuestError(
                    f"ring {index}: {length} bytes at {address:#x}, expected a place in one region of memory"
                )
            users.append(user)
        return users

    def _send_fd(self, request: Request, index: int, fd: int | None) -> None:
        payload = msg.U64.pack(index if fd is not None else index | msg.VRING_NO_FD)
        self._connection.send(request, payload, [fd] if fd is not None else [])

    def kick(self, index: int) -> None:
        """Notify the back end of a ring; nothing where it isn't enabled."""
        ring = self._rings.get(index)
        if ring is not None:
            os.eventfd_write(ring.kick, 1)

    def take_errors(self) -> bool:
        """Whether an error descriptor was signalled since the last call."""
        found = False
        for ring in self._rings.values():
            try:
                os.eventfd_read(ring.err)
                found = True
            except BlockingIOError:
                continue
        return found

    # --- ends

    def stop(self, index: int) -> bool:
        """Stop a ring and return whether the back end hasn't done with it, by where it says that it stopped."""
        connection = self._connection
        if connection.has_protocol:
            connection.send(Request.SET_VRING_ENABLE, msg.VRING_STATE.pack(index, 0))
        answer = connection.ask(Request.GET_VRING_BASE, msg.VRING_STATE.pack(index, 0), msg.VRING_STATE.size)
        found, base = msg.VRING_STATE.unpack(answer)
        running = self._is_ahead(self._rings[index], base)
        self._forget(index)
        if found != index:
            raise GuestCheckError(
                "vhost-user: GET_VRING_BASE",
                f"{connection.label}: asked for ring {index}, answered for ring {found}",
            )
        return running

    def stop_all(self) -> list[int]:
        """Stop all rings and return those that the back end hasn't done with."""
        return [index for index in tuple(self._rings) if self.stop(index)]

    def _is_ahead(self, ring: _Ring, base: int) -> bool:
        """Whether buffers before `base` have not been used."""
        if ring.packed:
            return base & 0xFFFF != base >> 16
        used = self._target.memory.read(ring.used + USED["idx"].offset, 2)
        return int.from_bytes(used, "little") != base & 0xFFFF

    def forget(self) -> None:
        """Give all descriptors up, as after the connection's end."""
        for index in tuple(self._rings):
            self._forget(index)

    def _forget(self, index: int) -> None:
        ring = self._rings.pop(index)
        self._target.unwatch(ring.err)
        os.close(ring.err)
        os.close(ring.kick)

    # --- before the first ring

    def _prepare(self) -> None:
        if not self._shared:
            self._share()
            self._shared = True
        if not self._prepared:
            self._prepared = True
            if Protocol.INFLIGHT_SHMFD in self._connection.protocol:
                self._prepare_inflight()

    def _share(self) -> None:
        """Tell the back end of memory, region by region where it takes that."""
        connection, memory = self._connection, self._target.memory
        regions = [msg.REGION.pack(one.guest, one.size, one.user, one.offset) for one in memory.regions]
        if Protocol.CONFIGURE_MEM_SLOTS in connection.protocol:
            slots = connection.number(Request.GET_MAX_MEM_SLOTS)
            if slots < len(regions):
                raise GuestError(
                    f"{connection.label}: {slots} memory slots, expected at least {len(regions)}"
                )
            for region in regions:
                connection.send(Request.ADD_MEM_REG, bytes(8) + region, [memory.fd])
        else:
            table = msg.MEM_TABLE.pack(len(regions), 0) + b"".join(regions)
            connection.send(Request.SET_MEM_TABLE, table, [memory.fd] * len(regions))

    def _prepare_inflight(self) -> None:
        """Get an area for requests in flight and give it back, as at every start ("Inflight I/O tracking").

        It is for all rings, of which each may be as large as rings can be here.
        """
        connection = self._connection
        asked = msg.INFLIGHT.pack(0, 0, self._queues, self._largest)
        answer, fd = connection.ask_with_fd(Request.GET_INFLIGHT_FD, asked)
        if fd is None:
            return
        try:
            if len(answer) not in (msg.INFLIGHT.size, msg.INFLIGHT_PADDED):
                raise GuestCheckError(
                    "vhost-user: GET_INFLIGHT_FD",
                    f"{connection.label}: answered with a payload of {len(answer)} bytes",
                )
            connection.send(Request.SET_INFLIGHT_FD, answer, [fd])
        finally:
            os.close(fd)

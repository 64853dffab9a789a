"""The `vhost-user-scsi` export: a node as a logical unit of a virtio SCSI host device that a front end drives.

Exports with the same socket are logical units of one host.  They may come and go while the front end's guest runs,
which is told; with the last one its host goes, and the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from devmodels.blockbackend import BlockNode
from devmodels.conformance import Profile, ViolationLog
from devmodels.exports.scsi_disk import ScsiDiskExportOptions, disk_backend
from devmodels.exports.vhost_server import VhostUserServer
from devmodels.exports.vhost_user_blk import USUAL_QUEUE_SIZE, UnixAddress
from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.options import OptionError, shown
from devmodels.protocols.vhost_user import MAX_QUEUES
from devmodels.runstate import RunState
from devmodels.scsi.disk import Disk, DiskOptions
from devmodels.virtio.constants import EVENT_IDX, INDIRECT_DESC, MAX_QUEUE_SIZE, VERSION_1
from devmodels.virtio_scsi import VirtioScsi, VirtioScsiOptions
from devmodels.virtio_scsi.layout import FIRST_REQUEST_QUEUE, MAX_LUN, MAX_TARGET

_MOST = MAX_QUEUES - FIRST_REQUEST_QUEUE


class VhostUserScsiOptions(ScsiDiskExportOptions, frozen=True, kw_only=True):
    """Options of `--export type=vhost-user-scsi`.

    `scsi_id` and `lun` are the unit's place, `num_queues` the host's request queues (1 where no export says more).
    `reservations`: as of the disk, which has one initiator here.
    """

    type: Literal["vhost-user-scsi"]
    addr: UnixAddress
    scsi_id: Annotated[
        int, msgspec.Meta(ge=0, le=MAX_TARGET, description=f"a number from 0 to {MAX_TARGET}")
    ] = 0
    lun: Annotated[int, msgspec.Meta(ge=0, le=MAX_LUN, description=f"a number from 0 to {MAX_LUN}")] = 0
    num_queues: (
        Annotated[int, msgspec.Meta(ge=1, le=_MOST, description=f"a number from 1 to {_MOST}")] | None
    ) = None
    reservations: Literal["own", "passthrough"] = "own"

    def disk(self) -> DiskOptions:
        """The disk's own options; ValueError."""
        return msgspec.structs.replace(super().disk(), reservations=self.reservations)


class Host:
    """A host device at a socket, as long as it has a logical unit."""

    def __init__(self, path: str, num_queues: int, context: IoContext, profile: Profile) -> None:
        """OptionError where the socket cannot be bound."""
        self.device = VirtioScsi(
            VirtioScsiOptions(
                num_queues=num_queues,
                virtqueue_size=MAX_QUEUE_SIZE,
                seg_max=USUAL_QUEUE_SIZE - 2,
                packed=True,
                queue_reset=False,
            ),
            name=path,
            context=context,
            memory=GuestMemory(),
            violations=ViolationLog(profile),
            core_features=VERSION_1 | INDIRECT_DESC | EVENT_IDX,
        )
        try:
            self.server = VhostUserServer(path, self.device)
        except OSError as error:
            reason = error.strerror or error
            raise OptionError(f"addr.path: cannot listen at {path!r}: {reason}") from None


class Hosts:
    """Hosts by the path of their socket."""

    def __init__(self, context: IoContext) -> None:
        self._context = context
        self.by_path: dict[str, Host] = {}

    def host(self, options: VhostUserScsiOptions, profile: Profile) -> Host:
        """The host at the socket, made where this is its first export; OptionError where they do not go together."""
        path = options.addr.path
        host = self.by_path.get(path)
        if host is None:
            return Host(path, options.num_queues or 1, self._context, profile)
        queues = host.device.options.num_queues
        if options.num_queues not in (None, queues):
            raise OptionError(f"num-queues: {options.num_queues} is given; {shown(path)} has {queues}")
        target = host.device.bus.targets.get(options.scsi_id)
        if target is not None and options.lun in target.units:
            raise OptionError(
                f"lun: {options.lun} of scsi-id {options.scsi_id} is given; {shown(path)} has one already"
            )
        return host


class VhostUserScsiExport:
    """One node as a logical unit, as long as it is exported."""

    def __init__(
        self,
        options: VhostUserScsiOptions,
        node: BlockNode,
        hosts: Hosts,
        *,
        profile: Profile,
        run_state: RunState,
    ) -> None:
        """OptionError where the socket cannot be bound, the place is taken, or the image cannot be had."""
        self.options = options
        self._hosts = hosts
        self._host = host = hosts.host(options, profile)
        self.device = host.device
        self.backend = backend = disk_backend(options, node, run_state)
        try:
            name = f"{options.addr.path},{options.scsi_id},{options.lun}"
            self._unit = Disk(backend, options.disk(), name=name, violations=host.device.violations)
            self.device.plug(options.scsi_id, options.lun, self._unit)
        except BaseException as error:
            backend.close()
            if not host.device.bus.targets:
                host.server.close()
            if isinstance(error, OSError):
                raise OptionError(f"node-name: {error.strerror or error}") from None
            raise
        hosts.by_path[options.addr.path] = host

    @property
    def connected(self) -> bool:
        """Whether a front end is there, or its last request still runs."""
        return self._host.server.connected

    def close(self, then: Callable[[], None]) -> None:
        """Take the logical unit away, the last one with its host; `then` is called when its tasks have ended."""

        def over() -> None:
            self._unit.close()
            self.backend.close()
            then()

        def remove() -> None:
            self.device.unplug(self.options.scsi_id, self.options.lun, over)

        if len(list(self.device.bus.units())) == 1:
            del self._hosts.by_path[self.options.addr.path]
            self._host.server.close(remove)
        else:
            remove()

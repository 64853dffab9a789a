"""The `vhost-user-scsi` export: a node as a logical unit of a virtio SCSI host device that a front end drives.

Exports with the same socket are logical units of one host.  They may come and go while the front end's guest runs,
which is told; with the last one its host goes, and the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NoReturn

import msgspec

from devmodels.blockbackend import BlockNode
from devmodels.conformance import Profile, ViolationLog
from devmodels.exports.backend import export_backend
from devmodels.exports.recorder import HostRecorder
from devmodels.exports.scsi_unit import ScsiUnitExportOptions, make_unit
from devmodels.exports.vhost_server import VhostUserServer
from devmodels.exports.vhost_user_blk import USUAL_QUEUE_SIZE, UnixAddress
from devmodels.iocontext import IoContext, IoThread
from devmodels.iothreads import IoThreads, VqMapping
from devmodels.memory import GuestMemory, memory_name
from devmodels.options import OptionError, shown
from devmodels.protocols.vhost_user import MAX_QUEUES
from devmodels.runstate import RunState
from devmodels.scsi.backed import BackedUnit
from devmodels.scsi.disk import DiskOptions
from devmodels.scsi.statefile import StateFile
from devmodels.virtio.constants import EVENT_IDX, INDIRECT_DESC, MAX_QUEUE_SIZE, VERSION_1
from devmodels.virtio_scsi import VirtioScsi, VirtioScsiOptions
from devmodels.virtio_scsi.layout import FIRST_REQUEST_QUEUE, MAX_LUN, MAX_TARGET
from devmodels.virtio_scsi.making import virtio_scsi

_MOST = MAX_QUEUES - FIRST_REQUEST_QUEUE


class VhostUserScsiOptions(ScsiUnitExportOptions, frozen=True, kw_only=True):
    """Options of `--export type=vhost-user-scsi`.

    `scsi_id` and `lun` are the unit's place, `num_queues` the host's request queues (1 where no export says more).
    `iothread`, `iothread_vq_mapping`: the threads of the host's request queues, as its first export says.
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
    iothread: str | None = None
    iothread_vq_mapping: list[VqMapping] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iothread is not None and self.iothread_vq_mapping is not None:
            raise ValueError("iothread and iothread-vq-mapping cannot be set at the same time")

    def disk(self) -> DiskOptions:
        """The disk's own options; ValueError."""
        return msgspec.structs.replace(super().disk(), reservations=self.reservations)


def host_device(
    path: str,
    num_queues: int,
    *,
    context: IoContext,
    memory: GuestMemory,
    profile: Profile,
    threads: Sequence[IoThread] = (),
) -> VirtioScsi:
    """The host device of the exports with the socket at `path`."""
    return virtio_scsi(
        VirtioScsiOptions(
            num_queues=num_queues,
            virtqueue_size=MAX_QUEUE_SIZE,
            seg_max=USUAL_QUEUE_SIZE - 2,
            packed=True,
            queue_reset=False,
        ),
        threads,
        name=path,
        context=context,
        memory=memory,
        violations=ViolationLog(profile),
        core_features=VERSION_1 | INDIRECT_DESC | EVENT_IDX,
    )


def export_unit(
    options: VhostUserScsiOptions,
    node: BlockNode,
    host: VirtioScsi,
    *,
    run_state: RunState,
    open_state: Callable[[IoContext, str], StateFile] = StateFile,
) -> BackedUnit:
    """The logical unit of an export, not plugged yet; OSError or ValueError where what it keeps cannot be had."""
    backend = export_backend(options, node, run_state)
    name = f"{options.addr.path},{options.scsi_id},{options.lun}"
    try:
        return make_unit(options, backend, name, host.violations, open_state)
    except BaseException:
        backend.close()
        raise


class HostOptions(msgspec.Struct, rename="kebab", frozen=True):
    """What a trace has of a host."""

    type: Literal["vhost-user-scsi"]
    addr: UnixAddress
    num_queues: int


class Host:
    """A host device at a socket, as long as it has a logical unit."""

    def __init__(
        self, path: str, num_queues: int, context: IoContext, profile: Profile, threads: Sequence[IoThread]
    ) -> None:
        """OptionError where the socket cannot be bound."""
        memory = GuestMemory(name=memory_name(path))
        self.device = host_device(
            path, num_queues, context=context, memory=memory, profile=profile, threads=threads
        )
        try:
            self.server = VhostUserServer(path, self.device)
        except OSError as error:
            reason = error.strerror or error
            raise OptionError(f"addr.path: cannot listen at {path!r}: {reason}") from None


class Hosts:
    """Hosts by the path of their socket."""

    def __init__(self, context: IoContext, iothreads: IoThreads) -> None:
        self._context = context
        self._iothreads = iothreads
        self.by_path: dict[str, Host] = {}

    def host(self, options: VhostUserScsiOptions, profile: Profile, *, recorded: bool) -> Host:
        """The host at the socket, made where this is its first export; OptionError where they do not go together.

        What is `recorded` has no threads.
        """
        path = options.addr.path
        host = self.by_path.get(path)
        if host is None:
            return self._new(options, profile, recorded=recorded)
        if options.iothread is not None or options.iothread_vq_mapping is not None:
            raise OptionError(f"iothread: the first export of {shown(path)} says which threads it has")
        queues = host.device.options.num_queues
        if options.num_queues not in (None, queues):
            raise OptionError(f"num-queues: {options.num_queues} is given; {shown(path)} has {queues}")
        target = host.device.bus.targets.get(options.scsi_id)
        if target is not None and options.lun in target.units:
            raise OptionError(
                f"lun: {options.lun} of scsi-id {options.scsi_id} is given; {shown(path)} has one already"
            )
        return host

    def _new(self, options: VhostUserScsiOptions, profile: Profile, *, recorded: bool) -> Host:
        path, queues = options.addr.path, options.num_queues or 1
        wanted = (None, None) if recorded else (options.iothread, options.iothread_vq_mapping)
        try:
            threads = self._iothreads.take(_user(path), queues, *wanted)
            return Host(path, queues, self._context, profile, threads)
        except OptionError:
            self.release(path)
            raise

    def release(self, path: str) -> None:
        """The host is gone, and its threads may go."""
        self._iothreads.release(_user(path))


def _user(path: str) -> str:
    """What a host is called as a user of threads."""
    return f"host {shown(path)}"


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
        recorder: HostRecorder | None = None,
    ) -> None:
        """OptionError where the socket cannot be bound, the place is taken, or the image cannot be had."""
        self.options = options
        self._hosts = hosts
        self._recorder = recorder
        self._host = host = hosts.host(options, profile, recorded=recorder is not None)
        self.device = host.device
        try:
            self._unit = export_unit(options, node, host.device, run_state=run_state)
        except BaseException as error:
            self._without_unit(error)
        self.backend = self._unit.backend
        try:
            self.device.plug(options.scsi_id, options.lun, self._unit, self._appearing)
        except BaseException as error:
            self.backend.close()
            self._without_unit(error)
        hosts.by_path[options.addr.path] = host

    def _without_unit(self, error: BaseException) -> NoReturn:
        """There is no unit, and no host where it would have been the first one."""
        if not self.device.bus.targets:
            self._host.server.close()
            self._hosts.release(self.options.addr.path)
        if isinstance(error, OSError):
            raise OptionError(f"node-name: {error.strerror or error}") from None
        raise error

    def _appearing(self) -> None:
        """The unit is about to be there."""
        if self._recorder is None:
            return
        host = self.device
        if not host.bus.targets:
            options = HostOptions("vhost-user-scsi", self.options.addr, host.options.num_queues)
            self._recorder.watch_host(msgspec.to_builtins(options), host)
        self._recorder.watch_unit(msgspec.to_builtins(self.options), host, self._unit)

    @property
    def connected(self) -> bool:
        """Whether a front end is there, or its last request still runs."""
        return self._host.server.connected

    def close(self, then: Callable[[], None]) -> None:
        """Take the logical unit away, the last one with its host; `then` is called when its tasks have ended."""

        last = len(list(self.device.bus.units())) == 1

        def over() -> None:
            if last:
                self._hosts.release(self.options.addr.path)
            if self._recorder is not None:
                self._recorder.unit_gone(self.device, self._unit)
            self._unit.close()
            self.backend.close()
            then()

        def remove() -> None:
            if self._recorder is not None:
                self._recorder.unit_leaves(self._unit)
            self.device.unplug(self.options.scsi_id, self.options.lun, over)

        if last:
            del self._hosts.by_path[self.options.addr.path]
            self._host.server.close(remove)
        else:
            remove()

"""The `vhost-user-blk` export: options with QEMU's names, and the device that they describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec

from devmodels.blockbackend import BlockNode
from devmodels.blockbackend.errorpolicy import OnReadError, OnWriteError
from devmodels.conformance import Profile, ViolationLog
from devmodels.exports.backend import export_backend
from devmodels.exports.vhost_server import VhostUserServer
from devmodels.iocontext import IoThread
from devmodels.iothreads import VqMapping
from devmodels.memory import GuestMemory, memory_name
from devmodels.options import OptionError
from devmodels.protocols.vhost_user import MAX_QUEUES
from devmodels.runstate import RunState
from devmodels.virtio.constants import EVENT_IDX, INDIRECT_DESC, MAX_QUEUE_SIZE, VERSION_1
from devmodels.virtio_blk import VirtioBlk, VirtioBlkOptions
from devmodels.virtio_blk.config import Lifetime
from devmodels.virtio_blk.making import virtio_blk

USUAL_QUEUE_SIZE = 128
"""Front ends choose the queues' size themselves; this is what they commonly choose, and seg_max fits."""


class UnixAddress(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    """Where an export listens."""

    type: Literal["unix"]
    path: Annotated[str, msgspec.Meta(min_length=1, description="the path of a UNIX socket")]


class VhostUserBlkOptions(
    msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """Options of `--export type=vhost-user-blk`.

    Ours beyond QEMU's: `serial` (up to 20 bytes), `size_max` (bytes; 0: any), `secure_erase`, `lifetime`, and what
    QEMU's devices have: `rerror` and `werror`, where nothing is said errors are reported, as QEMU's export does; and
    `iothread-vq-mapping`.
    """

    type: Literal["vhost-user-blk"]
    id: str
    node_name: str
    addr: UnixAddress
    writable: bool = False
    writethrough: bool = False
    logical_block_size: int = 512
    num_queues: int = 1
    serial: str = "devmodels"
    size_max: int = 0
    secure_erase: bool = False
    lifetime: Lifetime | None = None
    rerror: OnReadError = "report"
    werror: OnWriteError = "report"
    iothread: str | None = None
    iothread_vq_mapping: list[VqMapping] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.num_queues <= MAX_QUEUES:
            raise ValueError(f"num-queues: {self.num_queues} is given; expected 1 to {MAX_QUEUES}")
        size = self.logical_block_size
        if size & (size - 1) or not 512 <= size <= 65536:
            raise ValueError(
                f"logical-block-size: {size} is given; expected a power of two from 512 to 65536"
            )
        if not 0 <= self.size_max < 1 << 32:
            raise ValueError(f"size-max: {self.size_max} is given; expected 0 to 4294967295")
        if len(self.serial.encode()) > 20:
            raise ValueError(f"serial: {self.serial!r} is given; expected at most 20 bytes")
        if self.iothread is not None and self.iothread_vq_mapping is not None:
            raise ValueError("iothread and iothread-vq-mapping cannot be set at the same time")


def vhost_user_blk(
    options: VhostUserBlkOptions,
    node: BlockNode,
    *,
    profile: Profile,
    run_state: RunState | None = None,
    threads: Sequence[IoThread] = (),
) -> VhostUserServer:
    """Offer `node` on the context it belongs to, with queues on `threads` if any.

    OptionError where the socket cannot be bound.

    While `run_state` is stopped requests are held: the guest itself cannot be stopped from here.
    """
    device = vhost_user_blk_device(options, node, profile=profile, run_state=run_state, threads=threads)
    try:
        return VhostUserServer(options.addr.path, device)
    except BaseException as error:
        device.backend.close()
        if not isinstance(error, OSError):
            raise
        reason = error.strerror or error
        raise OptionError(f"addr.path: cannot listen at {options.addr.path!r}: {reason}") from None


def vhost_user_blk_device(
    options: VhostUserBlkOptions,
    node: BlockNode,
    *,
    profile: Profile,
    run_state: RunState | None = None,
    threads: Sequence[IoThread] = (),
    memory: GuestMemory | None = None,
) -> VirtioBlk:
    """The device of such an export, without its socket; `memory`, empty if not given, is to be the front end's."""
    backend = export_backend(options, node, run_state)
    blk_options = VirtioBlkOptions(
        num_queues=options.num_queues,
        queue_size=MAX_QUEUE_SIZE,
        seg_max=USUAL_QUEUE_SIZE - 2,
        logical_block_size=options.logical_block_size,
        physical_block_size=options.logical_block_size,
        serial=options.serial,
        size_max=options.size_max,
        secure_erase=options.secure_erase,
        lifetime=options.lifetime,
        packed=True,
        queue_reset=False,
    )
    try:
        return virtio_blk(
            backend,
            blk_options,
            threads,
            name=options.id,
            context=backend.context,
            memory=GuestMemory(name=memory_name(options.id)) if memory is None else memory,
            violations=ViolationLog(profile),
            core_features=VERSION_1 | INDIRECT_DESC | EVENT_IDX,
        )
    except BaseException:
        backend.close()
        raise


class VhostUserBlkExport:
    """The export as one of several: its server, and its device's way to the node."""

    def __init__(self, server: VhostUserServer) -> None:
        assert isinstance(server.device, VirtioBlk)
        self.server = server
        self.device = server.device
        self.backend = server.device.backend

    @property
    def connected(self) -> bool:
        """Whether a front end is there, or its last request still runs."""
        return self.server.connected

    def close(self, then: Callable[[], None]) -> None:
        """End it, its front end too."""
        self.server.close(then)

"""`devmodels serve`: block nodes and exports on one wall-clock context, until a signal ends it."""

from __future__ import annotations

import logging
import select
import signal
import socket
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Literal

import msgspec

from devmodels.blockbackend import BlockBackend, BlockNode, open_node
from devmodels.blockbackend.opening import DRIVERS
from devmodels.conformance import Profile, Violation, ViolationLog
from devmodels.exports.vhost_user import MAX_QUEUES, VhostUserServer
from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.options import OptionError, coerce, convert, parse_keyval
from devmodels.virtio.constants import EVENT_IDX, INDIRECT_DESC, VERSION_1
from devmodels.virtio_blk import VirtioBlk, VirtioBlkOptions

log = logging.getLogger("devmodels.serve")

VIOLATIONS_LOGGED = 20
"""How many violations of one export are logged; more are only counted."""

VHOST_QUEUE_SIZE = 128
VHOST_MAX_RING = 32768


class UnixAddress(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    """Where an export listens."""

    type: Literal["unix"]
    path: str


class VhostUserBlkOptions(
    msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """Options of `--export type=vhost-user-blk`, with QEMU's names."""

    type: Literal["vhost-user-blk"]
    id: str
    node_name: str
    addr: UnixAddress
    writable: bool = False
    writethrough: bool = False
    logical_block_size: int = 512
    num_queues: int = 1
    serial: str = "devmodels"

    def __post_init__(self) -> None:
        if not 1 <= self.num_queues <= MAX_QUEUES:
            raise ValueError(f"num-queues is {self.num_queues}, expected 1 to {MAX_QUEUES}")


def log_to_stderr(*, verbose: bool) -> None:
    """Log lines of `devmodels` to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("devmodels: %(message)s"))
    logger = logging.getLogger("devmodels")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


class Server:
    """The daemon: nodes by name, exports by id."""

    def __init__(self, *, poll_max_ns: int, strict: bool) -> None:
        self.context = IoContext.wall()
        self.context.poll_max_ns = poll_max_ns
        self._profile = Profile.STRICT if strict else Profile.LENIENT
        self._nodes: dict[str, BlockNode] = {}
        self._exports: dict[str, VhostUserServer] = {}
        self._stopping = False

    def add_blockdev(self, text: str) -> None:
        """Open a block node; OptionError where it cannot be."""
        options = _decode(text, "--blockdev")
        if not text.lstrip().startswith("{"):
            driver = DRIVERS.get(str(options.get("driver")))
            if driver is not None:
                options = coerce(options, driver.Options)
        if "node-name" not in options:
            raise OptionError("--blockdev: option node-name is missing")
        node = open_node(options, self.context)
        if node.node_name in self._nodes:
            node.close()
            raise OptionError(f"--blockdev: node name {node.node_name!r} is taken")
        self._nodes[node.node_name] = node

    def add_export(self, text: str) -> None:
        """Start an export; OptionError where it cannot be."""
        options = _decode(text, "--export")
        if options.get("type") != "vhost-user-blk":
            raise OptionError(f"--export: type {options.get('type')!r}, expected 'vhost-user-blk'")
        if not text.lstrip().startswith("{"):
            options = coerce(options, VhostUserBlkOptions)
        checked = convert(options, VhostUserBlkOptions, what="--export")
        node = self._nodes.get(checked.node_name)
        if node is None:
            known = ", ".join(sorted(self._nodes)) or "none"
            raise OptionError(f"--export: no node {checked.node_name!r}; the nodes are: {known}")
        if checked.id in self._exports:
            raise OptionError(f"--export: id {checked.id!r} is taken")
        if checked.writable and node.read_only:
            raise OptionError(f"--export: writable=on, but node {checked.node_name!r} is read-only")
        self._exports[checked.id] = self._start(checked, node)

    def _start(self, checked: VhostUserBlkOptions, node: BlockNode) -> VhostUserServer:
        backend = BlockBackend(
            node, name=checked.id, write_cache=not checked.writethrough, read_only=not checked.writable
        )
        memory = GuestMemory()
        try:
            blk = VirtioBlkOptions(
                num_queues=checked.num_queues,
                queue_size=VHOST_MAX_RING,
                seg_max=VHOST_QUEUE_SIZE - 2,
                logical_block_size=checked.logical_block_size,
                physical_block_size=checked.logical_block_size,
                serial=checked.serial,
                queue_reset=False,
            )
        except ValueError as error:
            raise OptionError(f"--export: {error}") from None
        device = VirtioBlk(
            backend,
            blk,
            name=checked.id,
            context=self.context,
            memory=memory,
            violations=ViolationLog(self._profile, _limited_log(checked.id)),
            core_features=VERSION_1 | INDIRECT_DESC | EVENT_IDX,
        )
        device.modern_only = False
        try:
            return VhostUserServer(checked.addr.path, device, memory, self.context)
        except OSError as error:
            raise OptionError(f"--export: addr.path {checked.addr.path!r}: {error.strerror}") from error

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        previous = signal.set_wakeup_fd(theirs.fileno())
        handlers = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
        self.context.watch(ours.fileno(), select.EPOLLIN, lambda _events: self.stop())
        try:
            while not self._stopping:
                self.context.run_once()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous)
            self.context.unwatch(ours.fileno())
            ours.close()
            theirs.close()

    def stop(self) -> None:
        """Leave `run` after this turn."""
        self._stopping = True

    def close(self) -> None:
        """End every export, let what runs come back, close the nodes."""
        for export in self._exports.values():
            export.close()
        self.context.run_until_idle()
        for node in self._nodes.values():
            node.close()
        self.context.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ignore(_number: int, _frame: object) -> None:
    """The wake-up descriptor does the work."""


def _decode(text: str, option: str) -> dict[str, object]:
    try:
        if text.lstrip().startswith("{"):
            return msgspec.json.decode(text, type=dict[str, object])
        return parse_keyval(text)
    except msgspec.DecodeError as error:
        raise OptionError(f"{option}: {error}; expected a JSON object or key=value pairs") from None
    except OptionError as error:
        raise OptionError(f"{option}: {error}") from None


def _limited_log(name: str) -> Callable[[Violation], None]:
    seen = 0

    def report(violation: Violation) -> None:
        nonlocal seen
        seen += 1
        if seen <= VIOLATIONS_LOGGED:
            log.warning("%s: %s", name, violation)
        if seen == VIOLATIONS_LOGGED:
            log.warning("%s: further violations are only counted", name)

    return report

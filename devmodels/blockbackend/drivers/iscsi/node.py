"""`iscsi`: block requests as SCSI commands for one logical unit, and what becomes of them as block requests.

Follows SBC-4.  What a unit cannot do is found out once: pages of vital product data say what it claims, and a command
that it does not know is not sent again.
"""

from __future__ import annotations

import errno
import logging
import secrets as random
from collections.abc import Callable, Mapping
from typing import ClassVar

import msgspec

from devmodels.blockbackend.drivers.iscsi import commands
from devmodels.blockbackend.drivers.iscsi.connection import SECOND
from devmodels.blockbackend.drivers.iscsi.establishing import Way
from devmodels.blockbackend.drivers.iscsi.execution import Commands
from devmodels.blockbackend.drivers.iscsi.login import Identity, LoginFailedError
from devmodels.blockbackend.drivers.iscsi.options import DIGESTS, IscsiOptions, check, parse_portal
from devmodels.blockbackend.drivers.iscsi.retrying import CheckConditionError
from devmodels.blockbackend.drivers.iscsi.sense import Sense
from devmodels.blockbackend.drivers.iscsi.sense import parse as parse_sense
from devmodels.blockbackend.drivers.iscsi.session import Patience, Session, reason_of
from devmodels.blockbackend.drivers.iscsi.task import Task
from devmodels.blockbackend.drivers.iscsi.transport import TcpTransport, Transport
from devmodels.blockbackend.drivers.iscsi.unit import (
    Unit,
    WrongUnitError,
    examine,
    read_capacity,
    read_modes,
)
from devmodels.blockbackend.node import BlockLimits, BlockNode, unsupported
from devmodels.blockbackend.options import BlockOptionError, NodeOptions
from devmodels.blockbackend.passthrough import Direction, PassthroughRequest
from devmodels.blockbackend.request import HAS_FUA, HAS_MAY_UNMAP, HAS_NO_FALLBACK, Request
from devmodels.blockbackend.status import BlockStatus, Status, stored
from devmodels.blockbackend.throttling import ThrottleGroup
from devmodels.iocontext import Coro, IoContext
from devmodels.options import OptionError, shown
from devmodels.protocols.iscsi.chap import Credentials
from devmodels.scsi.asc import RESERVATION_CODES, RESET_OR_LOSS, Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import parameters
from devmodels.scsi.lun import format_lun
from devmodels.secretobjects import Secrets

log = logging.getLogger("devmodels.iscsi")

OPEN_NS = 30 * SECOND
"""How long opening may take, login and all."""

MAX_TRANSFER = 1 << 24
"""Longest read or write in bytes, whatever the unit takes."""

STATUS_DESCRIPTORS = 64
"""LBA status descriptors that are asked for at a time."""

RANDOM_ISID = 0x80
"""First byte of an ISID that somebody has made up (RFC 7143 §11.12.5)."""

_STATUS_HEADER = Layout(parameters.LBA_STATUS_HEADER)
_STATUS = Layout(parameters.LBA_STATUS_DESCRIPTOR)
_DEALLOCATED, _ANCHORED = 1, 2


class IscsiNode(BlockNode):
    """A logical unit of a target.  Its size is its own: it follows what the unit says."""

    Options: ClassVar[type[NodeOptions]] = IscsiOptions

    transport: ClassVar[Transport] = TcpTransport()

    def __init__(self, options: IscsiOptions, context: IoContext) -> None:
        super().__init__(options, context, 0)
        self._given = options
        self._identity = Identity(
            options.initiator_name, options.target, bytes([RANDOM_ISID]) + random.token_bytes(5)
        )
        self._session: Session | None = None
        self._credentials: Credentials | None = None
        self._refreshing: object | None = None
        """What stands for the look at the unit that is under way."""
        self._commands: Commands
        self.unit: Unit

    @classmethod
    def open(
        cls,
        options: NodeOptions,
        context: IoContext,
        children: Mapping[str, BlockNode],  # noqa: ARG003
    ) -> BlockNode:
        """A node that is not connected yet; BlockOptionError where the options contradict each other."""
        assert isinstance(options, IscsiOptions)
        check(options)
        return cls(options, context)

    def bind(self, objects: Mapping[str, ThrottleGroup], secrets: Secrets) -> None:  # noqa: ARG002
        """Find the secrets."""
        given = self._given
        if given.user is None:
            return
        secret = _secret(secrets, "password-secret", given.password_secret)
        other = b""
        if given.target_user is not None:
            other = _secret(secrets, "target-password-secret", given.target_password_secret)
            if other == secret:
                raise BlockOptionError(
                    "$.target-password-secret: the secrets are the same; expected another one"
                )
        self._credentials = Credentials(given.user, secret, given.target_user or "", other)

    # --- open, moved, closed

    async def prepare(self) -> None:
        """Log in and see what the unit is; BlockOptionError where that cannot be."""
        given = self._given
        host, port = parse_portal(given.portal)
        digests = {"HeaderDigest": DIGESTS[given.header_digest], "DataDigest": DIGESTS[given.data_digest]}
        way = Way(self.transport, host, port, self._identity, digests, self._credentials)
        patience = Patience(given.timeout * SECOND, given.reconnect_delay * SECOND)
        lun = int.from_bytes(format_lun(given.lun), "big")
        self._session = Session(
            self.context, way, lun, patience, self._attention, name=f"{self.node_name} ({given.target})"
        )
        self._commands = Commands(self._session, self._hear)
        late = self.context.call_at(self.context.now_ns() + OPEN_NS, self._session.close)
        try:
            await self._look(self._session)
        except (OSError, LoginFailedError, WrongUnitError) as error:
            too_late = late.callback is None
            raise self._cannot_open("it takes too long" if too_late else reason_of(error)) from None
        finally:
            late.cancel()

    def _cannot_open(self, why: str) -> BlockOptionError:
        where = f"LUN {self._given.lun} of {self._given.target} at {self._given.portal}"
        return BlockOptionError(f"$.portal: cannot open {where}: {why}")

    async def _look(self, session: Session) -> None:
        await session.open()
        self.unit = await examine(self._commands.ask)
        if self.unit.modes.write_protected and not self.read_only:
            if not self.options.auto_read_only:
                raise WrongUnitError("it is write-protected; expected with it read-only or auto-read-only")
            self.read_only = True
        self.size = self.unit.capacity.size
        self._set_limits()

    def _set_limits(self) -> None:
        unit, block = self.unit, self.unit.capacity.block_size
        limits, ways = unit.limits, unit.provisioning
        longest = min(limits.max_transfer or MAX_TRANSFER, MAX_TRANSFER // block) * block
        granularity = max(limits.unmap_granularity, 1) * block
        zeroes = limits.max_write_same or (commands.MAX_10 if not self._knows_write_same_16 else 1 << 31)
        unmaps = limits.max_unmap if ways.unmap else zeroes
        self.limits = BlockLimits(
            request_alignment=block,
            max_transfer=longest,
            pdiscard_alignment=granularity,
            pwrite_zeroes_alignment=block,
            max_pwrite_zeroes=min(zeroes, commands.MAX_BLOCKS) * block,
            max_pdiscard=min(unmaps or commands.MAX_BLOCKS, commands.MAX_BLOCKS) * block,
        )

    def _reopen(self, before: NodeOptions) -> None:  # noqa: ARG002
        """A unit that is write-protected cannot be written."""
        if self.unit.modes.write_protected and not self.read_only:
            if not self.options.auto_read_only:
                raise BlockOptionError("$.read-only: false is given; the logical unit is write-protected")
            self.read_only = True

    def moved(self, context: IoContext) -> None:
        """The session goes there, too."""
        super().moved(context)
        if self._session is not None:
            self._session.move(context)
        if self._refreshing is not None:
            # What the unit was being asked ends there, and is asked here.
            self._refreshing = None
            context.call_soon(self._ask_again)

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()

    @property
    def can_unmap(self) -> bool:
        """Whether the unit takes space back."""
        ways = self.unit.provisioning
        return self.unit.capacity.provisioned and (ways.unmap or ways.write_same_16 or ways.write_same_10)

    def cancel(self, wanted: Callable[[Request], bool]) -> None:
        """End what was sent for `wanted` requests: the target is asked to abort it."""
        if self._session is not None:
            self._session.cancel(
                lambda task: task.request is not None and all(map(wanted, task.request.roots()))
            )

    # --- what the unit says by itself

    async def _hear(self, sense: Sense) -> None:
        """A unit attention condition: look again at what it is about."""
        if sense.key != SenseKey.UNIT_ATTENTION:
            return
        log.info("node %r: %s", self.node_name, sense)
        if sense.code in (Asc.CAPACITY_DATA_CHANGED, Asc.MEDIUM_MAY_HAVE_CHANGED):
            await self._refresh(self._refresh_capacity)
        elif sense.code == Asc.MODE_PARAMETERS_CHANGED:
            await self._refresh(self._refresh_modes)
        elif sense.code in RESERVATION_CODES or sense.code >> 8 == RESET_OR_LOSS:
            self.attention(sense.code)

    async def _refresh(self, look: Callable[[], Coro[None]]) -> None:
        if self._refreshing is not None or not hasattr(self, "unit"):
            return
        self._refreshing = this = object()
        try:
            await look()
        except (OSError, WrongUnitError) as error:
            log.warning("node %r: cannot look at it again: %s", self.node_name, reason_of(error))
        finally:
            if self._refreshing is this:
                self._refreshing = None

    async def _refresh_capacity(self) -> None:
        capacity = await read_capacity(self._commands.ask)
        before = self.unit.capacity
        if capacity.block_size != before.block_size:
            raise WrongUnitError(
                f"its blocks have {capacity.block_size} bytes now, {before.block_size} before"
            )
        self.unit = msgspec.structs.replace(self.unit, capacity=capacity)
        if capacity.size != self.size:
            self._resized(capacity.size)

    async def _refresh_modes(self) -> None:
        self.unit = msgspec.structs.replace(self.unit, modes=await read_modes(self._commands.ask))

    def _ask_again(self) -> None:
        self.context.start(self._refresh(self._refresh_capacity))

    def _attention(self, data: bytes) -> None:
        """An asynchronous message with sense data."""
        sense = parse_sense(data)
        if sense is not None:
            self.context.start(self._hear(sense))

    # --- block requests

    def _blocks(self, request: Request) -> tuple[int, int]:
        block = self.unit.capacity.block_size
        return request.offset // block, request.length // block

    async def read(self, request: Request) -> None:
        """READ."""
        cdb = commands.read(*self._blocks(request))
        length = request.length
        task = await self._commands.execute(
            lambda: Task(cdb, vectors=request.vectors, reads=length, request=request)
        )
        if task.received != length:
            raise OSError(errno.EIO, f"the target has sent {task.received} of {length} bytes")

    async def write(self, request: Request) -> None:
        """WRITE, with FUA where the unit knows it, else with a flush behind it."""
        stable = HAS_FUA[request.flags] and not self.options.cache.no_flush
        fua = stable and self.unit.modes.fua
        cdb = commands.write(*self._blocks(request), fua=fua)
        task = await self._commands.do(request, cdb, request.vectors, request.length)
        if task.residual:
            # Of parameter data targets leave what they have no use for; of what is to be written nothing may be left.
            raise OSError(errno.EIO, f"the target has left {task.residual} of {request.length} bytes")
        if stable and not fua:
            await self._synchronize(request)

    async def flush(self, request: Request) -> None:
        """SYNCHRONIZE CACHE."""
        if not self.options.cache.no_flush:
            await self._synchronize(request)

    async def _synchronize(self, request: Request) -> None:
        if not await self._commands.attempt(request, commands.synchronize_cache()) and self.unit.modes.cached:
            raise OSError(errno.EIO, "the target has a cache, and cannot synchronize it")

    async def discard(self, request: Request) -> None:
        """UNMAP, or WRITE SAME that unmaps."""
        unit = self.unit
        if not unit.capacity.provisioned:
            raise unsupported(request.op)
        lba, count = self._blocks(request)
        if unit.provisioning.unmap:
            cdb, data = commands.unmap([(lba, count)])
            if await self._commands.attempt(request, cdb, [memoryview(data)], len(data)):
                return
        if not await self._write_same(request, lba, count, unmap=True):
            raise unsupported(request.op)

    async def write_zeroes(self, request: Request) -> None:
        """WRITE SAME of zeroes, which unmaps where it may and what is unmapped reads as zeroes."""
        unit = self.unit
        may = HAS_MAY_UNMAP[request.flags] and unit.capacity.provisioned and unit.capacity.zeroes
        lba, count = self._blocks(request)
        done = may and await self._write_same(request, lba, count, unmap=True)
        if not done:
            if HAS_NO_FALLBACK[request.flags]:
                # The target may write them out: it does not say.
                raise unsupported(request.op)
            if not await self._write_same(request, lba, count, unmap=False):
                raise unsupported(request.op)
        if HAS_FUA[request.flags] and not self.options.cache.no_flush:
            await self._synchronize(request)

    @property
    def _knows_write_same_16(self) -> bool:
        return commands.WRITE_SAME_16 not in self._commands.unknown

    async def _write_same(self, request: Request, lba: int, count: int, *, unmap: bool) -> bool:
        """Zeroes by WRITE SAME (16), or (10) where only that is known; False where neither is."""
        ways, zeroes = self.unit.provisioning, bytes(self.unit.capacity.block_size)
        block = [memoryview(zeroes)]
        if self._knows_write_same_16 and (ways.write_same_16 or not unmap):
            if self.unit.no_data:
                cdb = commands.write_same_16(lba, count, unmap=unmap, no_data=True)
                return await self._commands.attempt(request, cdb)
            cdb = commands.write_same_16(lba, count, unmap=unmap, no_data=False)
            if await self._commands.attempt(request, cdb, block, len(zeroes)):
                return True
        if (unmap and not ways.write_same_10) or lba + count > 1 << 32:
            return False
        for at in range(0, count, commands.MAX_10):
            length = min(commands.MAX_10, count - at)
            cdb = commands.write_same_10(lba + at, length, unmap=unmap)
            if not await self._commands.attempt(request, cdb, block, len(zeroes)):
                return False
        return True

    async def block_status(self, request: Request) -> BlockStatus:
        """GET LBA STATUS; without it all is data."""
        whole = stored(self, Status.DATA, request.offset, request.length)
        if not self.unit.capacity.provisioned or commands.LBA_STATUS in self._commands.unknown:
            return whole
        lba, count = self._blocks(request)
        size = _STATUS_HEADER.size + STATUS_DESCRIPTORS * _STATUS.size
        try:
            said = await self._commands.ask(commands.get_lba_status(lba, size), size)
        except CheckConditionError as refused:
            if refused.unknown:
                self._commands.unknown.add(commands.LBA_STATUS)
            return whole
        found, kind = _extent(said, lba)
        if not found:
            raise OSError(errno.EIO, "the target does not say what is at the block that was asked about")
        block = self.unit.capacity.block_size
        flags = Status.DATA
        if kind in (_DEALLOCATED, _ANCHORED):
            flags = Status.ZERO if self.unit.capacity.zeroes else Status.NONE
        return stored(self, flags, request.offset, min(found, count) * block)

    async def passthrough(self, request: Request) -> None:
        """Any command, once; status and sense data are for whoever sent it."""
        if not isinstance(request, PassthroughRequest):
            raise OSError(errno.EINVAL, "a request without a command")
        session = self._session
        assert session is not None
        command = request.command
        length = command.length
        out = command.direction is Direction.TO_DEVICE
        task = Task(
            command.cdb,
            vectors=command.vectors,
            reads=length if command.direction is Direction.FROM_DEVICE else 0,
            writes=length if out else 0,
            once=True,
            request=request,
        )
        await session.execute(task)
        command.status = task.status
        command.sense = task.sense[: command.max_sense]
        command.residual = task.residual if out else length - task.received

    async def truncate(self, size: int) -> None:
        """Look again how large the unit is; ENOTSUP where that is not `size`."""
        await self._refresh_capacity()
        if size != self.size:
            raise OSError(
                errno.ENOTSUP, f"the logical unit has {self.size} bytes, and cannot be resized from here"
            )


def _secret(secrets: Secrets, option: str, name: str | None) -> bytes:
    assert name is not None
    try:
        return secrets[name]
    except OptionError as error:
        raise BlockOptionError(f"$.{option}: {shown(name)} is given; {error}") from None


def _extent(said: bytes, lba: int) -> tuple[int, int]:
    """How many blocks from `lba` on are alike, and what they are (PROVISIONING STATUS); 0 where it is not said."""
    count, kind = 0, -1
    for at in range(_STATUS_HEADER.size, len(said) - _STATUS.size + 1, _STATUS.size):
        fields = _STATUS.unpack(said, at)
        if fields["lba"] != lba + count or (count and fields["provisioning"] != kind):
            break
        kind = fields["provisioning"]
        count += fields["number_of_blocks"]
    return count, kind

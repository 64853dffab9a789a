"""`file`: a disk in a regular file, byte for byte (options as QEMU's driver of that name).

Reads that are not long are tried inline: preadv2(2) with RWF_NOWAIT gives what is in the page cache; the rest is read
by a worker.  So are writes, where the file system can say what would wait (XFS, btrfs; tmpfs never waits; ext4 cannot).
What is left of them, flushes and changes of allocation go to workers with `aio=threads` and are done inline with
`aio=sync`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec

from devmodels.blockbackend.drivers import linux, locking
from devmodels.blockbackend.drivers.file_writes import IOV_MAX, WriteQueue
from devmodels.blockbackend.drivers.linux import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE
from devmodels.blockbackend.drivers.locking import Permission
from devmodels.blockbackend.node import SECTOR, BlockLimits, BlockNode
from devmodels.blockbackend.options import BlockOptionError, NodeOptions
from devmodels.blockbackend.request import HAS_FUA, HAS_MAY_UNMAP, HAS_NO_FALLBACK, Read, Request, WriteEnded
from devmodels.blockbackend.status import BlockStatus, Status, stored
from devmodels.blockbackend.vectors import ZEROES, clear, window
from devmodels.iocontext import ClockKind, IoContext, WorkerShare

T = TypeVar("T")


INLINE_MAX = 256 << 10
"""The longest read, in bytes, that is tried inline: copying takes 25 us, about what a worker's help costs."""

_NO_NOWAIT = {errno.EOPNOTSUPP, errno.EINVAL}
_NO_DSYNC = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
UNSUPPORTED = {
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.EINVAL,
    errno.ENODEV,
    errno.EPERM,
    errno.EBUSY,
}


_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


class FileOptions(NodeOptions, frozen=True, kw_only=True):
    """`filename`; `aio`: who does what may block; `locking`: image locks (auto: where the host has them)."""

    filename: Annotated[str, msgspec.Meta(min_length=1)]
    aio: Literal["threads", "sync", "io_uring"] = "threads"
    locking: Literal["auto", "on", "off"] = "auto"


class FileNode(BlockNode):
    """A raw image in a regular file; a last sector that the file has only in part ends in zeroes."""

    Options: ClassVar[type[NodeOptions]] = FileOptions
    CHANGEABLE = BlockNode.CHANGEABLE | {"force_share"}

    def __init__(self, options: FileOptions, context: IoContext, fd: int) -> None:
        super().__init__(options, context, self._size_of(fd))
        self.limits = BlockLimits(pdiscard_alignment=os.fstat(fd).st_blksize)
        self._filename = options.filename
        self._descriptor = linux.Descriptor(fd)
        self._fd = fd
        self._share = WorkerShare()
        self._inline = options.aio == "sync"
        # tmpfs knows no RWF_NOWAIT and needs none.
        self._nowait = 0 if self._inline or linux.in_memory(fd) else os.RWF_NOWAIT
        self._write_nowait: int | None = None
        """The flag with which writes are tried at once; None where they are not, or where that flag changes nothing."""
        self._writes: WriteQueue | None = None
        """Where writes wait for workers, unless each may have one of its own."""
        self._choose_ways()
        self._no_flush = options.cache.no_flush
        self._locks = _locks(fd, options)
        self._lost_writes = 0
        """The errno of a failed write-back: the page cache may claim to be clean, so no later flush can succeed."""

    def _choose_ways(self) -> None:
        """How writes are done, by the options and the context."""
        workers = self.context.kind is ClockKind.WALL and not self._inline
        self._write_nowait = self._nowait if workers or self._inline else None
        self._writes = WriteQueue(self.context, self._descriptor, self._transfer) if workers else None

    def moved(self, context: IoContext) -> None:
        """Workers are the context's."""
        super().moved(context)
        self._choose_ways()

    @staticmethod
    def _size_of(fd: int) -> int:
        """The disk's size in bytes: the file's, rounded up to whole sectors."""
        return -(-os.fstat(fd).st_size // SECTOR) * SECTOR

    @staticmethod
    def _expects(fd: int) -> str:
        """What `filename` should have named, where it has not."""
        return "" if stat.S_ISREG(os.fstat(fd).st_mode) else "a regular file"

    @classmethod
    def open(
        cls,
        options: NodeOptions,
        context: IoContext,
        children: Mapping[str, BlockNode],  # noqa: ARG003
    ) -> BlockNode:
        """Open the image, and lock it where it is active from the beginning; BlockOptionError where that fails."""
        assert isinstance(options, FileOptions)
        options, fd = _open(options, cls._expects)
        try:
            node = cls._kind(options, context)(options, context, fd)
            if options.active:
                try:
                    node.activate(node, write=not options.read_only)
                except OSError as error:
                    raise BlockOptionError(f"$.filename: {error.strerror}") from None
        except BaseException:
            os.close(fd)
            raise
        return node

    def _use(self, *, read: bool, write: bool) -> None:
        """Lock as QEMU does for a disk of a guest: readers share the image, a writer has it alone."""
        if self._locks is not None and self._fd >= 0:
            used = {Permission.CONSISTENT_READ} if read else set()
            shared = set(Permission)
            if write:
                used.add(Permission.WRITE)
            if read and not self.options.force_share:
                shared.remove(Permission.WRITE)
            try:
                self._locks.change(used, shared)
            except OSError as error:
                text = f"cannot lock {self._filename!r}: {error.strerror}"
                raise OSError(error.errno, text) from None
        if read and not self._users and self._fd >= 0:
            # Whoever had it before may have given it another size.
            size = self._size_of(self._fd)
            if size != self.size:
                self._resized(size)

    @classmethod
    def _kind(cls, options: FileOptions, context: IoContext) -> type[FileNode]:
        if options.aio != "io_uring":
            return cls._variant(direct=True) if options.cache.direct else cls
        if options.cache.direct:
            raise BlockOptionError(
                '$.aio: "io_uring" is given with cache.direct; expected one of "threads", "sync"'
            )
        if context.kind is not ClockKind.WALL:
            return cls
        try:
            context.uring()
        except OSError as error:
            raise BlockOptionError(f'$.aio: "io_uring" is given; {error.strerror}') from None
        return cls._variant(direct=False)

    @classmethod
    def _variant(cls, *, direct: bool) -> type[FileNode]:
        """The class for `cache.direct`, or for io_uring."""
        from devmodels.blockbackend.drivers import file_aio  # which is made of this class

        return file_aio.DirectFileNode if direct else file_aio.UringFileNode

    def _reopen(self, before: NodeOptions) -> None:
        """Where it may be written now, or no longer: another descriptor of the same file, and other locks."""
        options = self.options
        assert isinstance(options, FileOptions)
        if (options.read_only, options.force_share) == (before.read_only, before.force_share):
            return
        flags = os.O_CLOEXEC | (os.O_DIRECT if options.cache.direct else 0)
        try:
            fd = os.open(
                f"/proc/self/fd/{self._fd}", flags | (os.O_RDONLY if options.read_only else os.O_RDWR)
            )
        except OSError as error:
            if before.read_only and _falls_back(options, error):
                self.options, self.read_only = msgspec.structs.replace(options, read_only=True), True
                return
            raise BlockOptionError(f"$.read-only: cannot open {self._filename!r}: {error.strerror}") from None
        users = dict(self._users)
        if self in users:
            users[self] = not options.read_only
        locks = self._locks
        if locks is not None:
            # Two descriptors of one file would keep each other out.
            locks.change(set(), set(Permission))
            self._locks = locking.ImageLocks(fd)
        try:
            self._use(read=bool(users), write=any(users.values()))
        except OSError as error:
            self.options, self._locks = before, locks
            self._use(read=bool(self._users), write=any(self._users.values()))
            os.close(fd)
            raise BlockOptionError(f"$.read-only: {error.strerror}") from None
        self._users = users
        self._descriptor.close()
        self._descriptor, self._fd = linux.Descriptor(fd), fd
        self._choose_ways()

    def _close(self) -> None:
        """Give up the image and its locks, once workers are done with it."""
        self._fd = -1
        self._descriptor.close()

    async def _blocking(self, function: Callable[[], T]) -> T:
        """Run what may block where `aio` says."""
        job = self._descriptor.job(function)
        return job() if self._inline else await self.context.worker(job, self._share)

    @property
    def can_unmap(self) -> bool:
        """With `discard=unmap`, on a file system that can punch holes."""
        return self.options.discard == "unmap"

    # --- reading

    def read_now(self, reads: Sequence[Read]) -> int:
        """What the page cache has."""
        preadv, fd, flags = os.preadv, self._fd, self._nowait
        done = 0
        try:
            for offset, vectors, length in reads:
                if length > INLINE_MAX or preadv(fd, vectors, offset, flags) != length:
                    break
                done += 1
        except OSError:
            pass  # Told when it comes again.
        return done

    async def read(self, request: Request) -> None:
        """What the page cache has at once, the rest by a worker."""
        length = request.length
        try:
            done = (
                os.preadv(self._fd, request.vectors, request.offset, self._nowait)
                if length <= INLINE_MAX
                else 0
            )
        except OSError:
            done = 0
        if done != length:
            await self._read_rest(request, done)

    async def _read_rest(self, request: Request, done: int) -> None:
        await self._blocking(partial(self._read_by_worker, request, done))

    def _read_by_worker(self, request: Request, done: int) -> None:
        rest = window(request.vectors, done, request.length - done)
        while rest:
            count = os.preadv(self._descriptor.fd, rest[:IOV_MAX], request.offset + done)
            if not count:
                clear(rest)
                return
            done += count
            rest = window(rest, count, request.length - done)

    # --- writing

    @property
    def writes_now(self) -> bool:
        """With `aio=sync`, and where the file system writes what needs no waiting."""
        return self._write_nowait is not None

    def write_now(self, offset: int, vectors: Sequence[memoryview], length: int) -> bool:
        """What the page cache takes."""
        nowait = self._write_nowait
        if nowait is None:
            return False
        return self._write_at_once(vectors, offset, length, nowait) == length

    def begin_write(
        self,
        offset: int,
        vectors: Sequence[memoryview],
        length: int,
        request: Request,
        ended: WriteEnded,
    ) -> bool:
        """What a queue takes, for whoever does the work."""
        writes = self._writes
        if writes is None or self._write_nowait is not None or offset + length > self.size:
            return False
        writes.waiting.append((vectors, offset, length, request, ended))
        if not writes.here:
            writes.look_after()
        return True

    async def write(self, request: Request) -> None:
        """Write; with FUA through to stable storage."""
        vectors, offset, length = request.vectors, request.offset, request.length
        if offset + length > self.size:
            self._grow(offset + length)
        if HAS_FUA[request.flags] and not self._no_flush:
            await self._write_through(vectors, offset)
            return
        if self._write_nowait is not None:
            done = self._write_at_once(vectors, offset, length, self._write_nowait)
            if done == length:
                return
            offset, vectors = offset + done, window(vectors, done, length - done)
        if self._writes is not None:
            await self._writes.write(request, vectors, offset)
        else:
            await self._put(vectors, offset, 0)

    def _grow(self, end: int) -> None:
        """A user that may resize the disk changes what lies beyond its end: the file will grow."""
        self._resized(-(-end // SECTOR) * SECTOR)

    async def _write_through(self, vectors: Sequence[memoryview], offset: int) -> None:
        try:
            await self._put(vectors, offset, os.RWF_DSYNC)
        except OSError as error:
            if error.errno in _NO_DSYNC:
                await self._put(vectors, offset, 0)
                await self._sync()
                return
            if error.errno == errno.EIO:
                self._lost(error)
            raise

    async def _put(self, vectors: Sequence[memoryview], offset: int, flags: int) -> None:
        """Write all of `vectors`, with `flags` of pwritev2(2)."""
        await self._blocking(partial(self._transfer, vectors, offset, flags))

    def _write_at_once(self, vectors: Sequence[memoryview], offset: int, length: int, nowait: int) -> int:
        """Write what can be written without waiting; how many bytes that is."""
        if length > INLINE_MAX or len(vectors) > IOV_MAX:
            return 0
        try:
            return os.pwritev(self._fd, vectors, offset, nowait)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _NO_NOWAIT:
                raise
            self._write_nowait = None
            self.changed()  # Nobody need try again.
            return 0

    def _transfer(self, vectors: Sequence[memoryview], offset: int, flags: int) -> None:
        """Write all of `vectors`, with `flags` of pwritev2(2)."""
        rest = list(vectors)
        left = sum(map(len, rest))
        while left:
            count = os.pwritev(self._descriptor.fd, rest[:IOV_MAX], offset, flags)
            offset += count
            left -= count
            rest = window(rest, count, left)

    async def flush(self, request: Request) -> None:  # noqa: ARG002
        """fdatasync(2), unless `cache.no-flush` is on."""
        if not self._no_flush:
            await self._sync()

    async def _sync(self) -> None:
        if self._lost_writes:
            raise OSError(self._lost_writes, "an earlier write-back failed; what it lost is not known")
        try:
            await self._datasync()
        except OSError as error:
            self._lost(error)
            raise

    async def _datasync(self) -> None:
        await self._blocking(lambda: os.fdatasync(self._descriptor.fd))

    def _lost(self, error: OSError) -> None:
        """Write-back failed: the kernel may have marked the lost pages clean."""
        self._lost_writes = error.errno or errno.EIO

    # --- allocation

    async def discard(self, request: Request) -> None:
        """Punch a hole, where the file system can."""
        if request.length:
            await self._blocking(partial(self._discard, request.offset, request.length))

    def _discard(self, offset: int, length: int) -> None:
        try:
            linux.fallocate(self._descriptor.fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise

    async def write_zeroes(self, request: Request) -> None:
        """Zero a range: by a hole where that is allowed, by allocated zeroes, or by writing them."""
        unmap = HAS_MAY_UNMAP[request.flags]
        if request.offset + request.length > self.size:
            unmap = False  # A hole makes no file grow.
            self._grow(request.offset + request.length)
        if request.length:
            fallback = not HAS_NO_FALLBACK[request.flags]
            await self._blocking(partial(self._write_zeroes, request.offset, request.length, unmap, fallback))
            if HAS_FUA[request.flags] and not self._no_flush:
                await self._sync()

    def _write_zeroes(self, offset: int, length: int, unmap: bool, fallback: bool) -> None:
        modes = [FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE] if unmap else []
        modes.append(FALLOC_ZERO_RANGE)
        if offset >= os.fstat(self._descriptor.fd).st_size:
            modes.append(0)  # What is new is zero.
        for mode in modes:
            try:
                linux.fallocate(self._descriptor.fd, mode, offset, length)
                break
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
        else:
            if not fallback:
                raise OSError(errno.ENOTSUP, "zeroes can only be written out")
            self._overwrite(offset, length)

    def _overwrite(self, offset: int, length: int) -> None:
        zeroes = memoryview(ZEROES)
        for at in range(offset, offset + length, len(ZEROES)):
            self._transfer([zeroes[: offset + length - at]], at, 0)

    async def secure_erase(self, request: Request) -> None:
        """Overwrite in place and sync.  A copy-on-write file system may keep the old blocks all the same."""
        await self._blocking(partial(self._overwrite, request.offset, request.length))
        if not self._no_flush:
            await self._sync()

    async def block_status(self, request: Request) -> BlockStatus:
        """Where the file has holes, by lseek(2)."""
        return await self._blocking(partial(self._find_status, request.offset, request.length))

    def _find_status(self, offset: int, length: int) -> BlockStatus:
        allocated, end = linux.allocation(self._descriptor.fd, offset)
        pnum = min(length, end - offset) if end else length
        return stored(self, Status.DATA if allocated else Status.ZERO, offset, pnum)

    async def truncate(self, size: int) -> None:
        """Cut or grow the file."""
        await self._blocking(partial(os.ftruncate, self._descriptor.fd, size))
        self._resized(size)

    def truncate_now(self, size: int) -> None:
        """Cut the file, inline: that takes no data to be written."""
        os.ftruncate(self._fd, size)
        self._resized(-(-size // SECTOR) * SECTOR)


def _open(options: FileOptions, expects: Callable[[int], str]) -> tuple[FileOptions, int]:
    """The image's descriptor, and the options, which say `read_only` where `auto_read_only` has come to that."""
    flags = os.O_CLOEXEC | (os.O_RDONLY if options.read_only else os.O_RDWR)
    if options.cache.direct:
        flags |= os.O_DIRECT
    try:
        # O_NONBLOCK: opening a FIFO by mistake must not wait for its other end.
        fd = os.open(options.filename, flags | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        if _falls_back(options, error):
            return _open(msgspec.structs.replace(options, read_only=True), expects)
        if options.cache.direct and isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise BlockOptionError(
                f"$.cache.direct: true is given; the file system of {options.filename!r} has no O_DIRECT"
            ) from None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BlockOptionError(f"$.filename: cannot open {options.filename!r}: {reason}") from None
    try:
        expected = expects(fd)
    except OSError as error:
        expected = f"something else ({error.strerror})"
    if expected:
        os.close(fd)
        raise BlockOptionError(f"$.filename: {options.filename!r} is given; expected {expected}")
    return options, fd


def _falls_back(options: FileOptions, error: Exception) -> bool:
    """Whether `auto-read-only` makes an image read-only that could not be opened for writing."""
    wanted = options.auto_read_only and not options.read_only
    return wanted and isinstance(error, OSError) and error.errno in _NOT_WRITABLE


def _locks(fd: int, options: FileOptions) -> locking.ImageLocks | None:
    """The image's locks, or None where there are to be none."""
    if options.locking == "off":
        return None
    if not locking.supported(fd):
        if options.locking == "on":
            raise BlockOptionError(f'$.locking: "on" is given; no such locks on {options.filename!r}')
        return None
    return locking.ImageLocks(fd)

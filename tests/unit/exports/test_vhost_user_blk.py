"""The vhost-user-blk export as a whole: what a front end sees of its options, and a disk that is read and written."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devmodels.blockbackend import open_node
from devmodels.conformance import Profile
from devmodels.exports.vhost_server import VhostUserServer
from devmodels.exports.vhost_user_blk import VhostUserBlkOptions, vhost_user_blk
from devmodels.iocontext import IoContext
from devmodels.options import OptionError, convert

from . import frontend as fe
from .frontend import GUEST_BASE, FrontEnd, Ring

SIZE = 1 << 20
RO, BLK_SIZE, FLUSH, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES = (1 << bit for bit in (5, 6, 9, 11, 12, 13, 14))
SIZE_MAX, LIFETIME, SECURE_ERASE = (1 << bit for bit in (1, 15, 16))
IN, OUT, GET_ID = 0, 1, 8


class Disk:
    """An export of a memory node of 1 MiB, and a front end's requests to it."""

    def __init__(self, server: VhostUserServer, front_end: FrontEnd) -> None:
        self.server = server
        self.front_end = front_end

    @property
    def features(self) -> int:
        return self.front_end.number(fe.GET_FEATURES)

    def config(self, offset: int, layout: str) -> int:
        """One field of the configuration space."""
        size = struct.calcsize(layout)
        answer = self.front_end.ask(fe.GET_CONFIG, struct.pack("<III", offset, size, 0) + bytes(size))
        return int(struct.unpack(layout, answer[12:])[0])

    def start(self, index: int = 0) -> Ring:
        self.front_end.introduce()
        self.front_end.set_features(fe.F_PROTOCOL | fe.F_VERSION_1 | FLUSH | (self.features & MQ))
        self.front_end.share()
        ring = Ring(self.front_end.memory)
        self.front_end.start(index, ring)
        return ring

    def request(
        self, ring: Ring, kind: int, sector: int, data: bytes, *, index: int = 0
    ) -> tuple[int, bytes, int]:
        """One request with its data at 64 KiB: status, data afterwards, used length."""
        memory = self.front_end.memory.bytes
        header, payload, status = 0x8000, 0x10000, 0x9000
        memory[header : header + 16] = struct.pack("<IIQ", kind, 0, sector)
        memory[payload : payload + len(data)] = data
        memory[status] = 0xFF
        chain = [
            (header, 16, 1, 1),
            (payload, len(data), 1 if kind == OUT else 3, 2),
            (status, 1, 2, 0),
        ]
        for number, (offset, length, flags, following) in enumerate(chain):
            entry = struct.pack("<QIHH", GUEST_BASE + offset, length, flags, following)
            memory[ring.desc + 16 * number : ring.desc + 16 * number + 16] = entry
        struct.pack_into("<H", memory, ring.avail + 4 + 2 * (ring.avail_idx % ring.size), 0)
        ring.avail_idx += 1
        struct.pack_into("<H", memory, ring.avail + 2, ring.avail_idx)
        self.front_end.kick(index)
        ((head, length),) = ring.taken_back()
        assert head == 0
        return memory[status], bytes(memory[payload : payload + len(data)]), length


MEMORY: dict[str, object] = {"driver": "memory", "size": SIZE, "discard": "unmap"}


@contextmanager
def disk(
    folder: Path, *, node_options: dict[str, object] = MEMORY, name: str = "e0", **given: object
) -> Iterator[Disk]:
    context = IoContext.virtual()
    node = open_node({"node-name": "d0", **node_options}, context)
    address = {"type": "unix", "path": str(folder / f"{name}.sock")}
    words: dict[str, object] = {"type": "vhost-user-blk", "id": name, "node-name": "d0", "addr": address}
    words |= {option.replace("_", "-"): value for option, value in given.items()}
    server = vhost_user_blk(convert(words, VhostUserBlkOptions, what="export"), node, profile=Profile.STRICT)
    front_end = FrontEnd(Path(server.path), context)
    try:
        yield Disk(server, front_end)
    finally:
        front_end.close()
        server.close()
        context.run_until_idle()
        node.close()
        context.close()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    with disk(tmp_path, writable=True) as found:
        ring = found.start()
        assert found.request(ring, OUT, 7, b"hello" * 512)[0] == 0
        assert found.request(ring, IN, 7, bytes(2560)) == (0, b"hello" * 512, 2561)
        assert found.server.device.violations.total == 0


def test_every_queue_carries_requests(tmp_path: Path) -> None:
    with disk(tmp_path, num_queues=256) as found:
        assert found.features & MQ
        assert found.config(34, "<H") == 256
        assert found.front_end.number(fe.GET_QUEUE_NUM) == 256
        ring = found.start(255)
        assert found.request(ring, IN, 0, bytes(512), index=255)[0] == 0


def test_serial_number(tmp_path: Path) -> None:
    with disk(tmp_path, serial="a serial number") as found:
        assert found.request(found.start(), GET_ID, 0, bytes(20))[1] == b"a serial number".ljust(20, b"\0")


def test_serial_number_that_is_not_given_is_not_empty(tmp_path: Path) -> None:
    with disk(tmp_path) as found:
        assert found.request(found.start(), GET_ID, 0, bytes(20))[1].strip(b"\0")


def test_export_is_read_only_unless_it_is_writable(tmp_path: Path) -> None:
    with disk(tmp_path) as found:
        assert found.features & (RO | DISCARD | WRITE_ZEROES) == RO
        assert found.request(found.start(), OUT, 0, bytes(512))[0] == 1


def test_writable_export_can_discard_and_write_zeroes(tmp_path: Path) -> None:
    with disk(tmp_path, writable=True) as found:
        wanted = BLK_SIZE | FLUSH | CONFIG_WCE | DISCARD | WRITE_ZEROES
        assert found.features & (RO | wanted) == wanted


def test_capacity_and_block_size(tmp_path: Path) -> None:
    with disk(tmp_path, logical_block_size=4096) as found:
        assert found.config(0, "<Q") == SIZE // 512
        assert found.config(20, "<I") == 4096


def test_features_that_are_asked_for(tmp_path: Path) -> None:
    lifetime = {"pre-eol-info": 1, "device-lifetime-est-typ-a": 2, "device-lifetime-est-typ-b": 3}
    with disk(tmp_path, writable=True) as found:
        assert not found.features & (SIZE_MAX | LIFETIME | SECURE_ERASE)
    with disk(tmp_path, writable=True, size_max=8192, secure_erase=True, lifetime=lifetime) as found:
        assert found.features & (SIZE_MAX | LIFETIME | SECURE_ERASE) == SIZE_MAX | LIFETIME | SECURE_ERASE
        assert found.config(8, "<I") == 8192


@pytest.mark.parametrize("writethrough", [False, True])
def test_write_cache_at_the_start(tmp_path: Path, writethrough: bool) -> None:
    with disk(tmp_path, writable=True, writethrough=writethrough) as found:
        assert found.config(32, "<B") == (not writethrough)


def test_socket_that_cannot_be_bound_is_an_option_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^addr.path: cannot listen at "), disk(tmp_path / "nowhere"):
        pass

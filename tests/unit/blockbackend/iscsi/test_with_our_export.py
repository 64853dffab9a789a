"""A disk over our own export: what is done to one end is seen at the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devmodels.blockbackend import BlockOptionError, Flags, Op
from devmodels.blockbackend.drivers.iscsi.node import IscsiNode
from devmodels.blockbackend.status import Status
from tests.unit.exports.iscsi.initiator import SIZE, World

from .ours import open_disk

Make = Callable[..., World]
SECRET = b"twelve bytes: secret"


def node_of(world: World) -> IscsiNode:
    node = world.graph["i0"]
    assert isinstance(node, IscsiNode)
    return node


DIGESTS = [("none-crc32c", "none"), ("crc32c", "crc32c"), ("crc32c-none", "none-crc32c"), ("none", "crc32c")]


@pytest.mark.parametrize(("header", "data"), DIGESTS)
def test_what_is_written_is_read_back(world: World, header: str, data: str) -> None:
    disk = open_disk(world, header_digest=header, data_digest=data)
    assert disk.node.size == SIZE
    payload = bytes(range(256)) * 4096
    assert disk.write(SIZE - len(payload), payload) == 0
    assert disk.read(SIZE - len(payload), len(payload)) == payload
    assert disk.read(0, 4096) == bytes(4096)


def test_parts_of_blocks_are_written_into_them(make: Make) -> None:
    world = make(logical_block_size=4096)
    disk = open_disk(world)
    assert disk.node.limits.request_alignment == 4096
    assert disk.write(0, b"a" * 8192) == 0
    assert disk.write(4000, b"b" * 200) == 0
    assert disk.read(3990, 220) == b"a" * 10 + b"b" * 200 + b"a" * 10


def test_scattered_memory_is_filled_and_sent(world: World) -> None:
    disk = open_disk(world)
    payload = bytes(range(251)) * 2048
    payload = payload[: len(payload) // 512 * 512]
    assert disk.wait(disk.submit(Op.WRITE, 1 << 20, data=payload, cut=1000)) == 0
    request = disk.submit(Op.READ, 1 << 20, len(payload), cut=777)
    assert disk.wait(request) == 0
    assert b"".join(request.vectors) == payload


def test_zeroes_discards_and_what_is_where(world: World) -> None:
    disk = open_disk(world)
    assert disk.node.can_unmap
    assert disk.write(0, b"x" * (1 << 20)) == 0
    assert disk.do(Op.WRITE_ZEROES, 1000, 500_000) == 0
    assert disk.read(0, 1 << 20) == b"x" * 1000 + bytes(500_000) + b"x" * ((1 << 20) - 501_000)
    assert disk.do(Op.DISCARD, 524288, 131072) == 0
    request = disk.submit(Op.BLOCK_STATUS, 524288, 262144)
    assert disk.wait(request) == 0
    assert (request.status.flags & (Status.ZERO | Status.DATA), request.status.pnum) == (Status.ZERO, 131072)
    request = disk.submit(Op.BLOCK_STATUS, 655360, 131072)
    assert disk.wait(request) == 0
    assert request.status.flags & (Status.ZERO | Status.DATA) == Status.DATA
    assert disk.do(Op.WRITE_ZEROES, 655360, 65536, flags=Flags.MAY_UNMAP | Flags.NO_FALLBACK) == 0
    assert disk.do(Op.WRITE_ZEROES, 655360, 65536, flags=Flags.NO_FALLBACK) != 0
    assert disk.do(Op.FLUSH) == 0
    assert disk.write(0, b"y" * 512, Flags.FUA) == 0


def test_a_disk_that_cannot_be_written_is_read_only(make: Make) -> None:
    world = make(writable=False)
    with pytest.raises(
        BlockOptionError, match="write-protected; expected with it read-only or auto-read-only"
    ):
        open_disk(world)
    disk = open_disk(world, auto_read_only=True)
    assert disk.node.read_only


def test_who_knows_the_secret_gets_in(make: Make) -> None:
    world = make(user="me", password_secret="secret")
    with pytest.raises(BlockOptionError, match=r"cannot open LUN 0 .*authentication"):
        open_disk(world)
    with pytest.raises(BlockOptionError, match="authentication failure"):
        open_disk(world, user="me", password_secret="other")
    assert open_disk(world, user="me", password_secret="secret").read(0, 512) == bytes(512)


def test_the_target_proves_who_it_is(make: Make) -> None:
    world = make(user="me", password_secret="secret", target_user="it", target_password_secret="other")
    wrong = {"qom-type": "secret", "id": "wrong", "data": "twelve bytes: wrong"}
    world.graph.object_add(wrong)
    mine = {"user": "me", "password_secret": "secret"}
    with pytest.raises(BlockOptionError, match="not who it should be"):
        open_disk(world, **mine, target_user="it", target_password_secret="wrong")
    with pytest.raises(BlockOptionError, match="not who it should be"):
        open_disk(world, **mine, target_user="him", target_password_secret="other")
    with pytest.raises(BlockOptionError, match="the secrets are the same"):
        open_disk(world, **mine, target_user="it", target_password_secret="secret")
    disk = open_disk(world, **mine, target_user="it", target_password_secret="other")
    assert disk.read(0, 512) == bytes(512)


def test_what_is_not_there_cannot_be_opened(world: World) -> None:
    with pytest.raises(BlockOptionError, match=r"cannot open LUN 0 of iqn.x:y at 127.0.0.1: .*not found"):
        open_disk(world, target="iqn.x:y")
    with pytest.raises(BlockOptionError, match=r"cannot open LUN 7 .*: there is no such logical unit$"):
        open_disk(world, lun=7)
    assert not world.export.target.sessions


def test_a_closed_node_leaves_no_session(world: World) -> None:
    disk = open_disk(world)
    assert len(world.export.target.sessions) == 1
    disk.backend.close()
    world.graph.delete("i0")
    world.context.run_until_idle()
    assert not world.export.target.sessions
    assert not world.violations


def test_another_size_is_noticed(world: World) -> None:
    disk = open_disk(world)
    sizes: list[int] = []
    disk.backend.add_resize_listener(sizes.append)
    below = world.graph["d0m"]
    world.context.run(below.truncate(SIZE // 2))
    world.context.run_until_idle()
    assert sizes == [SIZE // 2]
    assert disk.node.size == SIZE // 2

"""Commands of a disk, whoever its host adapter is."""

from __future__ import annotations

import struct

import pytest

from devmodels.ata import Error, Reset, Status
from devmodels.ata.constants import Transport
from tests.unit.ata.host import MIB, Host

OK = Status.DRDY | Status.DSC


def words(data: bytes) -> tuple[int, ...]:
    return struct.unpack("<256H", data)


def text(data: bytes, word: int, count: int) -> str:
    raw = bytearray(data[2 * word : 2 * (word + count)])
    raw[::2], raw[1::2] = raw[1::2], raw[::2]
    return raw.decode()


def test_identify_says_what_was_configured() -> None:
    with Host(
        8 * MIB, serial="SN1", ver="2.5", model="A DISK", wwn=0x5000C500_12345678, rotation_rate=7200
    ) as host:
        answer = host.do(0xEC)
        assert (answer.status, answer.error) == (OK, 0)
        assert text(answer.data, 10, 10) == "SN1".ljust(20)
        assert text(answer.data, 23, 4) == "2.5".ljust(8)
        assert text(answer.data, 27, 20) == "A DISK".ljust(40)
        found = words(answer.data)
        assert found[60] | found[61] << 16 == 16384
        assert found[100] | found[101] << 16 == 16384
        assert [f"{found[at]:04x}" for at in range(108, 112)] == ["5000", "c500", "1234", "5678"]
        assert found[217] == 7200
        assert sum(answer.data) & 0xFF == 0


@pytest.mark.parametrize(("logical", "physical", "word"), [(512, 4096, 0x6003), (4096, 4096, 0x5000)])
def test_sector_sizes(logical: int, physical: int, word: int) -> None:
    with Host(logical_block_size=logical, physical_block_size=physical) as host:
        found = words(host.do(0xEC).data)
        assert found[106] == word
        assert found[117] | found[118] << 16 == (logical // 2 if logical > 512 else 0)
        assert found[60] == MIB // logical


@pytest.mark.parametrize("blocks", [False, True])
def test_what_was_written_is_read_back_by_every_form(blocks: bool) -> None:
    with Host(blocks=blocks) as host:
        assert host.do(0xC6, count=4).status == OK
        forms = [
            (0x30, 0x20),
            (0x34, 0x24),
            (0xCA, 0xC8),
            (0x35, 0x25),
            (0x3D, 0x25),
            (0xC5, 0xC4),
            (0x39, 0x29),
        ]
        for number, (write, read) in enumerate(forms):
            data = bytes([number + 1]) * (5 * 512)
            assert host.do(write, lba=100, count=5, given=data).status == OK
            answer = host.do(read, lba=100, count=5)
            assert answer.data == data
        assert answer.moves == ([2048, 512] if blocks else [2560])


def test_a_count_of_0_is_the_most_there_can_be() -> None:
    with Host(64 * MIB) as host:
        assert len(host.do(0xC8, count=0).data) == 256 * 512
        assert len(host.do(0x25, count=0).data) == 65536 * 512


def test_an_address_by_cylinder_head_and_sector() -> None:
    with Host(8 * MIB, cyls=16, heads=16, secs=63) as host:
        host.do(0xCA, lba=(2 * 16 + 3) * 63 + 4, count=1, given=b"\xcc" * 512)
        assert host.do(0x20, device=0xA3, lba=2 << 8 | 5, count=1).data == b"\xcc" * 512
        assert host.do(0x20, device=0xA0, lba=0, count=1).error == Error.IDNF


def test_beyond_the_end_nothing_is_found() -> None:
    with Host() as host:
        answer = host.do(0x25, lba=2046, count=4)
        assert (answer.status, answer.error) == (OK | Status.ERR, Error.IDNF)
        assert answer.taskfile.lba == 2048
        assert not answer.data


@pytest.mark.parametrize("most", [0, 1023, 100, 7 * 512 + 1])
def test_a_sector_that_cannot_be_read_is_named(most: int) -> None:
    """However the guest's memory cuts the read into pieces."""
    bad: dict[str, object] = {
        "driver": "blkdebug",
        "node-name": "d0",
        "image": {"driver": "memory", "size": MIB},
    }
    bad["inject-error"] = [{"event": "none", "iotype": "read", "sector": 77, "errno": 5}]
    with Host(node=bad, most=most) as host:
        answer = host.do(0x25, lba=64, count=32)
        assert (answer.status, answer.error) == (OK | Status.ERR, Error.UNC)
        assert answer.taskfile.lba == 77
        assert host.do(0x42, lba=64, count=32).taskfile.lba == 77
        assert host.do(0xC8, lba=77, count=1).taskfile.lba28 == 77


def test_unknown_commands_are_aborted() -> None:
    with Host() as host:
        for opcode in (0x00, 0x01, 0xA0, 0xFF):
            answer = host.do(opcode)
            assert (answer.status, answer.error) == (OK | Status.ERR, Error.ABRT)


def test_the_write_cache_is_switched_at_run_time() -> None:
    with Host() as host:
        assert words(host.do(0xEC).data)[85] & 0x20
        assert host.do(0xEF, features=0x82).status == OK
        assert not host.backend.write_cache
        assert not words(host.do(0xEC).data)[85] & 0x20
        assert host.do(0xEF, features=0x02).status == OK
        assert host.backend.write_cache
        assert host.do(0xE7).status == host.do(0xEA).status == OK
        assert host.backend.stats.flush_operations >= 3


@pytest.mark.parametrize("opcode", [0xE7, 0xEA])
def test_a_flush_ends_when_all_is_stable(opcode: int) -> None:
    with Host() as host:
        host.backend.quiesce()
        outcome = host.start(opcode)
        host.context.run_until_idle()
        assert not outcome.over
        host.backend.unquiesce()
        host.context.run_until_idle()
        assert outcome.over
        assert outcome.status == OK
        assert host.backend.stats.flush_operations == 1


def test_an_unknown_feature_is_aborted() -> None:
    with Host() as host:
        assert host.do(0xEF, features=0x77).error == Error.ABRT


def test_the_transfer_mode_that_was_set_is_told() -> None:
    with Host() as host:
        assert host.do(0xEF, features=0x03, count=0x42).status == OK
        assert words(host.do(0xEC).data)[88] == 0x047F
        assert host.do(0xEF, features=0x03, count=0x22).status == OK
        found = words(host.do(0xEC).data)
        assert (found[63], found[88]) == (0x0407, 0x007F)
        assert host.do(0xEF, features=0x03, count=0x47).error == Error.ABRT


def test_a_queued_command_overtakes_one_that_takes_longer() -> None:
    slow = {"driver": "delay", "node-name": "d0", "read-ns": 10**6, "file": {"driver": "memory", "size": MIB}}
    with Host(node=slow) as host:
        first = host.start(0x60, features=1, lba=8, tag=3, count=3 << 3)
        second = host.start(0x61, features=1, lba=8, tag=4, count=4 << 3, given=bytes(512))
        while not second.over:
            assert host.context.turn()
        assert not first.over
        host.context.run_until_idle()
        assert first.status == second.status == OK


def test_ncq_commands_end_in_any_order_and_fail_together() -> None:
    with Host() as host:
        first = host.start(0x61, features=1, lba=8, tag=3, count=3 << 3, given=b"\x11" * 512)
        second = host.start(0x60, features=1, lba=8, tag=4, count=4 << 3)
        host.context.run_until_idle()
        assert first.over
        assert second.data == b"\x11" * 512
        bad = host.do(0x60, features=1, lba=5000, tag=5, count=5 << 3)
        assert bad.error == Error.IDNF
        assert host.do(0x60, features=1, lba=0, tag=6, count=6 << 3).error == Error.ABRT
        host.disk.reset(Reset.HARDWARE, lambda: None)
        assert host.do(0x60, features=1, lba=0, tag=6, count=6 << 3).status == OK
        host.assembly.run_state.stop()
        host.backend.quiesce()
        others = [host.start(0x61, features=1, tag=tag, count=tag << 3, given=bytes(512)) for tag in (1, 2)]
        assert host.do(0x60, features=1, lba=5000, tag=5, count=5 << 3).error == Error.IDNF
        assert [each.dropped for each in others] == [True, True]
        host.backend.unquiesce()


def test_a_disk_without_a_queue_has_no_queued_commands() -> None:
    for transport, depth in ((Transport.PARALLEL, 32), (Transport.SERIAL, 0)):
        with Host(queue_depth=depth) as host:
            host.disk.transport = transport
            for opcode in (0x60, 0x61, 0x63, 0x64):
                answer = host.do(opcode, features=1, given=bytes(512))
                assert (answer.status, answer.error) == (OK | Status.ERR, Error.ABRT)
                assert host.do(0xC8, count=1).status == OK


def test_a_tag_beyond_the_queue_is_an_error_of_the_queue() -> None:
    with Host(queue_depth=4) as host:
        assert host.do(0x60, features=1, tag=3, count=3 << 3).status == OK
        assert host.do(0x60, features=1, tag=4, count=4 << 3).error == Error.ABRT
        assert host.do(0x60, features=1, tag=0).error == Error.ABRT


def test_a_reset_drops_what_is_held_and_waits_for_what_runs() -> None:
    with Host() as host:
        host.assembly.run_state.stop()
        host.backend.quiesce()
        outcome = host.start(0x35, lba=1, count=1, given=b"\x77" * 512)
        done: list[int] = []
        host.disk.reset(Reset.SOFTWARE, lambda: done.append(1))
        assert outcome.dropped
        assert done
        host.backend.unquiesce()
        assert host.content(512, 512) == bytes(512)


@pytest.mark.parametrize("opcode", [0x20, 0x30])
def test_a_reset_drops_a_command_whose_host_has_not_moved_its_data(opcode: int) -> None:
    with Host() as host:
        host.begin = lambda command: None  # type: ignore[method-assign]
        outcome = host.start(opcode, lba=1, count=1)
        host.disk.reset(Reset.SOFTWARE, lambda: None)
        assert outcome.dropped
        assert not host.disk.in_flight

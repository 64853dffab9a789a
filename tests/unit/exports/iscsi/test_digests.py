"""Digests of headers and data (RFC 7143 §13.1, §7.8)."""

from __future__ import annotations

import pytest

from devmodels.protocols.iscsi import pdu
from devmodels.protocols.iscsi.codes import RejectReason
from devmodels.protocols.iscsi.digest import digest, digest_of
from devmodels.protocols.iscsi.pdu import Opcode

from .initiator import INQUIRY, NOBODY, TEST_UNIT_READY, Initiator, World, write_10

BOTH = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}
READ_COMMAND = bytes.fromhex(
    "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000"
)
PATTERN = bytes(range(256)) * 8


def ready(world: World, **keys: str) -> Initiator:
    initiator = world.login(keys={"InitialR2T": "No"} | keys)
    initiator.ready()
    return initiator


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(32), "aa36918a"),
        (b"\xff" * 32, "43aba862"),
        (bytes(range(32)), "4e79dd46"),
        (bytes(range(31, -1, -1)), "5cdb3f11"),
        (READ_COMMAND, "563a96d9"),
    ],
)
def test_the_examples_of_the_standard(data: bytes, expected: str) -> None:
    """RFC 7143 Appendix A.5."""
    assert digest(data).hex() == expected
    assert digest_of((data[:7], memoryview(data)[7:])).hex() == expected


@pytest.mark.parametrize("keys", [BOTH, {"HeaderDigest": "CRC32C"}, {"DataDigest": "CRC32C"}])
@pytest.mark.parametrize("length", [5, 36, 255])
def test_everything_has_digests_that_were_agreed_on(world: World, keys: dict[str, str], length: int) -> None:
    initiator = ready(world, **keys)
    initiator.command(INQUIRY[:4] + bytes((length, 0)), reads=length)
    assert len(initiator.receive().data) in (length, 96)
    initiator.command(write_10(0, 4), PATTERN[:512], flags=pdu.WRITE | 1, expected=2048)
    itt = initiator.itt
    initiator.data_out(itt, NOBODY, 0, 512, PATTERN[512:1029], final=False)
    initiator.data_out(itt, NOBODY, 1, 1029, PATTERN[1029:2048], final=True)
    assert initiator.receive()["status"] == 0
    assert initiator.read(0, 4) == PATTERN[:2048]


def test_a_wrong_digest_of_a_header_ends_the_connection(world: World) -> None:
    initiator = ready(world, **BOTH)
    initiator.command(TEST_UNIT_READY, broken="header")
    assert initiator.gone


def test_a_command_whose_data_is_wrong_is_rejected_and_can_come_again(world: World) -> None:
    initiator = ready(world, **BOTH)
    number = initiator.cmd_sn
    initiator.command(write_10(0, 1), PATTERN[:512], broken="data")
    found = initiator.receive()
    assert (found.opcode, found["reason"]) == (Opcode.REJECT, RejectReason.DATA_DIGEST_ERROR)
    assert found["exp_cmd_sn"] == number
    assert found.data[:4] == b"\x01\xa1\0\0"
    initiator.command(write_10(0, 1), PATTERN[:512], cmd_sn=number)
    assert initiator.receive()["status"] == 0


def test_a_command_ends_where_data_of_it_was_wrong(world: World) -> None:
    initiator = ready(world, **BOTH)
    itt = initiator.command(write_10(0, 2), PATTERN[:512], flags=pdu.WRITE | 1, expected=1024)
    initiator.data_out(itt, NOBODY, 0, 512, PATTERN[512:1024], final=True, broken="data")
    rejected, response = initiator.receive_all()
    assert rejected["reason"] == RejectReason.DATA_DIGEST_ERROR
    assert response.sense == (0xB, 0x4705)
    assert initiator.read(0, 2) == bytes(1024)


def test_long_data_in_many_reads_has_its_digest(world: World) -> None:
    initiator = ready(world, MaxRecvDataSegmentLength="262144", FirstBurstLength="262144", **BOTH)
    data = bytes(range(256)) * 1024
    initiator.command(write_10(0, 512), data)
    assert initiator.receive()["status"] == 0
    assert initiator.read(0, 512) == data

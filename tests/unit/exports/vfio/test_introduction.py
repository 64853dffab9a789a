"""Version, capabilities, and what a client finds out about the device."""

from __future__ import annotations

import errno
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.exports.vfio_user_session import GREETING_NS

from .client import (
    CONFIG,
    ERR,
    FEATURE,
    GET_INFO,
    INTX,
    IO_FDS,
    IRQ_INFO,
    MSI,
    MSIX,
    PROPOSAL,
    READ,
    REGION_INFO,
    REQ,
    VERSION,
    Client,
    World,
    access,
    greeting,
    message,
)
from .function import BAR_SIZE, IO_SIZE, MSIX_BAR, VECTORS

OURS = {
    "max_msg_fds": 16,
    "max_data_xfer_size": 1 << 20,
    "max_dma_maps": 1024,
    "pgsizes": 4096,
    "write_multiple": True,
}


def test_what_is_proposed_is_answered(world: World) -> None:
    with world.client(greeted=False) as client:
        assert client.greet(PROPOSAL) == OURS


@pytest.mark.parametrize("name", OURS)
def test_what_is_not_proposed_is_not_answered(world: World, name: str) -> None:
    with world.client(greeted=False) as client:
        assert client.greet({name: PROPOSAL[name]}) == {name: OURS[name]}
    with world.client(greeted=False) as client:
        assert name not in client.greet({key: value for key, value in PROPOSAL.items() if key != name})


def test_capabilities_that_nobody_knows_are_left_out(world: World) -> None:
    with world.client(greeted=False) as client:
        assert client.greet({"migration": {"pgsize": 4096}, "twin_socket": {"supported": True}}) == {}


@pytest.mark.parametrize("text", [b"", b"{}\0", b'{"capabilities": {}}\0', b'{"capabilities": null}\0'])
def test_a_client_without_capabilities(world: World, text: bytes) -> None:
    with world.client(greeted=False) as client:
        payload = client.ok(VERSION, struct.pack("<HH", 0, 1) + text)
        assert json.loads(payload[4:-1]) == {"capabilities": {}}


@pytest.mark.parametrize(("proposed", "agreed"), [(0, 0), (1, 1), (2, 1), (65535, 1)])
def test_the_lower_minor_version_is_spoken(world: World, proposed: int, agreed: int) -> None:
    with world.client(greeted=False) as client:
        payload = client.ok(VERSION, greeting({}, minor=proposed))
        assert struct.unpack_from("<HH", payload) == (0, agreed)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0",
        greeting({}, major=1),
        greeting({}, major=999),
        b"\0\0\1\0{}",
        b"\0\0\1\0{\0",
        b'\0\0\1\0"\0',
        b"\0\0\1\0[]\0",
        b'\0\0\1\0{"capabilities": "23"}\0',
        b'\0\0\1\0{"capabilities": {"max_msg_fds": "foo"}}\0',
        b'\0\0\1\0{"capabilities": {"max_msg_fds": -1}}\0',
        b'\0\0\1\0{"capabilities": {"max_data_xfer_size": 0}}\0',
        b'\0\0\1\0{"capabilities": {"max_data_xfer_size": -1}}\0',
        b'\0\0\1\0{"capabilities": {"write_multiple": 1}}\0',
        b"\0\0\1\0\xff\xfe\0",
        b"\0\0\1\0" + b"[" * 4000 + b"\0",
        b"\0\0\1\0" + b" " * 5000 + b"{}\0",
    ],
)
def test_a_wrong_introduction_ends_the_connection(world: World, payload: bytes) -> None:
    with world.client(greeted=False) as client:
        assert client.ask(VERSION, payload).error == errno.EINVAL
        assert client.gone()
    with world.client() as client:
        assert client.word(CONFIG, 0) == 0x5678_1234


@pytest.mark.parametrize("command", [GET_INFO, READ, 0, 11, 999])
def test_a_client_has_to_introduce_itself(world: World, command: int) -> None:
    with world.client(greeted=False) as client:
        assert client.ask(command, bytes(16)).error == errno.EINVAL
        assert client.gone()


def test_a_client_that_says_nothing_keeps_nobody_waiting(world: World) -> None:
    with world.client(greeted=False) as silent, world.client(greeted=False) as other:
        silent.put(message(VERSION, greeting({}))[:-1])
        world.context.step(GREETING_NS - 1)
        assert silent.silent()
        world.context.step(1)
        assert silent.gone()
        other.greet()
        world.context.step(2 * GREETING_NS)
        assert other.word(CONFIG, 0) == 0x5678_1234


def test_a_second_introduction_is_refused(client: Client) -> None:
    assert client.ask(VERSION, greeting({})).error == errno.ENOSYS


# --- information


def test_device_info(client: Client) -> None:
    """It can be reset, it is on PCI, has 9 regions and 5 kinds of interrupts."""
    assert client.ok(GET_INFO, struct.pack("<IIII", 16, 0, 0, 0)) == struct.pack("<IIII", 16, 3, 9, 5)
    assert client.ok(GET_INFO, struct.pack("<IIII", 64, 0, 0, 0)) == struct.pack("<IIII", 16, 3, 9, 5)


SIZES = {0: BAR_SIZE, 1: IO_SIZE, MSIX_BAR: 4096, CONFIG: 256}


@pytest.mark.parametrize("index", range(9))
def test_region_info(client: Client, index: int) -> None:
    size = SIZES.get(index, 0)
    answer = client.ok(REGION_INFO, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
    assert answer == struct.pack("<IIIIQQ", 32, 3 if size else 0, index, 0, size, index << 40)


KINDS = {INTX: (7, 1), MSI: (3, VECTORS), MSIX: (3, VECTORS), ERR: (1, 1), REQ: (0, 0)}


@pytest.mark.parametrize("index", range(5))
def test_irq_info(client: Client, index: int) -> None:
    """INTx masks itself; all but errors can be masked."""
    answer = client.ok(IRQ_INFO, struct.pack("<IIII", 16, 0, index, 0))
    assert answer == struct.pack("<IIII", 16, *KINDS[index][:1], index, *KINDS[index][1:])


def test_no_region_is_reached_by_descriptors(client: Client) -> None:
    assert client.ok(IO_FDS, struct.pack("<IIII", 16, 0, 0, 0)) == struct.pack("<IIII", 16, 0, 0, 0)
    assert client.ask(IO_FDS, struct.pack("<IIII", 16, 0, 9, 0)).error == errno.EINVAL
    assert client.ask(IO_FDS, struct.pack("<IIII", 16, 1, 0, 0)).error == errno.EINVAL


def test_no_feature_is_there(client: Client) -> None:
    """What QEMU takes for "not supported"."""
    assert client.ask(FEATURE, struct.pack("<II", 8, 1 << 18 | 1)).error == errno.EINVAL


@pytest.mark.parametrize("command", [GET_INFO, REGION_INFO, IRQ_INFO, IO_FDS])
def test_information_needs_room_and_its_length(client: Client, command: int) -> None:
    length = 32 if command == REGION_INFO else 16
    full = struct.pack("<I", length).ljust(length, b"\0")
    assert client.ask(command, full).error == 0
    for wrong in (struct.pack("<I", length - 1) + full[4:], full[:-1], full + b"\0", b""):
        assert client.ask(command, wrong).error == errno.EINVAL


@pytest.mark.parametrize("command", [REGION_INFO, IRQ_INFO])
@pytest.mark.parametrize("index", [9, 255, 0xFFFF_FFFF])
def test_what_is_not_there(client: Client, command: int, index: int) -> None:
    rest = bytes(20 if command == REGION_INFO else 4)
    assert client.ask(command, struct.pack("<III", 12 + len(rest), 0, index) + rest).error == errno.EINVAL


@pytest.mark.parametrize("command", [0, 11, 12, 14, 17, 18, 19, 999, 0xFFFF])
def test_unknown_commands_are_refused(client: Client, command: int) -> None:
    assert client.ask(command, bytes(100)).error == errno.ENOSYS
    assert client.word(CONFIG, 0) == 0x5678_1234


def test_ids_are_the_clients_own(client: Client) -> None:
    """They come back as they were, whatever they are and however often they were used."""
    for number in (0, 5, 5, 0xFFFF):
        client.put(message(READ, access(CONFIG, 0, 4), number=number))
        assert client.answer(number, READ).payload[16:] == b"\x34\x12\x78\x56"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
CAPABILITIES = st.dictionaries(st.sampled_from([*PROPOSAL, "twin_socket", "migration"]), JSON)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.builds(lambda found: json.dumps({"capabilities": found}).encode() + b"\0", CAPABILITIES),
        JSON.map(lambda found: json.dumps(found).encode() + b"\0"),
    )
)
def test_whatever_is_proposed_is_agreed_upon_or_refused(served: World, text: bytes) -> None:
    """What is agreed upon was proposed, and is ours."""
    with served.client(greeted=False) as client:
        answer = client.ask(VERSION, struct.pack("<HH", 0, 1) + text)
        if answer.error:
            assert answer.error == errno.EINVAL
            assert client.gone()
            return
        agreed = json.loads(answer.payload[4:-1])["capabilities"]
        proposed = json.loads(text.rstrip(b"\0") or b"{}").get("capabilities") or {}
        assert agreed.keys() <= proposed.keys()
        assert agreed.items() <= OURS.items()
        assert client.word(CONFIG, 0) == 0x5678_1234

"""What comes from other programs at sockets: vhost-user's front ends, vfio-user's clients, initiators, QMP clients."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from fuzz.target import Run
from fuzz.targets.of_hypothesis import any_of, machine_of, one_of, property_of


def vhost_user() -> Run:
    """Messages, descriptors, rings that are written meanwhile, front ends that leave; nothing is left of any."""
    return property_of(
        "tests.unit.exports.test_vhost_properties", "test_any_sequence_is_survived_without_a_trace"
    )


def vfio_user() -> Run:
    """Messages and descriptors, mappings, interrupts, accesses; the next client is served."""
    from tests.unit.exports.vfio import test_properties as tests
    from tests.unit.exports.vfio.client import World

    def served(pieces: list[tuple[bytes, list[int]]], *, greeted: bool) -> None:
        with TemporaryDirectory() as folder:
            world = World(Path(folder))
            try:
                tests.play(world, pieces, greeted=greeted)
                tests.check_served(world)
            finally:
                world.close()

    @given(st.lists(tests.messages(), max_size=20))
    def messages(pieces: list[tuple[bytes, list[int]]]) -> None:
        served(pieces, greeted=True)

    descriptors = st.lists(st.integers(0, 2), max_size=2)

    @given(st.lists(st.tuples(st.binary(max_size=80), descriptors), max_size=6), st.booleans())
    def stream(pieces: list[tuple[bytes, list[int]]], greeted: bool) -> None:
        served(pieces, greeted=greeted)

    return any_of(one_of(messages), one_of(messages), one_of(stream))


def iscsi() -> Run:
    """Initiators that do what they may and a little more, in any order, against an oracle of the numbers."""
    from tests.unit.exports.iscsi.machine import IscsiMachine

    return machine_of(IscsiMachine)


def iscsi_pdus() -> Run:
    """PDUs and bytes of any kind, logins that never end."""
    hostile = property_of(
        "tests.unit.exports.iscsi.test_hostile",
        "test_any_pdus_leave_the_target_well",
        "test_any_bytes_leave_the_target_well",
        "test_header_segments_are_read_or_refused",
    )
    login = property_of(
        "tests.unit.exports.iscsi.test_login_machine",
        "test_nobody_gets_in_without_the_secret",
        "test_no_login_grows_without_end",
    )
    return any_of(hostile, hostile, login)


def iscsi_target() -> Run:
    """The other way round: what a target says to our initiator, in any order; nobody waits for ever."""
    return property_of(
        "tests.unit.blockbackend.iscsi.test_hostile", "test_whatever_a_target_says_nobody_waits_for_ever"
    )


def http() -> Run:
    """Requests to the page of figures: whatever comes, the next client is served."""
    return property_of("tests.unit.telemetry.test_http", "test_whatever_comes_the_next_one_is_served")


def qmp() -> Run:
    """Commands with any arguments, and any bytes; each command is answered."""
    return property_of(
        "tests.unit.monitor.test_hostile",
        "test_any_command_with_any_arguments",
        "test_any_command_with_any_arguments",
        "test_any_bytes",
    )

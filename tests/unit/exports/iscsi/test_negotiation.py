"""Keys: what the target answers, and that both ends come to the same (RFC 7143 §6.2, §13)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.exports.iscsi.authentication import LoginRefusedError
from devmodels.exports.iscsi.negotiation import ACCEPTS, Negotiation
from devmodels.protocols.iscsi import keys, pdu
from devmodels.protocols.iscsi.codes import LoginStatus, Stage
from devmodels.protocols.iscsi.keys import (
    DISCOVERY_KEYS,
    KEYS,
    OBSOLETE_KEYS,
    Key,
    Parameters,
    Rule,
    Sender,
)
from devmodels.protocols.iscsi.pdu import Opcode
from devmodels.protocols.iscsi.text import TextError, join, split

from .initiator import LOGIN_KEYS, NOBODY, TARGET, World


def says(offers: dict[str, str], *, discovery: bool = False) -> dict[str, str]:
    """What the target answers to offers."""
    negotiation = Negotiation()
    if discovery:
        negotiation.answer([("SessionType", "Discovery")], Stage.SECURITY)
    answers = dict(negotiation.answer(list(offers.items()), Stage.OPERATIONAL))
    del answers["MaxRecvDataSegmentLength"]
    return answers


@pytest.mark.parametrize(
    ("key", "offer", "answer"),
    [
        ("HeaderDigest", "CRC32C,None", "CRC32C"),
        ("HeaderDigest", "None,CRC32C", "None"),
        ("DataDigest", "MD5,CRC32C", "CRC32C"),
        ("DataDigest", "MD5", "Reject"),
        ("DataDigest", "", "Reject"),
        ("MaxConnections", "1", "1"),
        ("MaxConnections", "65535", "8"),
        ("MaxConnections", "0", "Reject"),
        ("MaxConnections", "65536", "Reject"),
        ("InitialR2T", "No", "No"),
        ("InitialR2T", "Yes", "Yes"),
        ("InitialR2T", "yes", "Reject"),
        ("ImmediateData", "Yes", "Yes"),
        ("ImmediateData", "No", "No"),
        ("MaxBurstLength", "16776192", "262144"),
        ("MaxBurstLength", "512", "512"),
        ("MaxBurstLength", "0x400", "1024"),
        ("MaxBurstLength", "511", "Reject"),
        ("MaxBurstLength", "16777216", "Reject"),
        ("MaxBurstLength", "much", "Reject"),
        ("FirstBurstLength", "65536", "65536"),
        ("DefaultTime2Wait", "2", "2"),
        ("DefaultTime2Retain", "20", "0"),
        ("MaxOutstandingR2T", "16", "8"),
        ("DataPDUInOrder", "No", "Yes"),
        ("DataSequenceInOrder", "No", "Yes"),
        ("ErrorRecoveryLevel", "2", "0"),
        ("ErrorRecoveryLevel", "1", "0"),
        ("ErrorRecoveryLevel", "3", "Reject"),
        ("TaskReporting", "FastAbort,ResponseFence,RFC3720", "RFC3720"),
        ("iSCSIProtocolLevel", "2", "2"),
        ("iSCSIProtocolLevel", "1", "1"),
        ("IFMarker", "No", "No"),
        ("OFMarkInt", "1~65535", "Reject"),
        ("X-com.example.colour", "blue", "NotUnderstood"),
        ("RDMAExtensions", "Yes", "NotUnderstood"),
    ],
)
def test_the_answer_to_an_offer(key: str, offer: str, answer: str) -> None:
    assert says({key: offer}) == {key: answer}


def test_in_a_discovery_session_keys_of_commands_are_irrelevant() -> None:
    offers = {"MaxBurstLength": "512", "InitialR2T": "No", "HeaderDigest": "None", "DefaultTime2Wait": "0"}
    assert says(offers, discovery=True) == {
        "MaxBurstLength": "Irrelevant",
        "InitialR2T": "Irrelevant",
        "HeaderDigest": "None",
        "DefaultTime2Wait": "0",
    }


def test_what_is_not_offered_has_the_defaults(world: World) -> None:
    world.login()
    (session,) = world.export.target.sessions.values()
    agreed = session.parameters
    assert (agreed.initial_r2t, agreed.immediate_data, agreed.max_outstanding_r2t) == (True, True, 1)
    assert (agreed.max_burst_length, agreed.first_burst_length) == (262144, 65536)
    assert agreed.max_recv_data_segment_length == 8192


def test_the_first_burst_is_no_longer_than_any_other(world: World) -> None:
    world.login(keys={"MaxBurstLength": "4096", "FirstBurstLength": "8192"})
    (session,) = world.export.target.sessions.values()
    assert session.parameters.first_burst_length == 4096


def test_a_key_is_negotiated_once(world: World) -> None:
    initiator = world.connect()
    initiator.login_request(LOGIN_KEYS | {"MaxBurstLength": "512"})
    assert initiator.login_request({"MaxBurstLength": "512"})["status"] == 0x0200


def test_the_target_says_once_what_it_can_receive(world: World) -> None:
    initiator = world.connect()
    said = [
        initiator.login_request(LOGIN_KEYS),
        initiator.login_request({"HeaderDigest": "None"}, following=3),
    ]
    assert ["MaxRecvDataSegmentLength" in each.text for each in said] == [True, False]


def test_every_key_that_is_negotiated_has_an_answer_of_the_targets() -> None:
    negotiated = {name for name, key in KEYS.items() if key.rule is not Rule.DECLARED}
    assert set(ACCEPTS) == negotiated


def test_every_key_of_the_standard_is_known() -> None:
    """RFC 7143 §13.1 to §13.25."""
    of_sessions = {
        *("HeaderDigest", "DataDigest", "MaxConnections", "TargetName", "InitiatorName", "TargetAlias"),
        *("InitiatorAlias", "InitialR2T", "ImmediateData", "MaxRecvDataSegmentLength", "MaxBurstLength"),
        *("FirstBurstLength", "DefaultTime2Wait", "DefaultTime2Retain", "MaxOutstandingR2T"),
        *("DataPDUInOrder", "DataSequenceInOrder", "ErrorRecoveryLevel", "SessionType", "TaskReporting"),
        "iSCSIProtocolLevel",
    }
    assert KEYS.keys() == of_sessions
    assert {"SendTargets", "TargetAddress", "TargetPortalGroupTag"} == DISCOVERY_KEYS
    assert {"IFMarker", "OFMarker", "IFMarkInt", "OFMarkInt"} == OBSOLETE_KEYS


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.sender is Sender.TARGET])
def test_what_only_a_target_says_ends_the_login_of_an_initiator_that_says_it(world: World, name: str) -> None:
    response = world.connect().login_request(LOGIN_KEYS | {name: "x"}, following=3)
    assert response["status"] == LoginStatus.INITIATOR_ERROR


def test_every_key_has_a_place_and_its_default() -> None:
    nothing = Parameters()
    for key in KEYS.values():
        value = nothing.get(key)
        if value not in ("", None):
            assert keys.parse(key, keys.show(value)) == value or key.rule is Rule.FIRST


# --- properties


negotiated = st.sampled_from([key for key in KEYS.values() if key.rule is not Rule.DECLARED])
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


def values_of(key: Key) -> st.SearchStrategy[str]:
    """Legal offers of a key."""
    if key.is_boolean:
        return st.sampled_from(["Yes", "No"])
    if key.is_number:
        return st.integers(key.lowest, key.highest).map(str)
    return st.lists(st.sampled_from([*key.values, "Other"]), min_size=1, max_size=4).map(",".join)


def accepted_of(key: Key) -> st.SearchStrategy[Any]:
    """What an end may accept of a key."""
    if key.is_boolean:
        return st.booleans()
    if key.is_number:
        return st.integers(key.lowest, key.highest)
    return st.lists(st.sampled_from(key.values), min_size=1, unique=True)


@given(st.data())
def test_both_ends_come_to_the_same_value(data: st.DataObject) -> None:
    key = data.draw(negotiated)
    offer, accepts = data.draw(values_of(key)), data.draw(accepted_of(key))
    chosen, said = keys.answer(key, offer, accepts)
    if chosen is None:
        assert said == "Reject"
        assert key.rule is Rule.FIRST
    else:
        assert keys.agreed(key, offer, said) == chosen


@given(negotiated, texts)
def test_any_offer_has_an_answer(key: Key, offer: str) -> None:
    chosen, said = keys.answer(key, offer, ACCEPTS[key.name])
    assert (chosen is None) is (said == "Reject")
    assert len(said) <= 255


@given(negotiated, st.data())
def test_no_answer_is_taken_that_could_not_be_one(key: Key, data: st.DataObject) -> None:
    offer, reply = data.draw(values_of(key)), data.draw(texts)
    try:
        value = keys.agreed(key, offer, reply)
    except TextError:
        return
    assert keys.show(value) == reply or keys.parse(key, reply) == value


names = st.from_regex(r"[A-Z][A-Za-z0-9.@_+-]{0,62}", fullmatch=True)


@given(st.lists(st.tuples(names, texts)))
def test_text_is_read_as_it_was_written(pairs: list[tuple[str, str]]) -> None:
    assert split(join(pairs)) == pairs


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_an_error(data: bytes) -> None:
    try:
        pairs = split(data)
    except TextError:
        return
    assert split(join(pairs)) == pairs


@given(
    st.lists(st.tuples(st.sampled_from([*KEYS, "AuthMethod", "X-a", "SendTargets"]), texts)),
    st.sampled_from(Stage),
)
def test_any_offers_are_answered_or_end_the_login(pairs: list[tuple[str, str]], stage: Stage) -> None:
    negotiation = Negotiation()
    try:
        answers = negotiation.answer(pairs, stage)
    except LoginRefusedError:
        return
    assert {name for name, _ in answers} <= {name for name, _ in pairs} | {"MaxRecvDataSegmentLength"}
    for name, key in KEYS.items():
        assert key.sender is not Sender.TARGET or name not in dict(answers)
    negotiation.settle()
    assert negotiation.shown().keys() == KEYS.keys()


def test_a_name_of_a_target_is_looked_up_as_it_is(world: World) -> None:
    wrong = LOGIN_KEYS | {"TargetName": TARGET.upper()}
    assert world.connect().login_request(wrong)["status"] == 0x0203


@pytest.mark.parametrize(
    "steps",
    [
        [{"MaxBurstLength": "4096", "FirstBurstLength": "8192"}],
        [{"FirstBurstLength": "8192", "MaxBurstLength": "4096"}],
        [{"MaxBurstLength": "4096"}, {"FirstBurstLength": "8192"}],
    ],
)
def test_no_first_burst_is_agreed_on_that_is_longer_than_any_other(
    world: World, steps: list[dict[str, str]]
) -> None:
    """RFC 7143 §13.14."""
    initiator = world.connect()
    initiator.login_request(LOGIN_KEYS)
    said: dict[str, str] = {}
    for step in steps:
        said |= initiator.login_request(step).text
    assert said == {"MaxBurstLength": "4096", "FirstBurstLength": "4096"}


def test_text_that_is_refused_changes_nothing(world: World) -> None:
    initiator = world.login(keys={"MaxRecvDataSegmentLength": "1024"})
    (session,) = world.export.target.sessions.values()
    (connection,) = session.connections.values()
    text = b"MaxRecvDataSegmentLength=512\0MaxRecvDataSegmentLength=4096\0"
    initiator.request(Opcode.TEXT_REQUEST, text, flags=pdu.FINAL, ttt=NOBODY)
    assert initiator.receive().opcode is Opcode.REJECT
    assert connection.parameters.max_recv_data_segment_length == connection.max_segment == 1024

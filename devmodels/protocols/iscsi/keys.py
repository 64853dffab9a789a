"""Every key of a login: who may send it and when, what it may be, and what follows from an offer and an answer.

Follows RFC 7143 §13 (and RFC 7144 §3 for iSCSIProtocolLevel), with the rules of §6.2.  `KEYS` is the table;
`answer` is what a responder says, `agreed` what an offer and its answer come to for whoever offered.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import msgspec

from devmodels.protocols.iscsi.codes import Stage
from devmodels.protocols.iscsi.pdu import MAX_DATA_SEGMENT
from devmodels.protocols.iscsi.text import (
    MAX_VALUE,
    NO,
    NONE,
    REJECT,
    YES,
    TextError,
    parse_boolean,
    parse_list,
    parse_number,
)

Value: TypeAlias = "str | int | bool"
Accepts: TypeAlias = "Collection[str] | int | bool"
"""What an end accepts: values of a list, a bound, or a boolean."""

DISCOVERY, NORMAL = "Discovery", "Normal"
"""Values of SessionType."""

CRC32C = "CRC32C"
CHAP = "CHAP"
RFC3720_REPORTING = "RFC3720"


class Rule(Enum):
    """How a key comes to its value, §6.2.1 and §6.2.2."""

    DECLARED = "declarative"
    FIRST = "the first of the offered list that is accepted"
    AND = "Boolean and"
    OR = "Boolean or"
    MINIMUM = "the smaller number"
    MAXIMUM = "the larger number"


class Use(Enum):
    """When a key may be sent, the head of §13."""

    LEADING = "LO"
    """In the login of a session's first connection."""
    LOGIN = "IO"
    """In any login."""
    ALL = "ALL"
    """In a login and in full feature phase."""
    FULL_FEATURE = "FFPO"
    """In full feature phase only."""


class Sender(Enum):
    """Who may offer or declare a key."""

    INITIATOR = "initiator"
    TARGET = "target"
    BOTH = "both"


class Parameters(msgspec.Struct):
    """What the keys of a session and of one of its connections have come to; the defaults are the standard's."""

    header_digest: str = NONE
    data_digest: str = NONE
    max_connections: int = 1
    target_name: str = ""
    initiator_name: str = ""
    target_alias: str = ""
    initiator_alias: str = ""
    initial_r2t: bool = True
    immediate_data: bool = True
    max_recv_data_segment_length: int = 8192
    max_burst_length: int = 262144
    first_burst_length: int = 65536
    default_time2wait: int = 2
    default_time2retain: int = 20
    max_outstanding_r2t: int = 1
    data_pdu_in_order: bool = True
    data_sequence_in_order: bool = True
    error_recovery_level: int = 0
    session_type: str = NORMAL
    task_reporting: str = RFC3720_REPORTING
    protocol_level: int = 1

    def get(self, key: Key) -> Value:
        """What `key` is at the moment."""
        value: Value = getattr(self, key.attribute)
        return value

    def set(self, key: Key, value: Value) -> None:
        """`key` has come to `value`."""
        setattr(self, key.attribute, value)


class Key(NamedTuple):
    """One key; numbers are in [lowest, highest], a list's or a declared value in `values`, if there are any.

    `attribute` is its place in `Parameters`.  `normal_only`: irrelevant in a discovery session.
    """

    name: str
    clause: str
    rule: Rule
    use: Use
    attribute: str
    sender: Sender = Sender.BOTH
    stage: Stage | None = Stage.OPERATIONAL
    """Where in a login; None: anywhere."""
    normal_only: bool = False
    lowest: int = 0
    highest: int = 0
    values: tuple[str, ...] = ()
    default: Value | None = None
    """The default, where there is one."""

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers."""
        return self.highest > 0

    @property
    def is_boolean(self) -> bool:
        """Whether its values are Yes and No."""
        return self.rule in (Rule.AND, Rule.OR)


def _key(name: str, clause: str, rule: Rule, use: Use, attribute: str, **rest: Any) -> Key:
    default = getattr(Parameters(), attribute, None)
    return Key(name, f"RFC 7143 {clause}", rule, use, attribute, default=default or None, **rest)


_ANY: dict[str, Any] = {"stage": None}
_DIGESTS: dict[str, Any] = {"values": (CRC32C, NONE)}
_TO_16_BITS: dict[str, Any] = {"lowest": 1, "highest": 65535}
_BYTES: dict[str, Any] = {"lowest": 512, "highest": MAX_DATA_SEGMENT}
_SECONDS: dict[str, Any] = {"highest": 3600}

KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        _key("HeaderDigest", "§13.1", Rule.FIRST, Use.LOGIN, "header_digest", **_DIGESTS),
        _key("DataDigest", "§13.1", Rule.FIRST, Use.LOGIN, "data_digest", **_DIGESTS),
        _key(
            "MaxConnections",
            "§13.2",
            Rule.MINIMUM,
            Use.LEADING,
            "max_connections",
            normal_only=True,
            **_TO_16_BITS,
        ),
        _key("TargetName", "§13.4", Rule.DECLARED, Use.LOGIN, "target_name", **_ANY),
        _key(
            "InitiatorName",
            "§13.5",
            Rule.DECLARED,
            Use.LOGIN,
            "initiator_name",
            sender=Sender.INITIATOR,
            **_ANY,
        ),
        _key("TargetAlias", "§13.6", Rule.DECLARED, Use.ALL, "target_alias", sender=Sender.TARGET, **_ANY),
        _key(
            "InitiatorAlias",
            "§13.7",
            Rule.DECLARED,
            Use.ALL,
            "initiator_alias",
            sender=Sender.INITIATOR,
            **_ANY,
        ),
        _key("InitialR2T", "§13.10", Rule.OR, Use.LEADING, "initial_r2t", normal_only=True),
        _key("ImmediateData", "§13.11", Rule.AND, Use.LEADING, "immediate_data", normal_only=True),
        _key(
            "MaxRecvDataSegmentLength",
            "§13.12",
            Rule.DECLARED,
            Use.ALL,
            "max_recv_data_segment_length",
            **_BYTES,
        ),
        _key(
            "MaxBurstLength",
            "§13.13",
            Rule.MINIMUM,
            Use.LEADING,
            "max_burst_length",
            normal_only=True,
            **_BYTES,
        ),
        _key(
            "FirstBurstLength",
            "§13.14",
            Rule.MINIMUM,
            Use.LEADING,
            "first_burst_length",
            normal_only=True,
            **_BYTES,
        ),
        _key("DefaultTime2Wait", "§13.15", Rule.MAXIMUM, Use.LEADING, "default_time2wait", **_SECONDS),
        _key("DefaultTime2Retain", "§13.16", Rule.MINIMUM, Use.LEADING, "default_time2retain", **_SECONDS),
        _key(
            "MaxOutstandingR2T",
            "§13.17",
            Rule.MINIMUM,
            Use.LEADING,
            "max_outstanding_r2t",
            normal_only=True,
            **_TO_16_BITS,
        ),
        _key("DataPDUInOrder", "§13.18", Rule.OR, Use.LEADING, "data_pdu_in_order", normal_only=True),
        _key(
            "DataSequenceInOrder",
            "§13.19",
            Rule.OR,
            Use.LEADING,
            "data_sequence_in_order",
            normal_only=True,
        ),
        _key("ErrorRecoveryLevel", "§13.20", Rule.MINIMUM, Use.LEADING, "error_recovery_level", highest=2),
        _key(
            "SessionType",
            "§13.21",
            Rule.DECLARED,
            Use.LEADING,
            "session_type",
            sender=Sender.INITIATOR,
            values=(NORMAL, DISCOVERY),
            **_ANY,
        ),
        _key(
            "TaskReporting",
            "§13.23",
            Rule.FIRST,
            Use.LEADING,
            "task_reporting",
            normal_only=True,
            values=(RFC3720_REPORTING, "ResponseFence", "FastAbort"),
        ),
        _key("iSCSIProtocolLevel", "§13.24", Rule.MINIMUM, Use.LEADING, "protocol_level", highest=31),
    )
}
"""Keys with a value for session or connection."""

SECURITY_KEYS = frozenset({"AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R"})
"""Keys of the security stage, §12: the method, and the steps of CHAP."""

DISCOVERY_KEYS = frozenset({"SendTargets", "TargetAddress", "TargetPortalGroupTag"})
"""What a target tells of itself, §13.3, §13.8, §13.9."""

OBSOLETE_KEYS = frozenset({"IFMarker", "OFMarker", "IFMarkInt", "OFMarkInt"})
"""Markers, which RFC 7143 has dropped (§13.25)."""


def parse(key: Key, text: str) -> Value:
    """A single value of `key`; TextError where it can have no such."""
    if key.is_boolean:
        return parse_boolean(text)
    if key.is_number:
        number = parse_number(text)
        if not key.lowest <= number <= key.highest:
            raise TextError(f"{key.name}: {number} is not from {key.lowest} to {key.highest}")
        return number
    if not text or len(text.encode()) > MAX_VALUE:
        raise TextError(f"{key.name}: a value of {len(text)} characters")
    if key.values and text not in key.values:
        raise TextError(f"{key.name}: no such value: {text!r}")
    return text


def show(value: Value) -> str:
    """A value as it is sent."""
    return (YES if value else NO) if isinstance(value, bool) else str(value)


def answer(key: Key, offer: str, accepts: Accepts) -> tuple[Value | None, str]:
    """What a responder that `accepts` so much makes of `offer`: the value and the answer, or None and Reject.

    For keys that are negotiated, §6.2.1 and §6.2.2: a declared one has no answer.
    """
    try:
        value = choose(key, offer, accepts)
    except TextError:
        return None, REJECT
    return value, show(value)


def choose(key: Key, offer: str, accepts: Accepts) -> Value:
    """The value that follows from `offer`; TextError where none does."""
    if key.rule is Rule.FIRST:
        assert not isinstance(accepts, int)
        for one in parse_list(offer):
            if one in accepts:
                return one
        raise TextError(f"{key.name}: nothing in {offer!r} is accepted")
    value = parse(key, offer)
    match key.rule:
        case Rule.AND:
            return bool(value and accepts)
        case Rule.OR:
            return bool(value or accepts)
        case Rule.MINIMUM | Rule.MAXIMUM:
            assert isinstance(value, int)
            assert isinstance(accepts, int)
            return min(value, accepts) if key.rule is Rule.MINIMUM else max(value, accepts)
    return value


def agreed(key: Key, offer: str, reply: str) -> Value:
    """What `reply` to our own `offer` comes to; TextError where it is no possible answer (§6.2.1, §6.2.2)."""
    if key.rule is Rule.FIRST:
        if reply not in parse_list(offer):
            raise TextError(f"{key.name}: {reply!r} was not offered")
        return reply
    mine, theirs = parse(key, offer), parse(key, reply)
    possible = {
        Rule.AND: not theirs or mine,
        Rule.OR: theirs or not mine,
        Rule.MINIMUM: theirs <= mine,  # type: ignore[operator]
        Rule.MAXIMUM: theirs >= mine,  # type: ignore[operator]
        Rule.DECLARED: True,
    }
    if not possible[key.rule]:
        raise TextError(f"{key.name}: {reply!r} is no answer to {offer!r}")
    return theirs

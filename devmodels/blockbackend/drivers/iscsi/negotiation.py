"""The initiator's part in the negotiation of keys (RFC 7143 §6.2, §13): what it offers, and what it accepts."""

from __future__ import annotations

from collections.abc import Mapping

from devmodels.protocols.iscsi.keys import (
    DISCOVERY_KEYS,
    KEYS,
    OBSOLETE_KEYS,
    RFC3720_REPORTING,
    Accepts,
    Key,
    Parameters,
    Rule,
    Sender,
    Use,
    agreed,
    answer,
    parse,
)
from devmodels.protocols.iscsi.text import IRRELEVANT, NO, NOT_UNDERSTOOD, REJECT, Pairs, TextError

MAX_RECV_DATA_SEGMENT = 1 << 18
"""Data of one PDU that the initiator takes, in bytes."""

MAX_BURST = 1 << 18
"""Bytes that are sent or asked for at a time."""

OFFERS: dict[str, str] = {
    "MaxConnections": "1",
    "InitialR2T": "No",
    "ImmediateData": "Yes",
    "MaxBurstLength": str(MAX_BURST),
    "FirstBurstLength": str(MAX_BURST),
    "DefaultTime2Wait": "0",
    "DefaultTime2Retain": "0",
    "MaxOutstandingR2T": "8",
    "DataPDUInOrder": "Yes",
    "DataSequenceInOrder": "Yes",
    "ErrorRecoveryLevel": "0",
    "TaskReporting": RFC3720_REPORTING,
}
"""What is offered besides digests.  A session that has lost its connection is begun anew: nothing is retained."""

ACCEPTS: dict[str, Accepts] = {
    "MaxConnections": 1,
    "InitialR2T": False,
    "ImmediateData": True,
    "MaxBurstLength": MAX_BURST,
    "FirstBurstLength": MAX_BURST,
    "DefaultTime2Wait": 0,
    "DefaultTime2Retain": 0,
    "MaxOutstandingR2T": 8,
    "DataPDUInOrder": True,
    "DataSequenceInOrder": True,
    "ErrorRecoveryLevel": 0,
    "TaskReporting": (RFC3720_REPORTING,),
    "iSCSIProtocolLevel": 1,
}
"""What is accepted where the target offers by itself."""

_ANSWERS = frozenset({NOT_UNDERSTOOD, IRRELEVANT, REJECT})


class NegotiationError(Exception):
    """The target answers what is no answer, or cannot do what is demanded."""


class Negotiation:
    """The keys of one login.  `digests`: by key, what is offered; `parameters`: what they have come to."""

    def __init__(self, digests: Mapping[str, tuple[str, ...]]) -> None:
        self.parameters = Parameters()
        self._digests = digests
        self._offered: dict[str, str] = {}
        self._seen: set[str] = set()

    def offer(self) -> Pairs:
        """What is offered and declared in the operational stage."""
        self._offered = {name: ",".join(values) for name, values in self._digests.items()} | OFFERS
        declared = [("MaxRecvDataSegmentLength", str(MAX_RECV_DATA_SEGMENT))]
        return [*self._offered.items(), *declared]

    def take(self, pairs: Pairs) -> Pairs:
        """What the target says, and what is said to that; NegotiationError."""
        replies: Pairs = []
        for name, value in pairs:
            if name in self._seen and name not in DISCOVERY_KEYS:
                raise NegotiationError(f"the target says {name} twice")
            self._seen.add(name)
            try:
                replies += self._take_one(name, value)
            except TextError as error:
                raise NegotiationError(str(error)) from None
        return replies

    def _take_one(self, name: str, value: str) -> Pairs:
        key = KEYS.get(name)
        if key is None:
            return _take_other(name, value)
        offer = self._offered.pop(name, None)
        if offer is not None:
            if value in _ANSWERS:
                self._without(key, value)
            else:
                self.parameters.set(key, agreed(key, offer, value))
            return []
        if key.sender is Sender.INITIATOR:
            raise NegotiationError(f"{name} is not for a target to say")
        if key.rule is Rule.DECLARED:
            if value not in _ANSWERS:
                self.parameters.set(key, parse(key, value))
            return []
        return self._answer(key, value)

    def _answer(self, key: Key, value: str) -> Pairs:
        """The target's own offer."""
        if key.use is Use.FULL_FEATURE:
            return [(key.name, REJECT)]
        accepts = self._digests.get(key.name) or ACCEPTS[key.name]
        chosen, said = answer(key, value, accepts)
        if chosen is not None:
            self.parameters.set(key, chosen)
        return [(key.name, said)]

    def _without(self, key: Key, value: str) -> None:
        """The target does not know a key, or does not want it: the default stands."""
        demanded = self._digests.get(key.name)
        if demanded is not None and self.parameters.get(key) not in demanded:
            raise NegotiationError(f"the target answers {key.name}={value}; expected {demanded[0]}")

    def settle(self) -> None:
        """The login is over: bring in line what depends on each other; NegotiationError where too little was said."""
        for name, demanded in self._digests.items():
            if self.parameters.get(KEYS[name]) not in demanded:
                raise NegotiationError(f"the target does not answer {name}; expected {demanded[0]}")
        found = self.parameters
        found.first_burst_length = min(found.first_burst_length, found.max_burst_length)


def _take_other(name: str, value: str) -> Pairs:
    if name in DISCOVERY_KEYS or value in _ANSWERS:
        return []
    if name in OBSOLETE_KEYS:
        return [(name, NO if name.endswith("Marker") else REJECT)]
    return [(name, NOT_UNDERSTOOD)]

"""The target's part in the negotiation of keys (RFC 7143 §6.2, §13): what it accepts, and what it answers."""

from __future__ import annotations

from devmodels.exports.iscsi.authentication import LoginRefusedError
from devmodels.exports.iscsi.buffers import PIECE
from devmodels.protocols.iscsi.codes import LoginStatus, Stage
from devmodels.protocols.iscsi.keys import (
    CRC32C,
    DISCOVERY,
    KEYS,
    OBSOLETE_KEYS,
    RFC3720_REPORTING,
    SECURITY_KEYS,
    Accepts,
    Key,
    Parameters,
    Rule,
    Sender,
    Use,
    answer,
    parse,
    show,
)
from devmodels.protocols.iscsi.text import IRRELEVANT, NO, NONE, NOT_UNDERSTOOD, REJECT, Pairs, TextError

MAX_RECV_DATA_SEGMENT = PIECE
"""Data of one PDU that the target takes, in bytes."""

MAX_CONNECTIONS = 8

ACCEPTS: dict[str, Accepts] = {
    "HeaderDigest": (CRC32C, NONE),
    "DataDigest": (CRC32C, NONE),
    "MaxConnections": MAX_CONNECTIONS,
    "InitialR2T": False,
    "ImmediateData": True,
    "MaxBurstLength": PIECE,
    "FirstBurstLength": PIECE,
    "DefaultTime2Wait": 0,
    "DefaultTime2Retain": 0,
    "MaxOutstandingR2T": 8,
    "DataPDUInOrder": True,
    "DataSequenceInOrder": True,
    "ErrorRecoveryLevel": 0,
    "TaskReporting": (RFC3720_REPORTING,),
    "iSCSIProtocolLevel": 2,
}
"""What the target accepts of every key that is negotiated.

Nothing is kept of a session that has lost its connections: DefaultTime2Retain 0 and ErrorRecoveryLevel 0.
"""

_ANSWERS = frozenset({NOT_UNDERSTOOD, IRRELEVANT, REJECT})


class Negotiation:
    """The keys of one connection's login, and of its text requests afterwards.

    `parameters` are what they have come to.  `leading`: this is a session's first connection.
    """

    def __init__(self) -> None:
        self.parameters = Parameters()
        self.leading = True
        self._seen: set[str] = set()
        self._declared = False

    @property
    def discovery(self) -> bool:
        """Whether the session is there for discovery only."""
        return self.parameters.session_type == DISCOVERY

    def answer(self, pairs: Pairs, stage: Stage) -> Pairs:
        """What is said to `pairs`; LoginRefusedError where they end the login."""
        answers: Pairs = []
        for name, value in pairs:
            if name in self._seen:
                raise _wrong(f"{name} is negotiated twice")
            self._seen.add(name)
            answers += self._answer_one(name, value, stage)
        answers = self._shorten_first_burst(answers)
        if stage is Stage.OPERATIONAL and not self._declared:
            self._declared = True
            answers.append(("MaxRecvDataSegmentLength", str(MAX_RECV_DATA_SEGMENT)))
        return answers

    def _shorten_first_burst(self, answers: Pairs) -> Pairs:
        """The first burst is no longer than any other one (§13.14), whichever is agreed on first."""
        agreed = self.parameters
        if agreed.first_burst_length <= agreed.max_burst_length:
            return answers
        said = ("FirstBurstLength", str(agreed.first_burst_length))
        if said in answers:
            agreed.first_burst_length = agreed.max_burst_length
            answers[answers.index(said)] = ("FirstBurstLength", str(agreed.first_burst_length))
        return answers

    def begin_text(self) -> None:
        """A text request of full feature phase begins: every key may come once more."""
        self._seen.clear()

    def _answer_one(self, name: str, value: str, stage: Stage) -> Pairs:
        key = KEYS.get(name)
        if key is None:
            return _answer_other(name, stage)
        if key.sender is Sender.TARGET or (
            key.stage is not None and key.stage is not stage is not Stage.FULL_FEATURE
        ):
            raise _wrong(f"{name} in the stage {stage.name}")
        if stage is Stage.FULL_FEATURE and key.use not in (Use.ALL, Use.FULL_FEATURE):
            return [(name, REJECT)]
        if key.use is Use.LEADING and not self.leading and key.rule is not Rule.DECLARED:
            raise _wrong(f"{name} on a further connection")
        if value in _ANSWERS:
            return []  # To what we have declared.
        if key.rule is Rule.DECLARED:
            self._declare(key, value)
            return []
        if key.normal_only and self.discovery:
            return [(name, IRRELEVANT)]
        chosen, said = answer(key, value, ACCEPTS[name])
        if chosen is not None:
            self.parameters.set(key, chosen)
        return [(name, said)]

    def _declare(self, key: Key, value: str) -> None:
        try:
            self.parameters.set(key, parse(key, value))
        except TextError as error:
            raise _wrong(str(error)) from None

    def settle(self) -> None:
        """The login is over: bring in line what depends on each other (§13.14)."""
        agreed = self.parameters
        agreed.first_burst_length = min(agreed.first_burst_length, agreed.max_burst_length)

    def shown(self) -> dict[str, str]:
        """Every key and what it has come to, for people and tests."""
        return {key.name: show(self.parameters.get(key)) for key in KEYS.values()}


def _answer_other(name: str, stage: Stage) -> Pairs:
    if name in SECURITY_KEYS:
        raise _wrong(f"{name} in the stage {stage.name}")
    if name in OBSOLETE_KEYS:
        return [(name, NO if name.endswith("Marker") else REJECT)]
    return [(name, NOT_UNDERSTOOD)]


def _wrong(reason: str) -> LoginRefusedError:
    return LoginRefusedError(LoginStatus.INITIATOR_ERROR, reason)

"""Text requests in full feature phase: SendTargets, keys that may change, long texts.

Follows RFC 7143 §11.10, §11.11 and Appendix C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.exports.iscsi.authentication import LoginRefusedError
from devmodels.exports.iscsi.login import MAX_TEXT
from devmodels.exports.iscsi.negotiation import Negotiation
from devmodels.protocols.iscsi.codes import RejectReason, Stage
from devmodels.protocols.iscsi.pdu import CONTINUE, FINAL, RESERVED_TAG, TEXT_REQUEST, TEXT_RESPONSE, Opcode
from devmodels.protocols.iscsi.text import REJECT, Pairs, TextError, join, split

if TYPE_CHECKING:
    from devmodels.exports.iscsi.connection import Connection

ALL = "All"


class Texts:
    """One connection's text requests: one exchange at a time."""

    __slots__ = ("_connection", "_given", "_negotiation", "_rest", "_tag")

    def __init__(self, connection: Connection, negotiation: Negotiation) -> None:
        self._connection = connection
        self._negotiation = negotiation
        self._given = b""
        self._rest = b""
        self._tag = RESERVED_TAG

    def request(self, header: bytes, data: memoryview) -> None:
        """Answer a Text Request, or reject it."""
        _, flags, _, lun, itt, ttt, _, _ = TEXT_REQUEST.unpack_from(header, 0)
        if ttt == RESERVED_TAG:
            self._given, self._rest, self._tag = b"", b"", RESERVED_TAG
        elif ttt != self._tag:
            self._connection.reject(RejectReason.INVALID_PDU_FIELD, header, "a text exchange that is over")
            return
        self._given += data
        if len(self._given) > MAX_TEXT or (flags & CONTINUE and flags & FINAL):
            self._given, self._tag = b"", RESERVED_TAG
            self._connection.reject(RejectReason.PROTOCOL_ERROR, header, "text without end")
        elif flags & CONTINUE:
            self._send(lun, itt, b"", more=True)
        elif self._rest:
            self._send_rest(lun, itt, final=bool(flags & FINAL))
        else:
            given, self._given = self._given, b""
            try:
                answers = self._answer(split(given))
            except (TextError, LoginRefusedError) as error:
                self._connection.reject(RejectReason.PROTOCOL_ERROR, header, str(error))
                return
            self._rest = join(answers)
            self._send_rest(lun, itt, final=bool(flags & FINAL))

    def _answer(self, pairs: Pairs) -> Pairs:
        answers: Pairs = []
        for name, value in pairs:
            if name == "SendTargets":
                answers += self._targets(value)
        self._negotiation.begin_text()
        others = [(name, value) for name, value in pairs if name != "SendTargets"]
        agreed = self._negotiation.parameters
        before = agreed.max_recv_data_segment_length
        try:
            answers += self._negotiation.answer(others, Stage.FULL_FEATURE)
        except LoginRefusedError:
            agreed.max_recv_data_segment_length = before
            raise
        self._connection.parameters_changed()
        return answers

    def _targets(self, value: str) -> Pairs:
        """Appendix C: all targets for discovery, or the one that is named; a session of a target knows only that."""
        connection = self._connection
        mine = connection.session.target
        if mine is not None and value not in ("", mine.name):
            return [("SendTargets", REJECT)]
        wanted = value if mine is None else mine.name
        found: Pairs = []
        for name, addresses in connection.listing().items():
            if wanted in (ALL, name):
                found.append(("TargetName", name))
                found += [("TargetAddress", address) for address in addresses]
        return found

    def _send_rest(self, lun: int, itt: int, *, final: bool) -> None:
        """As much as a PDU can have; the last one ends the exchange where the initiator wants to end it."""
        limit = self._connection.max_segment
        piece, self._rest = self._rest[:limit], self._rest[limit:]
        self._send(lun, itt, piece, more=bool(self._rest) or not final)

    def _send(self, lun: int, itt: int, piece: bytes, *, more: bool) -> None:
        """A Text Response; while there is `more` to say or to hear it has a tag to go on with."""
        connection = self._connection
        self._tag = connection.next_transfer_tag() if more else RESERVED_TAG
        flags = (CONTINUE if self._rest else 0) if more else FINAL
        session = connection.session
        numbers = connection.take_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn
        connection.stream.send(
            TEXT_RESPONSE.pack(Opcode.TEXT_RESPONSE, flags, len(piece), lun, itt, self._tag, *numbers),
            (piece,),
            len(piece),
        )

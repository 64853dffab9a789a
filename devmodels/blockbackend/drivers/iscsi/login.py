"""A login, as the initiator sees it: requests out, responses in, no socket (RFC 7143 §6.3, §11.12, §11.13)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from devmodels.blockbackend.drivers.iscsi.authentication import AuthenticationError, Authenticator
from devmodels.blockbackend.drivers.iscsi.negotiation import Negotiation, NegotiationError
from devmodels.protocols.iscsi.chap import Credentials
from devmodels.protocols.iscsi.codes import LoginStatus, Stage
from devmodels.protocols.iscsi.keys import NORMAL, SECURITY_KEYS
from devmodels.protocols.iscsi.pdu import (
    CONTINUE,
    CURRENT_SHIFT,
    IMMEDIATE,
    LOGIN_REQUEST,
    STAGE_MASK,
    TRANSIT,
    Opcode,
    next_serial,
    unpack_login_response,
)
from devmodels.protocols.iscsi.text import Pairs, TextError, join, split

MAX_TEXT = 1 << 14
"""Longest text of one step, over all its PDUs, in bytes."""

MAX_RESPONSES = 64
"""Responses that a login may take."""

MAX_LOGIN_DATA = 8192
"""Data of a Login Response: MaxRecvDataSegmentLength before anything is negotiated (§13.12)."""


class LoginFailedError(Exception):
    """The login is over, without success."""


class MovedError(Exception):
    """The target is at another address (§11.13.5): `address` as host:port."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


class Identity(NamedTuple):
    """Who logs in where.  The same `isid` again takes the place of the session before (§6.3.5)."""

    initiator: str
    target: str
    isid: bytes


class Login:
    """One login.  `complete`: it has succeeded; `negotiation` has what was agreed, `exp_stat_sn` and `max_cmd_sn` the
    numbers to go on with."""

    def __init__(
        self,
        identity: Identity,
        digests: Mapping[str, tuple[str, ...]],
        credentials: Credentials | None,
        *,
        cmd_sn: int = 0,
    ) -> None:
        self._identity = identity
        self._authenticator = Authenticator(credentials)
        self.negotiation = Negotiation(digests)
        self.complete = False
        self.cmd_sn = cmd_sn
        self.exp_stat_sn = 0
        self.max_cmd_sn = cmd_sn
        self._stage = Stage.SECURITY
        self._offers_transit = False
        self._text = b""
        self._responses = 0

    def first(self) -> tuple[bytes, bytes]:
        """The first request: its header and its text."""
        who = self._identity
        pairs = [("InitiatorName", who.initiator), ("TargetName", who.target), ("SessionType", NORMAL)]
        return self._request(pairs + self._authenticator.begin(), transit=self._authenticator.last)

    def response(self, header: bytes, data: bytes | memoryview) -> tuple[bytes, bytes] | None:
        """What is said to a Login Response; None where the login has succeeded.

        LoginFailedError and MovedError where it has not.
        """
        try:
            return self._response(header, data)
        except (TextError, AuthenticationError, NegotiationError) as error:
            raise LoginFailedError(str(error)) from None

    def _response(self, header: bytes, data: bytes | memoryview) -> tuple[bytes, bytes] | None:
        fields = unpack_login_response(header, 0)
        _, flags, _, version, _, isid, tsih, itt, stat_sn, exp_cmd_sn, max_cmd_sn, status = fields
        self._responses += 1
        if self._responses > MAX_RESPONSES:
            raise LoginFailedError("the target does not come to an end")
        text = self._take_text(flags, data)
        if status != LoginStatus.SUCCESS:
            raise _refused(status, split(text or b""))
        if isid != self._identity.isid or itt != 0 or version != 0:
            raise LoginFailedError("the target answers another login, or in another version")
        self.exp_stat_sn = next_serial(stat_sn)
        self.cmd_sn, self.max_cmd_sn = exp_cmd_sn, max_cmd_sn
        if text is None:
            return self._request([], transit=False)
        return self._go_on(flags, split(text), tsih)

    def _take_text(self, flags: int, data: bytes | memoryview) -> bytes | None:
        """The text of a step; None while more of it is to come (§6.2)."""
        self._text += data
        if len(self._text) > MAX_TEXT:
            raise LoginFailedError("text without end")
        if flags & CONTINUE:
            if flags & TRANSIT:
                raise LoginFailedError("more text is to come, and the stage is over")
            return None
        text, self._text = self._text, b""
        return text

    def _go_on(self, flags: int, pairs: Pairs, tsih: int) -> tuple[bytes, bytes] | None:
        if flags >> CURRENT_SHIFT & STAGE_MASK != self._stage:
            raise LoginFailedError("the target is in another stage")
        security = {name: value for name, value in pairs if name in SECURITY_KEYS}
        if len(security) != sum(name in SECURITY_KEYS for name, _ in pairs):
            raise LoginFailedError("a security key twice")
        if security and self._stage is not Stage.SECURITY:
            raise LoginFailedError("security keys after authentication")
        others = [(name, value) for name, value in pairs if name not in SECURITY_KEYS]
        replies = self._authenticator.answer(security) + self.negotiation.take(others)
        if not flags & TRANSIT:
            last = self._stage is not Stage.SECURITY or self._authenticator.last
            return self._request(replies, transit=last)
        return self._transit(flags, replies, tsih)

    def _transit(self, flags: int, replies: Pairs, tsih: int) -> tuple[bytes, bytes] | None:
        """The target goes on to the next stage with us (§6.3.2)."""
        following = flags & STAGE_MASK
        if not self._offers_transit or following != self._next or replies:
            raise LoginFailedError("the target goes on by itself")
        if self._stage is Stage.SECURITY:
            self._authenticator.check_over()
            self._stage = Stage.OPERATIONAL
            return self._request(self.negotiation.offer(), transit=True)
        if not tsih:
            raise LoginFailedError("a session without a handle")
        self.negotiation.settle()
        self.complete = True
        return None

    @property
    def _next(self) -> Stage:
        return Stage.OPERATIONAL if self._stage is Stage.SECURITY else Stage.FULL_FEATURE

    def _request(self, pairs: Pairs, *, transit: bool) -> tuple[bytes, bytes]:
        flags = self._stage << CURRENT_SHIFT
        self._offers_transit = transit
        if transit:
            flags |= TRANSIT | self._next
        text = join(pairs)
        header = LOGIN_REQUEST.pack(
            Opcode.LOGIN_REQUEST | IMMEDIATE,
            flags,
            0,
            0,
            len(text),
            self._identity.isid,
            0,
            0,
            0,
            self.cmd_sn,
            self.exp_stat_sn,
        )
        return header, text


def _refused(status: int, pairs: Pairs) -> Exception:
    """What a status that is not success comes to (§11.13.5)."""
    if status in (LoginStatus.MOVED_TEMPORARILY, LoginStatus.MOVED_PERMANENTLY):
        address = dict(pairs).get("TargetAddress", "").partition(",")[0]
        return (
            MovedError(address)
            if address
            else LoginFailedError("the target has moved, and does not say where")
        )
    try:
        name = LoginStatus(status).name.replace("_", " ").lower()
    except ValueError:
        name = f"status {status:#06x}"
    return LoginFailedError(f"the target refuses: {name}")

"""A login, as the target sees it: requests in, responses out, no socket (RFC 7143 §6.3, §11.12, §11.13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from devmodels.exports.iscsi.authentication import Authenticator, LoginRefusedError
from devmodels.exports.iscsi.negotiation import Negotiation
from devmodels.exports.iscsi.session import Session
from devmodels.exports.iscsi.target import IscsiTarget
from devmodels.protocols.iscsi.codes import LoginStatus, Stage
from devmodels.protocols.iscsi.keys import DISCOVERY, SECURITY_KEYS
from devmodels.protocols.iscsi.pdu import CONTINUE, CURRENT_SHIFT, STAGE_MASK, TRANSIT, unpack_login_request
from devmodels.protocols.iscsi.text import Pairs, TextError, join, split

MAX_TEXT = 1 << 14
"""Longest text of one negotiation step, over all its PDUs, in bytes."""

MAX_REQUESTS = 64
"""Requests that a login may take."""

MAX_NAME = 223
"""Longest name of a node, in bytes (§4.2.7.1)."""

VERSION = 0


class Identity(NamedTuple):
    """Which session and connection a login is for; the same in all its requests (§11.12)."""

    isid: bytes
    tsih: int
    cid: int


class Answer(NamedTuple):
    """What a Login Response is to say; after another status than SUCCESS the connection ends."""

    flags: int
    text: bytes = b""
    status: LoginStatus = LoginStatus.SUCCESS
    reason: str = ""


class Login:
    """One connection's login.

    `find_target(name)` knows the targets that can be reached here.  When `complete`, `negotiation` has what was agreed,
    `target` is the one to go on with (None: discovery), and `joins` the session that the connection belongs to, None
    for a new one.
    """

    def __init__(self, find_target: Callable[[str], IscsiTarget | None]) -> None:
        self._find_target = find_target
        self.negotiation = Negotiation()
        self.identity: Identity | None = None
        self.target: IscsiTarget | None = None
        self.joins: Session | None = None
        self.complete = False
        self.cmd_sn = 0
        self._authenticator = Authenticator(None)
        self._stage = Stage.SECURITY
        self._text = b""
        self._requests = 0
        self._named = False

    def request(self, header: bytes, data: bytes | memoryview) -> Answer:
        """What is said to a Login Request."""
        try:
            return self._request(header, data)
        except LoginRefusedError as error:
            return Answer(0, status=error.status, reason=str(error))
        except TextError as error:
            return Answer(0, status=LoginStatus.INITIATOR_ERROR, reason=str(error))

    def _request(self, header: bytes, data: bytes | memoryview) -> Answer:
        _, flags, _, version_min, _, isid, tsih, _, cid, cmd_sn, _ = unpack_login_request(header, 0)
        self._requests += 1
        if self._requests > MAX_REQUESTS:
            raise _wrong("no end of requests")
        first = self.identity is None
        if first:
            if version_min > VERSION:
                raise LoginRefusedError(LoginStatus.UNSUPPORTED_VERSION, f"version {version_min} at least")
            self.identity = Identity(isid, tsih, cid)
            self.cmd_sn = cmd_sn
        elif self.identity != (isid, tsih, cid):
            raise LoginRefusedError(LoginStatus.INVALID_DURING_LOGIN, "another session or connection")
        current = self._check_stage(flags, first=first)
        self._text += data
        if len(self._text) > MAX_TEXT:
            raise _wrong("text without end")
        if flags & CONTINUE:
            return Answer(current << CURRENT_SHIFT)
        text, self._text = self._text, b""
        pairs = split(text)
        answers: Pairs = []
        if not self._named:
            self._named = True
            answers += self._identify(dict(pairs), self.identity)
        answers += self._answer(pairs, current)
        return self._transit(flags, current, answers)

    def _check_stage(self, flags: int, *, first: bool) -> Stage:
        """The stage that a request is in; §11.12.1 to §11.12.3."""
        current = flags >> CURRENT_SHIFT & STAGE_MASK
        if current not in (Stage.SECURITY, Stage.OPERATIONAL):
            raise _wrong(f"stage {current}")
        if first:
            self._stage = Stage(current)
        elif current != self._stage:
            raise _wrong(f"a request of stage {current} in stage {self._stage}")
        if flags & TRANSIT:
            following = flags & STAGE_MASK
            if flags & CONTINUE or following <= current or following not in (*Stage,):
                raise _wrong(f"from stage {current} to {following}")
        return self._stage

    # --- who and what

    def _identify(self, keys: dict[str, str], identity: Identity) -> Pairs:
        """The first request says who logs in, and where (§6.3.1); what is said of the target."""
        if "InitiatorName" not in keys:
            raise LoginRefusedError(LoginStatus.MISSING_PARAMETER, "InitiatorName is missing")
        name = keys["InitiatorName"]
        if not name.isprintable() or " " in name or not 0 < len(name.encode()) <= MAX_NAME:
            raise _wrong(f"InitiatorName={name[:64]!r} is no name (§4.2.7)")
        wants_discovery = keys.get("SessionType") == DISCOVERY
        if "TargetName" not in keys:
            if not wants_discovery:
                raise LoginRefusedError(LoginStatus.MISSING_PARAMETER, "TargetName is missing")
            if identity.tsih:
                raise LoginRefusedError(LoginStatus.CANNOT_INCLUDE, "a discovery session has one connection")
            return []
        target = self._find_target(keys["TargetName"])
        if target is None:
            raise LoginRefusedError(LoginStatus.NOT_FOUND, f"no target {keys['TargetName'][:64]!r}")
        if wants_discovery:
            return []
        self.target = target
        self._authenticator = Authenticator(target.credentials)
        if identity.tsih:
            self._join(target, name, identity)
        return [("TargetPortalGroupTag", str(target.portal_group))]

    def _join(self, target: IscsiTarget, initiator: str, identity: Identity) -> None:
        """A further connection of a session, or one in the place of another (§6.3.4)."""
        session = target.sessions.get(identity.tsih)
        if session is None or (session.initiator, session.isid) != (initiator, identity.isid):
            raise LoginRefusedError(LoginStatus.SESSION_DOES_NOT_EXIST, f"no session {identity.tsih}")
        session.check_room_for(identity.cid)
        self.joins = session
        self.negotiation.leading = False

    # --- keys and stages

    def _answer(self, pairs: Pairs, stage: Stage) -> Pairs:
        security = {name: value for name, value in pairs if name in SECURITY_KEYS}
        others = pairs
        answers: Pairs = []
        if stage is Stage.SECURITY:
            if len(security) != sum(name in SECURITY_KEYS for name, _ in pairs):
                raise _wrong("a security key twice")
            answers = self._authenticator.answer(security)
            others = [(name, value) for name, value in pairs if name not in security]
        elif not self._authenticator.done:
            raise LoginRefusedError(LoginStatus.AUTHENTICATION_FAILURE, "no authentication")
        return answers + self.negotiation.answer(others, stage)

    def _transit(self, flags: int, current: Stage, answers: Pairs) -> Answer:
        """Whether the next stage is entered, as the initiator wishes (§6.3.2, §6.3.3)."""
        said = current << CURRENT_SHIFT
        if flags & TRANSIT and self._may_go_on():
            self._stage = Stage(flags & STAGE_MASK)
            said |= TRANSIT | self._stage
            if self._stage is Stage.FULL_FEATURE:
                self.complete = True
                self.negotiation.settle()
        return Answer(said, join(answers))

    def _may_go_on(self) -> bool:
        if self._stage is not Stage.SECURITY or self._authenticator.done:
            return True
        if self._authenticator.silent:
            # It wants to go on and has not offered anything to authenticate itself by.
            raise LoginRefusedError(LoginStatus.AUTHENTICATION_FAILURE, "no authentication")
        return False


def _wrong(reason: str) -> LoginRefusedError:
    return LoginRefusedError(LoginStatus.INITIATOR_ERROR, reason)

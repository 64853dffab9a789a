"""The security stage of a login: AuthMethod and CHAP, one way and both ways (RFC 7143 §12, §9.2.1)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from enum import Enum

from devmodels.protocols.iscsi import chap
from devmodels.protocols.iscsi.chap import Credentials
from devmodels.protocols.iscsi.codes import LoginStatus
from devmodels.protocols.iscsi.keys import CHAP
from devmodels.protocols.iscsi.text import (
    NONE,
    REJECT,
    Pairs,
    TextError,
    parse_binary,
    parse_list,
    parse_number,
    show_binary,
)


class LoginRefusedError(Exception):
    """The login ends with this status."""

    def __init__(self, status: LoginStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Step(Enum):
    """How far it has come."""

    BEGIN = "nothing was said"
    METHOD = "CHAP is to be used"
    CHALLENGED = "the challenge is out"
    DONE = "the initiator may go on"


class Authenticator:
    """One login's security stage; without `credentials` nothing is asked for.

    `done` says whether the initiator may go on.  `choose_bytes(count)` makes challenges.
    """

    def __init__(
        self, credentials: Credentials | None, choose_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._credentials = credentials
        self._choose_bytes = choose_bytes
        self.step = Step.BEGIN
        self._algorithm = 0
        self._identifier = 0
        self._challenge = b""

    @property
    def done(self) -> bool:
        """Whether the initiator may leave the stage, or never enter it."""
        return self.step is Step.DONE or self._credentials is None

    @property
    def silent(self) -> bool:
        """Whether the initiator has offered nothing yet."""
        return self.step is Step.BEGIN

    def answer(self, keys: Mapping[str, str]) -> Pairs:
        """What is said to the security keys of a request; LoginRefusedError."""
        if not keys:
            return []
        handlers: dict[Step, Callable[[Mapping[str, str]], Pairs]] = {
            Step.BEGIN: self._choose_method,
            Step.METHOD: self._challenge_it,
            Step.CHALLENGED: self._judge,
        }
        handler = handlers.get(self.step)
        if handler is None:
            raise LoginRefusedError(LoginStatus.INITIATOR_ERROR, "security keys after authentication")
        try:
            return handler(keys)
        except KeyError as error:
            raise LoginRefusedError(LoginStatus.MISSING_PARAMETER, f"{error.args[0]} is missing") from None
        except TextError as error:
            raise LoginRefusedError(LoginStatus.INITIATOR_ERROR, str(error)) from None

    def _choose_method(self, keys: Mapping[str, str]) -> Pairs:
        """§12.1: the first method of the initiator's list that is acceptable."""
        offered = parse_list(keys["AuthMethod"])
        wanted = NONE if self._credentials is None else CHAP
        if wanted not in offered:
            raise LoginRefusedError(LoginStatus.AUTHENTICATION_FAILURE, f"{wanted} is not among {offered}")
        self.step = Step.DONE if self._credentials is None else Step.METHOD
        chosen = [("AuthMethod", wanted)]
        # Some offer their algorithms along with the method.
        return chosen + (self._challenge_it(keys) if wanted == CHAP and "CHAP_A" in keys else [])

    def _challenge_it(self, keys: Mapping[str, str]) -> Pairs:
        """§12.1.3: the first algorithm that is known."""
        for text in parse_list(keys["CHAP_A"]):
            number = parse_number(text)
            if number in chap.ALGORITHMS:
                break
        else:
            raise LoginRefusedError(LoginStatus.AUTHENTICATION_FAILURE, f"CHAP_A={keys['CHAP_A']}: {REJECT}")
        self._algorithm = number
        self._identifier = self._choose_bytes(1)[0]
        self._challenge = self._choose_bytes(chap.CHALLENGE_SIZES[number])
        self.step = Step.CHALLENGED
        return [
            ("CHAP_A", str(number)),
            ("CHAP_I", str(self._identifier)),
            ("CHAP_C", show_binary(self._challenge)),
        ]

    def _judge(self, keys: Mapping[str, str]) -> Pairs:
        """§12.1.3: the initiator's response, and perhaps its own challenge."""
        known = self._credentials
        assert known is not None
        proof = self._algorithm, self._identifier, self._challenge
        if not chap.is_proof(keys, known.user, known.secret, *proof):
            raise LoginRefusedError(LoginStatus.AUTHENTICATION_FAILURE, "wrong user or secret")
        self.step = Step.DONE
        return self._prove(known, keys) if "CHAP_C" in keys or "CHAP_I" in keys else []

    def _prove(self, known: Credentials, keys: Mapping[str, str]) -> Pairs:
        """Answer the initiator's challenge."""
        identifier, challenge = parse_number(keys["CHAP_I"]), parse_binary(keys["CHAP_C"])
        if not known.target_user:
            raise LoginRefusedError(LoginStatus.AUTHENTICATION_FAILURE, "no secret of the target's own")
        if not chap.is_challenge(identifier, challenge):
            raise LoginRefusedError(LoginStatus.INITIATOR_ERROR, "a challenge out of bounds")
        if challenge == self._challenge:
            # It would have us compute what we have asked for (§9.2.1).
            raise LoginRefusedError(LoginStatus.AUTHENTICATION_FAILURE, "our own challenge came back")
        answer = chap.response(self._algorithm, identifier, known.target_secret, challenge)
        return [("CHAP_N", known.target_user), ("CHAP_R", show_binary(answer))]

"""The initiator's part in the security stage: CHAP, one way and both ways (RFC 7143 §12, §9.2.1)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from enum import Enum

from devmodels.protocols.iscsi import chap
from devmodels.protocols.iscsi.chap import Credentials
from devmodels.protocols.iscsi.keys import CHAP
from devmodels.protocols.iscsi.text import NONE, Pairs, TextError, parse_binary, parse_number, show_binary

PREFERENCE = (8, 6, 5, 7)
"""Algorithms: SHA3-256, SHA-1, MD5, and then SHA-256, whose number was SHA-1's before it was assigned: `tgtd` takes it
for that where it can."""


class AuthenticationError(Exception):
    """The target did not say what it should, or is not who it should be."""


class Step(Enum):
    """What the target is to say next."""

    METHOD = "which method is to be used"
    CHALLENGE = "its challenge"
    PROOF = "its answer to ours, or nothing"
    DONE = "nothing any more"


class Authenticator:
    """One login's security stage, from the initiator's side.  `choose_bytes(count)` makes challenges."""

    def __init__(
        self, credentials: Credentials | None, choose_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._credentials = credentials
        self._choose_bytes = choose_bytes
        self.step = Step.METHOD
        self._identifier = 0
        self._algorithm = 0
        self._challenge = b""

    @property
    def last(self) -> bool:
        """Whether what is said next is the last, so that the stage may end with it."""
        return self._credentials is None or self.step in (Step.PROOF, Step.DONE)

    def begin(self) -> Pairs:
        """What is said first."""
        return [("AuthMethod", NONE if self._credentials is None else CHAP)]

    def answer(self, keys: Mapping[str, str]) -> Pairs:
        """What is said to the target's security keys; AuthenticationError."""
        handlers = {Step.METHOD: self._method, Step.CHALLENGE: self._respond, Step.PROOF: self._judge}
        if not keys:
            return []
        handler = handlers.get(self.step)
        if handler is None:
            raise AuthenticationError("security keys after authentication")
        try:
            return handler(keys)
        except KeyError as error:
            raise AuthenticationError(f"the target has not sent {error.args[0]}") from None
        except TextError as error:
            raise AuthenticationError(str(error)) from None

    def check_over(self) -> None:
        """The target wants to go on: AuthenticationError where that would be too early."""
        if self._credentials is not None and self.step is not Step.DONE:
            known = self._credentials
            if self.step is Step.PROOF and not known.target_user:
                return
            raise AuthenticationError(
                "the target has not proved who it is" if known.target_user else "the target asks for no proof"
            )

    def _method(self, keys: Mapping[str, str]) -> Pairs:
        method = keys["AuthMethod"]
        if method != (NONE if self._credentials is None else CHAP):
            raise AuthenticationError(f"the target wants AuthMethod={method[:32]}")
        if self._credentials is None:
            self.step = Step.DONE
            return []
        self.step = Step.CHALLENGE
        return [("CHAP_A", ",".join(map(str, PREFERENCE)))]

    def _respond(self, keys: Mapping[str, str]) -> Pairs:
        """§12.1.3: answer the challenge, and perhaps challenge the target."""
        known = self._credentials
        assert known is not None
        self._algorithm = parse_number(keys["CHAP_A"])
        if self._algorithm not in PREFERENCE:
            raise AuthenticationError(f"CHAP_A={self._algorithm} was not offered")
        identifier, challenge = parse_number(keys["CHAP_I"]), parse_binary(keys["CHAP_C"])
        if not chap.is_challenge(identifier, challenge):
            raise AuthenticationError("a challenge out of bounds")
        answer = chap.response(self._algorithm, identifier, known.secret, challenge)
        pairs = [("CHAP_N", known.user), ("CHAP_R", show_binary(answer))]
        self.step = Step.PROOF
        if known.target_user:
            self._identifier = self._choose_bytes(1)[0]
            self._challenge = self._choose_bytes(chap.CHALLENGE_SIZES[self._algorithm])
            pairs += [("CHAP_I", str(self._identifier)), ("CHAP_C", show_binary(self._challenge))]
        return pairs

    def _judge(self, keys: Mapping[str, str]) -> Pairs:
        """The target's answer to our challenge."""
        known = self._credentials
        assert known is not None
        if not known.target_user:
            raise AuthenticationError("security keys after authentication")
        proof = self._algorithm, self._identifier, self._challenge
        if not chap.is_proof(keys, known.target_user, known.target_secret, *proof):
            raise AuthenticationError("the target is not who it should be: wrong user or secret")
        self.step = Step.DONE
        return []

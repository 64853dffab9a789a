"""What CHAP computes, RFC 7143 §12.1.3 and RFC 1994 §4.1: a hash over identifier, secret and challenge."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from devmodels.protocols.iscsi.text import parse_binary

ALGORITHMS = {5: "md5", 6: "sha1", 7: "sha256", 8: "sha3_256"}
"""Numbers of CHAP_A (IANA: PPP authentication algorithms), and Python's names."""

CHALLENGE_SIZES = {5: 16, 6: 20, 7: 32, 8: 32}
"""Bytes of a challenge of our own: as many as the hash has."""

MAX_CHALLENGE = 1024
"""Longest challenge, in bytes."""

MIN_SECRET = 12
"""96 bits, which a secret should have outside a secure network (§9.2.1)."""


class Credentials(NamedTuple):
    """What an initiator proves to a target, and, where `target_user` is there, what the target proves in turn."""

    user: str
    secret: bytes
    target_user: str = ""
    target_secret: bytes = b""


def response(algorithm: int, identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """What CHAP_R is to be."""
    hashed = hashlib.new(ALGORITHMS[algorithm], usedforsecurity=False)
    hashed.update(bytes([identifier & 0xFF]) + secret + challenge)
    return hashed.digest()


def is_challenge(identifier: int, challenge: bytes) -> bool:
    """Whether CHAP_I and CHAP_C are within bounds."""
    return identifier <= 255 and 1 <= len(challenge) <= MAX_CHALLENGE


def is_proof(
    keys: Mapping[str, str], user: str, secret: bytes, algorithm: int, identifier: int, challenge: bytes
) -> bool:
    """Whether CHAP_N and CHAP_R are those of `user`, in a time that does not tell where they differ.

    KeyError where one is missing, TextError where it has another form.
    """
    name, given = keys["CHAP_N"], parse_binary(keys["CHAP_R"])
    right = hmac.compare_digest(given, response(algorithm, identifier, secret, challenge))
    return hmac.compare_digest(name.encode(), user.encode()) and right

"""What CHAP computes, RFC 7143 §12.1.3 and RFC 1994 §4.1: a hash over identifier, secret and challenge."""

from __future__ import annotations

import hashlib
import hmac

ALGORITHMS = {5: "md5", 6: "sha1", 7: "sha256", 8: "sha3_256"}
"""Numbers of CHAP_A (IANA: PPP authentication algorithms), and Python's names."""

CHALLENGE_SIZES = {5: 16, 6: 20, 7: 32, 8: 32}
"""Bytes of a challenge of our own: as many as the hash has."""

MAX_CHALLENGE = 1024
"""Longest challenge, in bytes."""

MIN_SECRET = 12
"""96 bits, which a secret should have outside a secure network (§9.2.1)."""


def response(algorithm: int, identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """What CHAP_R is to be."""
    hashed = hashlib.new(ALGORITHMS[algorithm], usedforsecurity=False)
    hashed.update(bytes([identifier & 0xFF]) + secret + challenge)
    return hashed.digest()


def equal(first: bytes, second: bytes) -> bool:
    """Whether two responses are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(first, second)

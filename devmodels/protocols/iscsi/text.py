"""The form of key=value text in Login and Text PDUs, RFC 7143 §6.1.

Pairs are separated by null bytes.  What breaks the form is a `TextError`: the negotiation has failed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

Pairs = list[tuple[str, str]]
"""Keys and values, in order."""

MAX_KEY = 63
MAX_VALUE = 255
MAX_BINARY_VALUE = 8192
"""Longest key and values, in bytes (§6.1); values of authentication keys may be long."""

NOT_UNDERSTOOD = "NotUnderstood"
IRRELEVANT = "Irrelevant"
REJECT = "Reject"
NONE = "None"
YES, NO = "Yes", "No"

_KEY = re.compile(rb"(?:[A-Z]|iSCSI)[A-Za-z0-9.\-+@_#]{0,62}")
"""One of the standard's own keys begins with a small letter."""
_DECIMAL = re.compile(r"[0-9]{1,20}")
_NAME = re.compile(
    r"iqn\.[0-9]{4}-(?:0[1-9]|1[0-2])\.[^\s:]+(?::\S+)?|eui\.[0-9A-Fa-f]{16}|naa\.[0-9A-Fa-f]{16}(?:[0-9A-Fa-f]{16})?"
)
_HEX = re.compile(r"0[xX][0-9A-Fa-f]+")
_BASE64 = re.compile(r"0[bB][A-Za-z0-9+/]+={0,2}")


class TextError(ValueError):
    """Text that is not key=value in the form that RFC 7143 demands."""


def split(data: bytes) -> Pairs:
    """The pairs in `data`, in order; TextError where they have another form."""
    pairs: Pairs = []
    for piece in data.split(b"\0"):
        if not piece:
            continue  # Padding, or the null byte that ends the last pair.
        key, equals, value = piece.partition(b"=")
        if not equals:
            raise TextError(f"text without '=': {piece[:MAX_KEY]!r}")
        if not _KEY.fullmatch(key):
            raise TextError(f"no name of a key: {key[:MAX_KEY]!r}")
        if len(value) > MAX_BINARY_VALUE:
            raise TextError(f"{key.decode()}: a value of {len(value)} bytes")
        try:
            pairs.append((key.decode(), value.decode()))
        except UnicodeDecodeError:
            raise TextError(f"{key.decode()}: not UTF-8") from None
    return pairs


def join(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Pairs as they are sent."""
    return b"".join(f"{key}={value}\0".encode() for key, value in pairs)


def is_name(text: str) -> bool:
    """Whether `text` has the form of a node's name: iqn.…, eui.… or naa.… (§4.2.7)."""
    return _NAME.fullmatch(text) is not None


def parse_number(text: str) -> int:
    """A numerical value, decimal or hexadecimal; TextError for anything else."""
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text) and len(text) <= 18:
        return int(text, 16)
    raise TextError(f"no number: {text[:MAX_KEY]!r}")


def parse_boolean(text: str) -> bool:
    """Yes or No; TextError for anything else."""
    if text not in (YES, NO):
        raise TextError(f"neither Yes nor No: {text[:MAX_KEY]!r}")
    return text == YES


def parse_list(text: str) -> list[str]:
    """Values separated by commas; TextError for an empty one."""
    values = text.split(",")
    if not all(values):
        raise TextError(f"an empty value in a list: {text[:MAX_KEY]!r}")
    return values


def parse_binary(text: str) -> bytes:
    """A large binary value, hexadecimal (0x…) or base64 (0b…); TextError for anything else."""
    if _HEX.fullmatch(text):
        digits = text[2:]
        return bytes.fromhex("0" * (len(digits) % 2) + digits)
    if _BASE64.fullmatch(text):
        try:
            return base64.b64decode(text[2:], validate=True)
        except binascii.Error:
            pass
    raise TextError(f"no binary value: {text[:MAX_KEY]!r}")


def show_binary(data: bytes) -> str:
    """A large binary value in hexadecimal."""
    return f"0x{data.hex()}"

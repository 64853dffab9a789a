"""Numbers as clients and command lines write them."""

from __future__ import annotations

import re

from devmodels.options import OptionError, shown

TOP = 1 << 64
_WHOLE = r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))"
_SIZE = r"\+?(?:(0[xX][0-9a-fA-F]+)|([0-9]+)(?:\.([0-9]+))?)([bBkKmMgGtTpPeE]?)"
_UNITS = "bkmgtpe"


class NumberError(ValueError):
    """It is no number; the text is one line."""


def number(word: bytes) -> int:
    """A number as strtoul takes it with base 0: 0x for hexadecimal, 0 for octal; negative ones wrap at 2**64."""
    try:
        if b"_" not in word:
            if word[:2] in (b"0x", b"0X"):
                value = int(word, 16)
            elif word[:1] == b"0" and len(word) > 1:
                value = int(word, 8)
            elif word[:1] == b"-" and word[1:2].isdigit():
                return -number(word[1:]) % TOP
            else:
                value = int(word)
            if 0 <= value < TOP:
                return value
    except ValueError:
        pass
    raise NumberError(f"{word[:40].decode(errors='replace')!r} is no number of 64 bits")


def option_number(key: str, value: object) -> int:
    """The option `key`, of 32 bits without a sign, written in the same way; OptionError."""
    try:
        found = number(str(value).encode())
    except (NumberError, UnicodeEncodeError):
        found = TOP
    if found >= 1 << 32:
        raise OptionError(f"{key}: {shown(value)} is given; expected a number")
    return found


def whole(text: str) -> int | None:
    """What QEMU takes where a type of QAPI's or a property is an integer: as `strtoll` with base 0; None where not."""
    found = re.fullmatch(_WHOLE, text)
    if found is None:
        return None
    sign, hexadecimal, octal, decimal = found.groups()
    value = int(hexadecimal, 16) if hexadecimal else int(octal, 8) if octal else int(decimal)
    return -value if sign == "-" else value


def size(text: str) -> int | None:
    """What QEMU takes where an option is a size: bytes, or with k, M, G, T, P, E of 1024, also fractions of them."""
    found = re.fullmatch(_SIZE, text)
    if found is None:
        return None
    hexadecimal, integer, fraction, unit = found.groups()
    shift = 10 * _UNITS.index(unit.lower()) if unit else 0
    if hexadecimal:
        return int(hexadecimal, 16) << shift
    if fraction is None:
        return int(integer) << shift
    scale: int = 10 ** len(fraction)
    part = int(fraction) << shift
    return (int(integer) << shift) + part // scale if shift or not part else None

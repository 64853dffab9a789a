"""Numbers as clients and command lines write them."""

from __future__ import annotations

from devmodels.options import OptionError, shown

TOP = 1 << 64


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

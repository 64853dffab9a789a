"""JSON whose strings may stand in single quotes, as QEMU's monitor takes them (its qobject/json-lexer).

`{'execute': 'query-status'}` is what scripts write into a shell.  Within such a string a double quote stands for
itself, and a backslash before a single one makes that a part of it; in strings of double quotes, too.
"""

from __future__ import annotations

import re

_STRING = re.compile(rb"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_PART = re.compile(rb"""\\.|\"""", re.DOTALL)


def double_quoted(text: bytes) -> bytes:
    """The same in JSON's own quotes; what is no JSON stays none."""
    return _STRING.sub(_string, text)


def _string(found: re.Match[bytes]) -> bytes:
    single, double = found.groups()
    return b'"' + _PART.sub(_part, double if single is None else single) + b'"'


def _part(found: re.Match[bytes]) -> bytes:
    part = found[0]
    return b"'" if part == b"\\'" else b'\\"' if part == b'"' else part

"""`--object secret`: passwords by id, with QEMU's options, for exports and nodes that name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from devmodels.options import OptionError, convert, shown

MAX_SIZE = 4096
"""Longest secret, in bytes, as it is stored."""


class SecretOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of `--object secret`: the secret itself, or a file with nothing else in it, raw or in base64."""

    qom_type: Literal["secret"]
    id: Annotated[str, msgspec.Meta(min_length=1, description="a name for exports and nodes to refer to")]
    data: str | None = None
    file: str | None = None
    format: Literal["raw", "base64"] = "raw"

    def __post_init__(self) -> None:
        if (self.data is None) is (self.file is None):
            raise ValueError("expected one of data and file")


class Secrets:
    """Secrets by id."""

    def __init__(self) -> None:
        self.by_id: dict[str, bytes] = {}

    def add(self, options: Mapping[str, object]) -> None:
        """Take a secret; OptionError where there is none."""
        checked = convert(options, SecretOptions, what="secret")
        if checked.id in self.by_id:
            raise OptionError(f"id: {shown(checked.id)} is given; an object of that name is there")
        secret = _read(checked.file) if checked.data is None else checked.data.encode()
        if checked.format == "base64":
            import base64
            import binascii

            try:
                secret = base64.b64decode(secret.strip(), validate=True)
            except binascii.Error:
                raise OptionError("format: base64 is given; the secret is none") from None
        self.by_id[checked.id] = secret

    def __getitem__(self, name: str) -> bytes:
        """The secret of that name; OptionError where there is none."""
        secret = self.by_id.get(name)
        if secret is None:
            known = ", ".join(map(shown, sorted(self.by_id))) or "none"
            raise OptionError(f"no secret {shown(name)}; the secrets are: {known}")
        return secret

    def delete(self, name: str) -> None:
        """Forget a secret; those who have used it keep it."""
        del self.by_id[name]


def _read(path: str | None) -> bytes:
    assert path is not None
    try:
        with open(path, "rb") as file:
            secret = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise OptionError(f"file: cannot read {path!r}: {reason}") from None
    if len(secret) > MAX_SIZE:
        raise OptionError(f"file: {path!r} has more than {MAX_SIZE} bytes")
    return secret

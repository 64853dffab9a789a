"""Saved registers are flat: a name with its path to a number. These two put one part's state into the whole's."""

from __future__ import annotations

from collections.abc import Mapping


def nest(prefix: str, state: Mapping[str, int]) -> dict[str, int]:
    """`state` with every name under `prefix`: `nest("header", {"command": 6})` is `{"header.command": 6}`."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def unnest(prefix: str, state: Mapping[str, int]) -> dict[str, int]:
    """The part of `state` under `prefix`, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}

"""Virtqueues as a user names them: `desc=0x…,driver=0x…,device=0x…,size=256[,features=event_idx+…][,packed]`."""

from __future__ import annotations

from typing import Literal

from guestsim.drivers.layouts import MAX_QUEUE_SIZE, Feature
from guestsim.errors import GuestError
from guestsim.inspect.image import ADDRESS_LIMIT
from guestsim.inspect.state import Virtqueue

_FEATURES = {feature.name.lower(): feature for feature in Feature}
_KINDS: dict[str, Literal["blk", "other"]] = {"blk": "blk", "other": "other"}
_NUMBERS = ("desc", "driver", "device", "size")
_EXPECTED = "expected desc=0x…,driver=0x…,device=0x…,size=N[,features=NAME+…][,type=blk|other][,packed]"


class SpecError(GuestError):
    """A virtqueue is not given as it should be; one line that says what was expected."""


def parse_virtqueue(text: str) -> Virtqueue:
    """The virtqueue that a user names; raises `SpecError`."""
    values: dict[str, str] = {}
    packed = False
    for item in text.split(","):
        key, given, value = (part.strip() for part in item.partition("="))
        if key == "packed" and not given:
            packed = True
        elif not given or key not in (*_NUMBERS, "features", "type"):
            raise SpecError(f"--vq {text!r}: {item!r}: {_EXPECTED}")
        elif key in values:
            raise SpecError(f"--vq {text!r}: {key} is given twice")
        else:
            values[key] = value
    features = _features(text, values["features"]) if "features" in values else None
    packed = packed or (features is not None and Feature.RING_PACKED in features)
    numbers = {key: _number(text, key, values[key]) for key in _NUMBERS if key in values}
    needed = ("desc", "size") if packed else _NUMBERS
    missing = [key for key in needed if key not in numbers]
    if missing:
        raise SpecError(f"--vq {text!r}: {' and '.join(missing)} missing, {_EXPECTED}")
    size = numbers["size"]
    if not 0 < size <= MAX_QUEUE_SIZE:
        raise SpecError(f"--vq {text!r}: size {size}, expected 1 to {MAX_QUEUE_SIZE}")
    return Virtqueue(
        desc=numbers["desc"],
        driver=numbers.get("driver"),
        device=numbers.get("device"),
        size=size,
        packed=packed,
        features=features,
        kind=_kind(text, values["type"]) if "type" in values else "guess",
    )


def _number(text: str, key: str, value: str) -> int:
    try:
        number = int(value, 0)
    except ValueError:
        raise SpecError(f"--vq {text!r}: {key}={value!r}, expected a number") from None
    if not 0 <= number < ADDRESS_LIMIT:
        raise SpecError(f"--vq {text!r}: {key}={value!r}, expected 0 to 2**64 - 1")
    return number


def _features(text: str, value: str) -> frozenset[Feature]:
    names = [name.strip().lower() for name in value.split("+") if name.strip() not in ("", "none")]
    unknown = [name for name in names if name not in _FEATURES]
    if unknown:
        expected = f"expected none or some of {', '.join(_FEATURES)}"
        raise SpecError(f"--vq {text!r}: feature {unknown[0]!r}, {expected}")
    return frozenset(_FEATURES[name] for name in names)


def _kind(text: str, value: str) -> Literal["blk", "other"]:
    if value not in _KINDS:
        raise SpecError(f"--vq {text!r}: type={value!r}, expected blk or other")
    return _KINDS[value]

"""An execution for each ring and each transport that a device may have: its bench is played on them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from fuzz.choices import Choices
from fuzz.ring.bench import RingBench
from fuzz.ring.grammar import play
from fuzz.ring.transports import Over
from fuzz.target import Run
from tests.unit.virtio.plain import Kind

B_co = TypeVar("B_co", bound=RingBench, covariant=True)
B = TypeVar("B", bound=RingBench)
Maker = Callable[[], Run]


class Bench(Protocol[B_co]):
    """The class of a bench."""

    def __call__(self, over: Over, *, packed: bool, kind: Kind, without: int, write_cache: bool) -> B_co:
        """A device with its driver, ready to be played on."""


def runs(
    bench: Bench[B], off: tuple[int, ...], own: Callable[[B, Choices], None]
) -> tuple[Maker, Maker, Maker, Maker, Maker, Maker]:
    """Over PCI with a split and with a packed ring and the legacy interface, then the same over MMIO.

    `off` are features that are not negotiated, two of them at a time; `own` is a step of the device's own.
    """

    def run(over: Over, *, packed: bool) -> Run:
        return partial(_execute, bench, off, own, over, packed)

    return (
        partial(run, Over.PCI, packed=False),
        partial(run, Over.PCI, packed=True),
        partial(run, Over.PCI_LEGACY, packed=False),
        partial(run, Over.MMIO, packed=False),
        partial(run, Over.MMIO, packed=True),
        partial(run, Over.MMIO_LEGACY, packed=False),
    )


def _execute(
    bench: Bench[B],
    off: tuple[int, ...],
    own: Callable[[B, Choices], None],
    over: Over,
    packed: bool,
    data: bytes,
) -> None:
    choices = Choices(data)
    kind = choices.choice(tuple(Kind))
    without = choices.choice(off) | choices.choice(off)
    cache = bool(choices.randrange(4))
    play(bench(over, packed=packed, kind=kind, without=without, write_cache=cache), choices, own)

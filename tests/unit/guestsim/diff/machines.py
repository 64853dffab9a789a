"""Two of our own machines in place of ours and QEMU's: what is compared, without QEMU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from guestsim.diff.access import Step
from guestsim.diff.device import Device
from guestsim.diff.grammar import Action, virtio_blk
from guestsim.diff.grammar.virtio import BringUp, Submit
from guestsim.diff.play import Player
from guestsim.diff.virtio_devices import VIRTIO_BLK


class Few:
    """A few requests, one of which asks for the serial number."""

    def sequence(self, random: Random, length: int) -> list[Action]:
        up = BringUp(virtio_blk.ALL, (16,), None)
        chains = (virtio_blk.flush, virtio_blk.flush, virtio_blk.get_id, virtio_blk.flush)
        return [up, *(Submit(0, (chain(random, 0),), 0) for chain in chains)]

    def lower(self, actions: Sequence[Action]) -> list[Step]:
        return VIRTIO_BLK.grammar.lower(actions)


FEW = replace(VIRTIO_BLK, grammar=Few())
"""The disk, with short sequences."""

Open = Callable[[], AbstractContextManager[Player]]


def with_twin(folder: Path, device: Device = VIRTIO_BLK, **options: str | int | bool) -> Open:
    """Players of the device and another one of ours, which has some options of its own."""

    @contextmanager
    def opened() -> Iterator[Player]:
        first, *others = device.options
        named = {name.replace("_", "-"): value for name, value in options.items()}
        other = replace(device, options=[{**first, **named}, *others])
        ours, twin = device.our_side(folder), other.our_side(folder, "twin")
        try:
            yield device.player(ours, twin)
        finally:
            ours.close()
            twin.close()

    return opened

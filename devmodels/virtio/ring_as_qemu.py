"""What split and packed virtqueues have in common as QEMU 7.2's devices have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devmodels.virtio.state import RingState

if TYPE_CHECKING:

    class _Ring:
        """Either ring."""

        def __init__(self, *args: Any, **options: Any) -> None: ...

        def save(self) -> RingState:
            raise NotImplementedError

        def take_over(self, state: RingState) -> None: ...
else:
    _Ring = object


class RingAsQemu(_Ring):
    """The driver is told of the first buffers that are used, whatever it wishes (VIRTIO 1.4 §2.7.7.2, §2.8.10).

    `steady`: the device never says that it need not be notified, as of virtio-scsi's control and event queue.
    """

    __slots__ = ()

    _told: bool
    _steady: bool

    def __init__(self, *args: Any, steady: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self._told = False
        self._steady = steady

    def save(self) -> RingState:
        """Also whether the driver was told of any buffers."""
        state = super().save()
        state.hints["told"] = int(self._told)
        return state

    def take_over(self, state: RingState) -> None:
        """Go on where `save` was called."""
        super().take_over(state)
        self._told = bool(state.hints.get("told", False))

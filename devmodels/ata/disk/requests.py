"""The block requests that a command makes, or the disk on its behalf."""

from __future__ import annotations

from devmodels.ata.command import AtaCommand
from devmodels.blockbackend import Origin, Request
from devmodels.iocontext import Future


class AtaRequest(Request):
    """A block request of `command`."""

    __slots__ = ("command", "future", "over")

    command: AtaCommand
    over: bool
    future: Future[None] | None

    @property
    def origin(self) -> Origin:
        """The disk and the command's tag."""
        device = self.command.device
        return Origin("" if device is None else device.name, 0, self.command.tag)


class LookingRequest(AtaRequest):
    """A request by which the disk finds out what has gone wrong with another one: no error policy holds it."""

    __slots__ = ()

    POLICY = False


def wake(request: Request) -> None:
    """Whoever waits for `request` goes on."""
    assert isinstance(request, AtaRequest)
    request.over = True
    if request.future is not None:
        request.future.set_result(None)

"""What a port's two engines do: the command list, and the reception of FISes (AHCI 1.3.1 §10.3, §5.3).

            start             stop              idle              error
    OFF     RUNNING           OFF               OFF               OFF
    RUNNING RUNNING           STOPPING          RUNNING           HALTED
    HALTED  HALTED            STOPPING          HALTED            HALTED
    STOPPING STOPPING         STOPPING          OFF               STOPPING

PxCMD.CR is 1 but in OFF: `start` is PxCMD.ST set, `stop` its clearing, `idle` that no command runs any more.  A fatal
error halts the engine until software has stopped it.  PxCMD.FR follows PxCMD.FRE, but is 1 as long as commands run.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Of the command list's engine."""

    OFF = auto()
    RUNNING = auto()
    HALTED = auto()
    STOPPING = auto()


class Event(Enum):
    """What can happen to it."""

    START = auto()
    STOP = auto()
    IDLE = auto()
    ERROR = auto()


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.OFF, Event.START): State.RUNNING,
    (State.RUNNING, Event.STOP): State.STOPPING,
    (State.RUNNING, Event.ERROR): State.HALTED,
    (State.HALTED, Event.STOP): State.STOPPING,
    (State.STOPPING, Event.IDLE): State.OFF,
}
"""Every other event changes nothing."""

"""A session: one initiator port and one target, over one connection or several (RFC 7143 §4.2, §4.4.3).

Commands are numbered over all its connections (CmdSN) and delivered in that order; as many may be there as the
window allows.  Data of commands takes room, of which a session has so much; commands wait for it in their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from devmodels.exports.iscsi.authentication import LoginRefusedError
from devmodels.exports.iscsi.buffers import Pool
from devmodels.exports.iscsi.endings import Port
from devmodels.protocols.iscsi.codes import LoginStatus
from devmodels.protocols.iscsi.keys import Parameters
from devmodels.protocols.iscsi.pdu import serial_after
from devmodels.scsi.lun import parse_lun
from devmodels.scsi.nexus import Nexus

if TYPE_CHECKING:
    from devmodels.exports.iscsi.command import Command
    from devmodels.exports.iscsi.connection import Connection
    from devmodels.exports.iscsi.target import IscsiTarget

WINDOW = 128
"""Commands that may be there at a time, those aside that are immediate."""

MAX_IMMEDIATE = 32
"""Immediate commands that may be there at a time, per session, and as much task management besides."""

MAX_TRANSFER = 1 << 25
"""Bytes that one command can move each way: what more an initiator expects is left over."""

MAX_ROOM = 1 << 26
"""Bytes that the data of a session's commands takes at a time."""

_SERIALS = 0xFFFFFFFF


class Early(NamedTuple):
    """A PDU that has come before its turn."""

    connection: Connection
    opcode: int
    header: bytes
    ahs: bytes
    data: memoryview
    placed: memoryview | None


class Session:
    """One session; `target` is None for discovery.

    `tasks` are the commands that are there, by task tag; those in `unsubmitted` wait for room or for data.  `room` is
    what is left for data.
    """

    __slots__ = (
        "_admitting",
        "closed",
        "connections",
        "early",
        "exp_cmd_sn",
        "held_back",
        "immediate",
        "initiator",
        "isid",
        "luns",
        "max_cmd_sn",
        "nexus",
        "parameters",
        "pool",
        "postponed",
        "room",
        "target",
        "tasks",
        "tsih",
        "unsubmitted",
        "waiting",
    )

    def __init__(
        self,
        target: IscsiTarget | None,
        tsih: int,
        isid: bytes,
        parameters: Parameters,
        cmd_sn: int,
        *,
        pool: Pool,
        nexus: Nexus | None = None,
    ) -> None:
        self.target = target
        self.initiator = parameters.initiator_name
        self.isid = isid
        self.tsih = tsih
        self.parameters = parameters
        self.nexus = nexus
        self.pool = pool
        self.connections: dict[int, Connection] = {}
        self.exp_cmd_sn = cmd_sn
        self.max_cmd_sn = (cmd_sn + WINDOW - 1) & _SERIALS
        self.immediate = 0
        self.early: dict[int, Early | None] = {}
        self.postponed: list[tuple[int, Callable[[], None]]] = []
        """What is done as soon as all commands before a number have come."""
        self.tasks: dict[int, Command] = {}
        self.unsubmitted: dict[Command, None] = {}
        self.waiting: deque[Command] = deque()
        self.held_back: list[Command] = []
        """Writes that are submitted together, when what has come with them has been looked at."""
        self.room = MAX_ROOM
        self.luns: dict[int, int | None] = {0: 0}
        self.closed = False
        self._admitting = False

    @property
    def port(self) -> Port:
        """The initiator port."""
        return self.initiator, self.isid

    def lun(self, number: int) -> int | None:
        """The logical unit that the eight bytes of a LUN field, as a number, mean."""
        try:
            return self.luns[number]
        except KeyError:
            found = parse_lun(number.to_bytes(8, "big"))
            if len(self.luns) < 1024:
                self.luns[number] = found
            return found

    def check_room_for(self, cid: int) -> None:
        """LoginRefusedError where there may be no connection of that number besides the others (§13.2)."""
        others = self.connections.keys() - {cid}
        if len(others) >= self.parameters.max_connections:
            raise LoginRefusedError(LoginStatus.TOO_MANY_CONNECTIONS, f"{len(others)} connections")

    # --- numbers

    def in_window(self, cmd_sn: int) -> bool:
        """Whether a command of that number may come now, §4.2.2.1."""
        expected = self.exp_cmd_sn
        return (cmd_sn - expected) & _SERIALS < (self.max_cmd_sn + 1 - expected) & _SERIALS

    def forestall(self, cmd_sn: int) -> None:
        """The command of that number, which has not been delivered, is not to be done."""
        early = self.early.get(cmd_sn)
        if early is not None and early.placed is not None:
            self.pool.give((early.placed,))
        self.early[cmd_sn] = None
        self.deliver_early()

    def deliver_early(self) -> None:
        """Deliver what has come before its turn, as far as it is its turn now."""
        while not self.closed:
            if self.postponed:
                self._do_postponed()
            if self.exp_cmd_sn not in self.early:
                break
            early = self.early.pop(self.exp_cmd_sn)
            self.exp_cmd_sn = (self.exp_cmd_sn + 1) & _SERIALS
            if early is None or early.connection.closed:
                self.retire(immediate=False)
            else:
                early.connection.deliver(early)

    def _do_postponed(self) -> None:
        due = [each for each in self.postponed if not serial_after(each[0], self.exp_cmd_sn)]
        self.postponed = [each for each in self.postponed if each not in due]
        for _, act in due:
            act()

    def lacks(self, cmd_sn: int) -> bool:
        """Whether commands before that number, of which the next one may be sent, are still on their way."""
        expected = self.exp_cmd_sn
        return 0 < (cmd_sn - expected) & _SERIALS <= (self.max_cmd_sn + 1 - expected) & _SERIALS

    def forget_early(self, connection: Connection) -> None:
        """What has come over `connection` before its turn is not to be done."""
        for number, early in self.early.items():
            if early is not None and early.connection is connection:
                self.early[number] = None

    def retire(self, immediate: bool) -> None:
        """A command is over: there is room for one more."""
        if immediate:
            self.immediate -= 1
        else:
            self.max_cmd_sn = (self.max_cmd_sn + 1) & _SERIALS

    # --- commands that wait

    def admit(self, command: Command) -> None:
        """Let `command` begin when its data has room, after those that wait already."""
        if self.waiting or not self._fits(command.need):
            self.waiting.append(command)
        else:
            self.room -= command.need
            command.begin()

    def _fits(self, need: int) -> bool:
        # One command alone always fits.
        return need <= self.room or self.room == MAX_ROOM

    def give_back(self, room: int) -> None:
        """The data of a command is no longer needed."""
        self.room += room
        if not self.waiting or self._admitting:
            return
        self._admitting = True
        try:
            while self.waiting and self._fits(self.waiting[0].need):
                command = self.waiting.popleft()
                self.room -= command.need
                command.begin()
        finally:
            self._admitting = False

    def submit_ready(self) -> None:
        """Submit what has its data, in order as far as task attributes demand (SAM-5 §8.6)."""
        passed = False
        for command in list(self.unsubmitted):
            if command not in self.unsubmitted:
                continue  # It was submitted in the room of one before it.
            if command.ready and command.may_pass(passed):
                del self.unsubmitted[command]
                command.submit()
            else:
                passed = True
                if command.is_barrier:
                    break

    def submit_held_back(self) -> None:
        """Submit the writes that were held back; neighbours become one request of the disk."""
        target = self.target
        while self.held_back:
            assert target is not None
            writes, self.held_back = self.held_back, []
            if len(writes) == 1:
                target.scsi.submit(writes[0])
                continue
            with target.batch({command.lun for command in writes}):
                for command in writes:
                    target.scsi.submit(command)

    def drop(self, wanted: Callable[[Command], bool]) -> None:
        """Commands that were not submitted are not to be done: nothing more is said of them."""
        # The last ones first: those that wait must not begin in the room that others leave.
        for command in reversed([each for each in self.unsubmitted if wanted(each)]):
            if command in self.unsubmitted:
                del self.unsubmitted[command]
                if command in self.waiting:
                    self.waiting.remove(command)
                    command.need = 0
                command.forget()
        self.submit_ready()

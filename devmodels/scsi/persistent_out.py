"""PERSISTENT RESERVE OUT: registering, reserving, releasing, preempting (SPC-4 §5.12, §6.16)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from devmodels.iocontext import Coro
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb
from devmodels.scsi.layout import reservations as layout
from devmodels.scsi.nexus import Nexus, Registrant
from devmodels.scsi.reservable import ReservableUnit
from devmodels.scsi.reservations import MAX_REGISTRATIONS, SHARED, TYPES, Reservations, ReservationType
from devmodels.scsi.sense import CheckCondition, Conflict, Sense, illegal, invalid_field, invalid_parameter
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task
from devmodels.scsi.transportid import split_transport_ids, transport_id_size

CDB = Layout(cdb.PERSISTENT_RESERVE_OUT)
_PARAMETERS = Layout(layout.OUT_PARAMETERS)
_MOVE = Layout(layout.MOVE_PARAMETERS)

ADDITIONAL_AT = 24
"""Where the length of the TransportIDs is."""
MAX_PARAMETERS = 1 << 14
_KEY_AT, _SERVICE_ACTION_KEY_AT, _FLAGS_AT, _MOVE_FLAGS_AT, _PORT_AT = 0, 8, 20, 17, 18
_SPEC_I_PT_BIT, _APTPL_BIT = 3, 0


class Out(NamedTuple):
    """One PERSISTENT RESERVE OUT, parsed."""

    unit: ReservableUnit
    task: Task
    fields: Fields
    values: Fields
    data: bytes

    @property
    def reservations(self) -> Reservations:
        """The unit's."""
        return self.unit.reservations

    @property
    def nexus(self) -> Nexus:
        """Who asks."""
        return self.task.nexus

    @property
    def me(self) -> Registrant:
        """Who asks, as registrations know it."""
        return self.task.nexus.registrant

    @property
    def key(self) -> int:
        """RESERVATION KEY."""
        return self.values["reservation_key"]

    @property
    def new_key(self) -> int:
        """SERVICE ACTION RESERVATION KEY."""
        return self.values["service_action_key"]

    @property
    def kind(self) -> ReservationType:
        """TYPE; CheckCondition where it, or SCOPE, is not one that there is."""
        if self.fields["scope"]:
            raise invalid_field(CDB, "scope")
        if self.fields["type"] not in TYPES:
            raise invalid_field(CDB, "type")
        return ReservationType(self.fields["type"])

    def check_registered(self) -> None:
        """Conflict unless this nexus is registered, with the key that it gives."""
        if self.reservations.registrations.get(self.me) != self.key:
            raise Conflict


# --- registering


def _register(out: Out, *, ignore: bool) -> None:
    """REGISTER, and with `ignore` REGISTER AND IGNORE EXISTING KEY (SPC-4 §5.12.7)."""
    reservations, me = out.reservations, out.me
    registered = me in reservations.registrations
    if not ignore and reservations.registrations.get(me, 0) != out.key:
        raise Conflict
    if out.values["spec_i_pt"] and (registered or ignore):
        raise invalid_parameter(_FLAGS_AT, _SPEC_I_PT_BIT)
    _check_aptpl(out, _FLAGS_AT)
    wanted = _registering(out)
    if out.new_key:
        more = sum(each not in reservations.registrations for each in wanted)
        if len(reservations.registrations) + more > MAX_REGISTRATIONS:
            raise illegal(Asc.INSUFFICIENT_REGISTRATION_RESOURCES)
        for each in wanted:
            reservations.registrations[each] = out.new_key
    elif registered:
        for each in wanted:
            if each in reservations.registrations:
                _unregister(out, each)
    reservations.aptpl = bool(out.values["aptpl"])
    reservations.generation += 1


def _registering(out: Out) -> list[Registrant]:
    """The nexuses that a registration concerns: SPEC_I_PT names others, ALL_TG_PT means each port."""
    names = [out.nexus.transport_id]
    if out.values["spec_i_pt"]:
        names += _named(out)
    port = out.nexus.port.relative
    ports = [port]
    if out.values["all_tg_pt"] and out.unit.target is not None:
        ports = sorted({port, *out.unit.target.ports})
    return [(name, each) for name in names for each in ports]


def _named(out: Out) -> list[bytes]:
    """The TransportIDs of the parameter list."""
    length = int.from_bytes(out.data[ADDITIONAL_AT : ADDITIONAL_AT + 4], "big")
    if len(out.data) < ADDITIONAL_AT + 4 or len(out.data) != ADDITIONAL_AT + 4 + length:
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    try:
        return split_transport_ids(out.data[ADDITIONAL_AT + 4 :])
    except ValueError:
        raise invalid_parameter(ADDITIONAL_AT + 4) from None


def _unregister(out: Out, registrant: Registrant) -> None:
    """Forget one registration; with a reservation of registrants only, the others hear that it is gone."""
    kind = out.reservations.type
    if out.reservations.unregister(registrant) and kind in SHARED:
        out.unit.tell_registrants(out.reservations.registrations, Asc.RESERVATIONS_RELEASED, but=out.nexus)


def _check_aptpl(out: Out, byte: int) -> None:
    if out.values["aptpl"] and out.unit.state is None:
        raise invalid_parameter(byte, _APTPL_BIT)


async def register(out: Out) -> None:
    """SPC-4 §5.12.7."""
    _register(out, ignore=False)


async def register_and_ignore(out: Out) -> None:
    """SPC-4 §5.12.7."""
    _register(out, ignore=True)


async def register_and_move(out: Out) -> None:
    """Register another nexus and hand it the reservation (SPC-4 §5.12.8)."""
    reservations = out.reservations
    out.check_registered()
    if reservations.type is ReservationType.NONE:
        raise invalid_field(CDB, "service_action")
    if not reservations.holds(out.me):
        raise Conflict
    if reservations.all_registrants:
        raise Conflict
    if not out.new_key:
        raise invalid_parameter(_SERVICE_ACTION_KEY_AT)
    _check_aptpl(out, _MOVE_FLAGS_AT)
    name = out.data[_MOVE.size :]
    try:
        whole = transport_id_size(name) == len(name) == out.values["transport_id_length"]
    except ValueError:
        whole = False
    if not whole:
        raise invalid_parameter(_MOVE.size)
    port = out.values["relative_port"]
    if out.unit.target is None or port not in out.unit.target.ports:
        raise invalid_parameter(_PORT_AT)
    other = (name, port)
    if other == out.me:
        raise invalid_parameter(_MOVE.size)
    if other not in reservations.registrations and len(reservations.registrations) >= MAX_REGISTRATIONS:
        raise illegal(Asc.INSUFFICIENT_REGISTRATION_RESOURCES)
    kind = reservations.type
    reservations.registrations[other] = out.new_key
    reservations.reserve(other, kind)
    if out.values["unreg"]:
        del reservations.registrations[out.me]
    reservations.aptpl = bool(out.values["aptpl"])
    reservations.generation += 1


# --- reserving and releasing


async def reserve(out: Out) -> None:
    """SPC-4 §5.12.9."""
    out.check_registered()
    kind = out.kind
    reservations = out.reservations
    if reservations.type is ReservationType.NONE:
        reservations.reserve(out.me, kind)
    elif not reservations.holds(out.me) or reservations.type is not kind:
        raise Conflict


async def release(out: Out) -> None:
    """SPC-4 §5.12.11.2.1.  Releasing what one does not hold is no error."""
    out.check_registered()
    reservations = out.reservations
    if not reservations.holds(out.me):
        return
    if out.fields["scope"] or out.fields["type"] != reservations.type:
        raise illegal(Asc.INVALID_RELEASE_OF_PERSISTENT_RESERVATION)
    shared = reservations.type in SHARED
    reservations.release()
    if shared:
        out.unit.tell_registrants(reservations.registrations, Asc.RESERVATIONS_RELEASED, but=out.nexus)


async def clear(out: Out) -> None:
    """Forget all registrations and the reservation (SPC-4 §5.12.11.6)."""
    out.check_registered()
    registered = list(out.reservations.registrations)
    out.reservations.clear()
    out.reservations.generation += 1
    out.unit.tell_registrants(registered, Asc.RESERVATIONS_PREEMPTED, but=out.nexus)


# --- preempting


def _preempt(out: Out) -> list[Registrant]:
    """PREEMPT (SPC-4 §5.12.11.4); the registrants whose registrations were removed, this nexus left out."""
    reservations, me, target = out.reservations, out.me, out.new_key
    out.check_registered()
    kind = out.kind
    held = reservations.type is not ReservationType.NONE
    holder_key = None if reservations.holder is None else reservations.registrations[reservations.holder]
    takes = held and (target == 0 if reservations.all_registrants else target == holder_key)
    if takes:
        removed = [
            each
            for each, key in reservations.registrations.items()
            if each != me and (reservations.all_registrants or key == target)
        ]
    else:
        if not target:
            raise invalid_parameter(_SERVICE_ACTION_KEY_AT)
        removed = [each for each, key in reservations.registrations.items() if key == target]
        if not removed:
            raise Conflict
    before = reservations.type
    _remove(out, removed)
    if takes:
        reservations.release()
        reservations.reserve(me, kind)
        if before is not kind:
            left = [each for each in reservations.registrations if each != me]
            out.unit.tell_registrants(left, Asc.RESERVATIONS_RELEASED, but=out.nexus)
    reservations.generation += 1
    out.unit.tell_registrants(removed, Asc.REGISTRATIONS_PREEMPTED, but=out.nexus)
    return [each for each in removed if each != me]


def _remove(out: Out, removed: list[Registrant]) -> None:
    """Forget registrations; where the last holder is among them, the reservation ends."""
    for each in removed:
        out.reservations.unregister(each)


async def preempt(out: Out) -> None:
    """SPC-4 §5.12.11.4."""
    _preempt(out)


async def preempt_and_abort(out: Out) -> None:
    """As PREEMPT, and the commands of those who were preempted end, too (SPC-4 §5.12.11.5)."""
    removed = _preempt(out)
    nexuses = out.reservations.nexuses_of(out.unit.nexuses(but=out.nexus), removed)
    await out.unit.abort_tasks_of(nexuses, but=out.task)


# --- the command

Action = Callable[[Out], Coro[None]]


def _handler(action: Action, parameters: Layout) -> Callable[[ReservableUnit, Task, Fields], Coro[None]]:
    async def handle(unit: ReservableUnit, task: Task, fields: Fields) -> None:
        unit.check_not_reserved()
        data = _parameter_list(unit, task, fields, parameters)
        reservations = unit.reservations
        before = reservations.image()
        await action(Out(unit, task, fields, parameters.unpack(data), data))
        unit.reservations_changed()
        after = reservations.image()
        try:
            await unit.save_reservations(before.aptpl)
        except OSError:
            if reservations.image() == after:
                reservations.take_image(before)
                unit.reservations_changed()
            raise

    return handle


def _parameter_list(unit: ReservableUnit, task: Task, fields: Fields, layout: Layout) -> bytes:
    """The parameter list; 24 bytes unless there are TransportIDs in it (SPC-4 §6.16.3)."""
    length = fields["parameter_list_length"]
    if length < layout.size or length > MAX_PARAMETERS:
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.PARAMETER_LIST_LENGTH_ERROR))
    data = unit.parameters(task, length)
    spec_i_pt = layout is _PARAMETERS and data[_FLAGS_AT] >> _SPEC_I_PT_BIT & 1
    if layout is _PARAMETERS and not spec_i_pt and length != layout.size:
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.PARAMETER_LIST_LENGTH_ERROR))
    return data


def _command(
    action: int, name: str, handler: Action, clause: str, parameters: Layout = _PARAMETERS
) -> Command[ReservableUnit]:
    ignored = () if action in (0x01, 0x02, 0x04, 0x05) else ("scope", "type")
    return Command(
        0x5F,
        f"PERSISTENT RESERVE OUT, {name}",
        CDB,
        _handler(handler, parameters),
        clause,
        action=action,
        data=Data.OUT,
        length="parameter_list_length",
        ignored=ignored,
        access=Access.OWN,
        ready=False,
    )


COMMANDS = (
    _command(0x00, "REGISTER", register, "SPC-4 §5.12.7"),
    _command(0x01, "RESERVE", reserve, "SPC-4 §5.12.9"),
    _command(0x02, "RELEASE", release, "SPC-4 §5.12.11.2"),
    _command(0x03, "CLEAR", clear, "SPC-4 §5.12.11.6"),
    _command(0x04, "PREEMPT", preempt, "SPC-4 §5.12.11.4"),
    _command(0x05, "PREEMPT AND ABORT", preempt_and_abort, "SPC-4 §5.12.11.5"),
    _command(0x06, "REGISTER AND IGNORE EXISTING KEY", register_and_ignore, "SPC-4 §5.12.7"),
    _command(0x07, "REGISTER AND MOVE", register_and_move, "SPC-4 §5.12.8", _MOVE),
)

"""The SCSI domain behind one host device: up to 256 targets, each with up to 16384 logical units (VIRTIO 1.4 §5.6.6.1).

The driver is the one initiator port; what it names with the eight bytes of a `lun` field `ScsiBus.find` looks up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import msgspec

from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext
from devmodels.names import number_of
from devmodels.scsi import LogicalUnit, Nexus, ScsiTarget, TargetPort, inventory, parse_lun, sas_transport_id
from devmodels.scsi.asc import Asc
from devmodels.virtio_scsi.layout import MAX_LUN, MAX_TARGET
from devmodels.virtio_scsi.wellknown import WELL_KNOWN_LUN, DomainUnit

if TYPE_CHECKING:
    from devmodels.scsi.qemu import BusAttention
    from devmodels.virtio_scsi.request import ScsiRequest

_LOCALLY_ASSIGNED = 0x3 << 60
"""The NAA format of names that somebody has made up (SPC-4 §7.8.6.6.5)."""


_FLAT = 0x40
"""The method of flat addressing, in the first byte of a LUN (SAM-5 §4.7.4)."""


class Place(msgspec.Struct, frozen=True):
    """What a `lun` field names: a target, the driver's nexus with it, a LUN as of `parse_lun`, who answers there."""

    target: ScsiTarget
    nexus: Nexus
    lun: int | None
    unit: LogicalUnit


class BusListener(Protocol):
    """Who is told of what changes on the bus."""

    def unit_added(self, target: int, unit: LogicalUnit) -> None:
        """`unit` has appeared."""
        ...

    def unit_removed(self, target: int, lun: int) -> None:
        """The unit at `lun` has gone."""
        ...

    def unit_attention(self, target: int, unit: LogicalUnit, code: Asc) -> None:
        """A unit attention condition has been established."""
        ...

    def unit_event(self, target: int, unit: LogicalUnit, classes: int) -> None:
        """A drive has events of these classes, by their bits in GET EVENT STATUS NOTIFICATION."""
        ...


class ScsiBus:
    """Targets by number.  `listener` is the device, which sends its driver word.

    Only while a driver is there (`connected`) units have anything to tell it.
    """

    def __init__(self, context: IoContext, *, name: str, violations: ViolationLog) -> None:
        self.context = context
        self.name = name
        self.violations = violations
        self.targets: dict[int, ScsiTarget] = {}
        self.listener: BusListener | None = None
        self._initiator = sas_transport_id(_LOCALLY_ASSIGNED | number_of(name))
        self._nexuses: dict[int, Nexus] = {}
        self.connected = False
        self.attention = self._attention_as_qemu() if violations.as_qemu else None
        self.known: dict[bytes, Place] = {}
        """What has been looked up and is there, by the bytes that name it."""
        self._well_known = self._domain()

    @staticmethod
    def _attention_as_qemu() -> BusAttention:
        from devmodels.scsi.qemu import BusAttention

        return BusAttention()

    def _domain(self) -> Place:
        target = ScsiTarget(self.context, name=self.name, violations=self.violations)
        nexus = Nexus(self._initiator, TargetPort(), self.name)
        unit = DomainUnit(
            self.context,
            lambda: ((number, lun) for number, lun, _ in self.units()),
            self._seen,
            name=self.name,
            violations=self.violations,
        )
        target.add(0, unit)
        return Place(target, nexus, 0, unit)

    def _seen(self) -> None:
        """The driver has seen the list of all units."""
        for number, _, unit in self.units():
            inventory.learned((unit,), self._nexuses[number])

    def units(self) -> Iterator[tuple[int, int, LogicalUnit]]:
        """Every logical unit with its target and LUN, in ascending order."""
        for number in sorted(self.targets):
            units = self.targets[number].units
            for lun in sorted(units):
                yield number, lun, units[lun]

    # --- what comes and goes

    def add(self, number: int, lun: int, unit: LogicalUnit) -> None:
        """`unit` is there from now on, as `lun` of target `number`; ValueError where it cannot be."""
        if not 0 <= number <= MAX_TARGET:
            raise ValueError(f"scsi-id is {number}, expected 0 to {MAX_TARGET}")
        if not 0 <= lun <= MAX_LUN:
            raise ValueError(f"lun is {lun}, expected 0 to {MAX_LUN}")
        target = self.targets.get(number)
        if target is None:
            target = self._new_target(number)
        elif lun in target.units:
            raise ValueError(f"lun {lun} of scsi-id {number} is in use")
        if self.attention is not None:
            unit.front = unit.front_as_qemu(self.attention)
        target.add(lun, unit)
        self.known.clear()
        if self.listener is not None:
            self.listener.unit_added(number, unit)

    def _new_target(self, number: int) -> ScsiTarget:
        name = f"{self.name}.{number}"
        target = self.targets[number] = ScsiTarget(self.context, name=name, violations=self.violations)
        nexus = self._nexuses[number] = Nexus(self._initiator, TargetPort(), self.name)
        if self.connected:
            target.nexus_gained(nexus)
        target.on_attention.append(lambda unit, code: self._attention(number, unit, code))
        target.on_event.append(lambda unit, classes: self._event(number, unit, classes))
        return target

    def remove(self, number: int, lun: int, over: Callable[[], None] | None = None) -> LogicalUnit:
        """The unit is no longer there, nor the target where it was its last; `over` when its tasks have ended."""
        target = self.targets[number]
        unit = target.units[lun]
        self.known.clear()
        if len(target.units) == 1:
            del self.targets[number]
            del self._nexuses[number]
        target.remove(lun, over)
        if self.listener is not None:
            self.listener.unit_removed(number, lun)
        return unit

    def _attention(self, number: int, unit: LogicalUnit, code: Asc) -> None:
        if self.listener is not None:
            self.listener.unit_attention(number, unit, code)

    def _event(self, number: int, unit: LogicalUnit, classes: int) -> None:
        if self.listener is not None:
            self.listener.unit_event(number, unit, classes)

    # --- the driver, an initiator port

    def connect(self) -> None:
        """There is a driver: every unit has a power on condition to tell it.  Idempotent."""
        if not self.connected:
            self.connected = True
            for target, nexus in self._connections():
                target.nexus_gained(nexus)

    def disconnect(self) -> None:
        """The driver has gone, or has reset the device: a hard reset of every unit (SAM-5 §6.3.2)."""
        for target, nexus in self._connections():
            if self.connected:
                target.nexus_lost(nexus)
            target.hard_reset()
        self.connected = False

    def _connections(self) -> Iterator[tuple[ScsiTarget, Nexus]]:
        """Each target with the driver's nexus, that of the well known logical unit included."""
        yield self._well_known.target, self._well_known.nexus
        for number, target in list(self.targets.items()):
            yield target, self._nexuses[number]

    # --- commands

    @staticmethod
    def start_together(requests: Sequence[ScsiRequest]) -> None:
        """Neighbours become one request of the disk."""
        with ExitStack() as batches:
            if len(requests) > 1:
                for unit in dict.fromkeys(request.place.unit for request in requests):
                    batches.enter_context(unit.batch())
            for request in requests:
                request.place.unit.submit(request)

    def start_as_qemu(self, requests: Iterable[ScsiRequest]) -> None:
        """All that came with one notification are looked at before any begins; what moves data ends behind the rest."""
        self.start_together([each for each in requests if _prepared(each)])

    # --- what a driver names

    def find(self, lun: bytes) -> Place | None:
        """What these eight bytes name; None where there is no such target."""
        return self.known.get(lun) or self._look_up(lun)

    def _look_up_as_qemu(self, lun: bytes) -> Place | None:
        """As QEMU: four bytes count, the method of addressing does not, and the newest unit answers for others."""
        target = self.targets.get(lun[1])
        if lun[0] != 1 or target is None or 0 < lun[2] < _FLAT or lun[2] >= 2 * _FLAT:
            return None
        number = int.from_bytes(lun[2:4], "big") & MAX_LUN
        unit = target.units.get(number) or next(reversed(target.units.values()))
        place = self.known[lun] = Place(target, self._nexuses[lun[1]], number, unit)
        return place

    def _look_up(self, lun: bytes) -> Place | None:
        if self.attention is not None:
            return self._look_up_as_qemu(lun)
        if lun == WELL_KNOWN_LUN:
            return self._well_known
        if lun[0] != 1 or any(lun[4:]):
            return None
        target = self.targets.get(lun[1])
        if target is None:
            return None
        number = parse_lun(lun[2:4] + bytes(6))
        place = Place(target, self._nexuses[lun[1]], number, target.unit(number) or target.absent)
        if number in target.units:
            self.known[lun] = place
        return place

    def nexus(self, number: int) -> Nexus:
        """The driver's nexus with a target."""
        return self._nexuses[number]

    @property
    def well_known(self) -> Place:
        """The unit that lists those of all targets."""
        return self._well_known

    def all_targets(self) -> list[ScsiTarget]:
        """Each target, that of the well known logical unit included."""
        return [self._well_known.target, *self.targets.values()]


def _prepared(request: ScsiRequest) -> bool:
    """Whether it is to begin."""
    front = request.place.unit.front
    return front is None or front.prepare(request)

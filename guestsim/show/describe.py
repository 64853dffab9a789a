"""Events in words: a `Describer` follows a trace and says of each event what it is about.

    describer = Describer()
    for event in reader:
        seen = describer.see(event)
        print(seen.text)

It keeps what is in flight, and where registers and rings lie.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from devmodels.ahci import AhciPci
from devmodels.ide_cdrom import PiixIde
from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts
from devmodels.virtio.constants import NOTIFICATION_DATA, RING_PACKED
from guestsim.forms import CommandForm, Forms, UnitPlace, unit_place
from guestsim.show import names
from guestsim.show.atacommands import AtaCommands
from guestsim.show.atamemory import AtaMemory, HbaMemory, MasterMemory
from guestsim.show.places import Memories, Taken
from guestsim.show.possible import is_possible
from guestsim.show.registers import Place, Registers, config_layout, device_config
from guestsim.show.words import Seen, device_words, request_words, spot_words
from guestsim.story import MACHINE_MEMORY

_PLACE = re.compile(
    r"(?P<device>\S+)(?: port [0-9]+)?(?: queue (?P<queue>[0-9]+))?(?: head (?P<head>[0-9]+))?"
)


class _Device:
    """What one device's events refer to."""

    __slots__ = ("features", "parts", "runs", "steps", "unnotified", "unsignalled")

    def __init__(self) -> None:
        self.features = 0
        self.parts: dict[int, Taken] = {}
        """The buffer of each block request, by its number."""
        self.runs: dict[int, list[Taken]] = {}
        """The buffers that a dispatch serves, by its number."""
        self.steps: dict[int, tuple[str, list[Taken]]] = {}
        """The node that a request has come to, and the buffers that it serves, by the step's number."""
        self.unnotified: dict[tuple[int, int], int] = {}
        """Buffers given back of which the driver has not been told, by queue and head."""
        self.unsignalled: dict[tuple[int, int], int] = {}
        """Of these it has been told, but the interrupt has not come."""


class Describer:
    """Follows a trace from its first event; `memories` are as they have been shown."""

    def __init__(self) -> None:
        self._registers = Registers()
        self.forms = Forms()
        self.memories = Memories()
        self._devices: dict[str, _Device] = {}
        self.commands = AtaCommands()
        """Those of ATA devices."""
        self.ata_hosts: set[str] = set()
        """The hosts of ATA devices that there are, or were."""
        self._ata: dict[str, list[AtaMemory]] = {}
        """What hosts of ATA devices have in a memory, by that memory's source."""
        self._count = 0
        kinds = EventKind
        self._kinds: dict[EventKind, Callable[[TraceEvent], Seen]] = {
            kinds.DEVICE: self._device,
            kinds.ACCESS_READ: self._access_read,
            kinds.ACCESS_VALUE: self._access_value,
            kinds.ACCESS_WRITE: self._access_write,
            kinds.MACHINE_RESET: self._machine_reset,
            kinds.FEATURES: self._features,
            kinds.CONFIG_READ: self._config,
            kinds.CONFIG_WRITE: self._config,
            kinds.AGAIN: self._of_queue,
            kinds.QUEUE: self._queue,
            kinds.MOVED: self._moved,
            kinds.ENABLE: self._of_queue,
            kinds.KICK: self._kick,
            kinds.LOOK: self._of_queue,
            kinds.STOP: self._of_queue,
            kinds.RESET: self._reset,
            kinds.CHAIN: self._chain,
            kinds.USED: self._used,
            kinds.NOTIFY: self._notify,
            kinds.DMA_READ: self._dma,
            kinds.DMA_WRITE: self._dma,
            kinds.REQUEST: self._request,
            kinds.DISPATCH: self._dispatch,
            kinds.DONE: self._done,
            kinds.COMPLETION: self._completion,
            kinds.NODE_BEGIN: self._node_begin,
            kinds.NODE_END: self._node_end,
            kinds.REMOVED: self._removed,
            kinds.INTERRUPT: self._interrupt,
            kinds.VIOLATION: self._violation,
        }

    @property
    def in_flight(self) -> int:
        """How many buffers the devices have."""
        return self.memories.in_flight

    def see(self, event: TraceEvent) -> Seen:
        """Take the next event."""
        see = self._kinds.get(event.kind)
        self.commands.at(event)
        if not is_possible(event):
            return Seen(event, possible=False)
        return Seen(event) if see is None else see(event)

    def _of(self, source: str) -> _Device:
        device = self._devices.get(source)
        if device is None:
            device = self._devices[source] = _Device()
        return device

    def _new(self, event: TraceEvent, queue: int | None = None) -> Seen:
        seen = Seen(event)
        seen.queue = queue
        return seen

    # --- the machine

    def _device(self, event: TraceEvent) -> Seen:
        seen = self._new(event)
        try:
            facts = msgspec.json.decode(str(event.detail[0]), type=DeviceFacts)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return seen
        self._registers.add(facts)
        self.forms.add(facts)
        self.memories.announce(event.source, facts.memory)
        self._announce_ata(facts)
        seen.title = device_words(facts)
        return seen

    def _announce_ata(self, facts: DeviceFacts) -> None:
        function = None if facts.host else self._registers.function(facts.name)
        found: AtaMemory
        if isinstance(function, AhciPci):
            found = HbaMemory(function, self._registers.drives, self.commands)
        elif isinstance(function, PiixIde):
            channels = [self._registers.channels[each.command_block] for each in function.channels]
            found = MasterMemory(function, channels)
        else:
            return
        self.ata_hosts.add(facts.name)
        self._ata.setdefault(facts.memory or MACHINE_MEMORY, []).append(found)

    def _reached(self, event: TraceEvent, *, writing: bool) -> tuple[Seen, list[Place]]:
        address, size = event.detail[:2]
        places = self._registers.at(event.source, int(address), int(size), writing=writing)
        seen = self._new(event)
        seen.device = next((place.device for place in places if place.device is not None), None)
        seen.registers = [place.name for place in places]
        return seen, places

    def _access_read(self, event: TraceEvent) -> Seen:
        seen, _ = self._reached(event, writing=False)
        return seen

    def _access_value(self, event: TraceEvent) -> Seen:
        seen, places = self._reached(event, writing=False)
        seen.fields = [place.decoded(int(event.detail[2])) for place in places]
        for place, field in zip(places, seen.fields, strict=True):
            if place.name.endswith("status") and isinstance(field.value, int):
                self._registers.status_read(self.commands, place, field.value)
        return seen

    def _access_write(self, event: TraceEvent) -> Seen:
        seen, places = self._reached(event, writing=True)
        address, size, value = map(int, event.detail)
        seen.fields = [place.decoded(value) for place in places]
        self._registers.write(event.source, address, size, value, places)
        for place in places:
            self._registers.command_written(self.commands, place)
        return seen

    def _machine_reset(self, event: TraceEvent) -> Seen:
        self._registers.reset()
        self.commands.reset()
        return self._new(event)

    def _interrupt(self, event: TraceEvent) -> Seen:
        seen = self._new(event)
        seen.device = None
        told: list[int] = []
        for name, device in self._devices.items():
            if device.unsignalled:
                told += device.unsignalled.values()
                device.unsignalled.clear()
                seen.device = name
        seen.requests = tuple(told)
        return seen

    def _violation(self, event: TraceEvent) -> Seen:
        seen = self._new(event)
        where = unit_place(str(event.detail[1]))
        if where is not None:
            return self._unit_violation(seen, where)
        found = _PLACE.fullmatch(str(event.detail[1]))
        seen.device = None
        if found is not None:
            seen.device = found["device"]
            seen.queue = None if found["queue"] is None else int(found["queue"])
            if found["head"] is not None and seen.queue is not None:
                seen.head = int(found["head"])
                taken = self.memories.of_device(found["device"]).find(found["device"], seen.queue, seen.head)
                seen.requests = () if taken is None else (taken.number,)
        return seen

    def _unit_violation(self, seen: Seen, where: UnitPlace) -> Seen:
        seen.device = host = self.forms.host_of(where.unit)
        for taken in () if host is None else self.memories.of_device(host).taken_by(host):
            form = taken.form
            if isinstance(form, CommandForm) and form.is_at(bytes(taken.header), where):
                seen.queue, seen.head, seen.requests = taken.queue, taken.head, (taken.number,)
        return seen

    # --- the virtio device

    def _removed(self, event: TraceEvent) -> Seen:
        self._registers.remove(event.source)
        self.memories.of_device(event.source).drop_queue(event.source, -1)
        return self._new(event)

    def _features(self, event: TraceEvent) -> Seen:
        self._of(event.source).features = int(event.detail[0])
        seen = self._new(event)
        seen.scsi = self.forms.is_scsi(event.source)
        return seen

    def _config(self, event: TraceEvent) -> Seen:
        offset, data = event.detail
        self.forms.see(event)
        seen = self._new(event)
        assert isinstance(data, bytes)
        layout = config_layout(scsi=self.forms.is_scsi(event.source))
        places = list(device_config(layout, int(offset), len(data)))
        value = int.from_bytes(data, "little")
        seen.fields = [place.decoded(value) for place in places]
        seen.registers = [place.name for place in places]
        return seen

    def _of_queue(self, event: TraceEvent) -> Seen:
        return self._new(event, int(event.detail[0]))

    def _queue(self, event: TraceEvent) -> Seen:
        queue, size, desc, driver, device, _, _ = map(int, event.detail)
        packed = bool(self._of(event.source).features & RING_PACKED)
        self.memories.of_device(event.source).add_queue(
            event.source, queue, size, (desc, driver, device), packed=packed
        )
        seen = self._new(event, queue)
        seen.title = "packed" if packed else "split"
        return seen

    def _moved(self, event: TraceEvent) -> Seen:
        queue, desc, driver, device = map(int, event.detail)
        self.memories.of_device(event.source).move_queue(event.source, queue, (desc, driver, device))
        return self._new(event, queue)

    def _kick(self, event: TraceEvent) -> Seen:
        seen = self._new(event, int(event.detail[0]))
        value = int(event.detail[1])
        if value >= 0 and self._of(event.source).features & NOTIFICATION_DATA:
            packed = self._of(event.source).features & RING_PACKED
            seen.title = f"next {names.position(value >> 16) if packed else value >> 16}"
        return seen

    def _reset(self, event: TraceEvent) -> Seen:
        queue = int(event.detail[0])
        self.forms.see(event)
        self.memories.of_device(event.source).drop_queue(event.source, queue)
        if queue == -1:
            self._registers.reset(event.source)
        return self._new(event, None if queue == -1 else queue)

    def _chain(self, event: TraceEvent) -> Seen:
        queue, head, readable, *numbers = map(int, event.detail)
        taken = Taken(self._count, event.source, queue, head, [], self.forms.of(event.source, queue))
        self._count += 1
        offset = 0
        for index, (address, length) in enumerate(zip(numbers[::2], numbers[1::2], strict=True)):
            writable = index >= readable
            if index == readable:
                offset = 0
            taken.pieces.append((address, length, writable, offset))
            offset += length
            if writable:
                taken.writable += length
            else:
                taken.readable += length
        self.memories.of_device(event.source).take(taken)
        # A driver that gives the head anew has seen what became of it before.
        device = self._of(event.source)
        device.unnotified.pop((queue, head), None)
        device.unsignalled.pop((queue, head), None)
        return self._about(event, taken)

    def _about(self, event: TraceEvent, taken: Taken | None, queue: int | None = None) -> Seen:
        seen = self._new(event, queue)
        if taken is not None:
            seen.taken = taken
            seen.queue, seen.head, seen.requests = taken.queue, taken.head, (taken.number,)
        return seen

    def _used(self, event: TraceEvent) -> Seen:
        queue, head, _ = map(int, event.detail)
        taken = self.memories.of_device(event.source).give_back(event.source, queue, head)
        if taken is not None:
            self._of(event.source).unnotified[queue, head] = taken.number
            self.memories.of_device(event.source).giving(event.source, queue, head)
        seen = self._about(event, taken, queue)
        seen.title = "" if taken is None else request_words(taken)
        return seen

    def _notify(self, event: TraceEvent) -> Seen:
        queue = int(event.detail[0])
        device = self._of(event.source)
        told = [key for key in device.unnotified if key[0] == queue]
        seen = self._new(event, None if queue == -1 else queue)
        seen.requests = tuple(device.unnotified[key] for key in told)
        for key in told:
            device.unsignalled[key] = device.unnotified.pop(key)
        return seen

    # --- memory

    def _dma(self, event: TraceEvent) -> Seen:
        address, data = event.detail
        seen = self._new(event)
        seen.device = None
        assert isinstance(data, bytes)
        writing = event.kind is EventKind.DMA_WRITE
        spot = self.memories.of_source(event.source).at(int(address), data, writing=writing)
        for host in self._ata.get(event.source, ()):
            spot = spot or host.at(int(address), data, writing=writing)
        if spot is not None:
            seen.device, seen.queue, seen.head, seen.fields = spot.device, spot.queue, spot.head, spot.fields
            seen.place = spot.title
            seen.title = spot_words(spot, data)
            seen.taken = spot.taken
            if spot.taken is not None:
                seen.requests = (spot.taken.number,)
        return seen

    # --- the disk

    def _request(self, event: TraceEvent) -> Seen:
        number, _, _, _, queue, head = event.detail
        host = self.forms.hosts.get(event.source, event.source)
        taken = self.memories.of_device(host).find(host, int(queue), int(head))
        if taken is not None:
            self._of(event.source).parts[int(number)] = taken
        return self._about(event, taken, None if queue == -1 else int(queue))

    def _dispatch(self, event: TraceEvent) -> Seen:
        device = self._of(event.source)
        served = [
            taken for number in event.detail[6:] if (taken := device.parts.get(int(number))) is not None
        ]
        device.runs[int(event.detail[0])] = served
        return self._serving(event, served)

    def _done(self, event: TraceEvent) -> Seen:
        return self._serving(event, self._of(event.source).runs.pop(int(event.detail[0]), ()))

    def _serving(self, event: TraceEvent, served: Iterable[Taken]) -> Seen:
        seen = self._new(event)
        seen.requests = tuple(dict.fromkeys(taken.number for taken in served))
        queues = {taken.queue for taken in served}
        if len(queues) == 1:
            (seen.queue,) = queues
        return seen

    def _completion(self, event: TraceEvent) -> Seen:
        return self._about(event, self._of(event.source).parts.pop(int(event.detail[0]), None))

    def _node_begin(self, event: TraceEvent) -> Seen:
        step, dispatch, _, node, *_ = event.detail
        device = self._of(event.source)
        served = device.runs.get(int(dispatch), [])
        device.steps[int(step)] = str(node), served
        return self._serving(event, served)

    def _node_end(self, event: TraceEvent) -> Seen:
        node, served = self._of(event.source).steps.pop(int(event.detail[0]), ("", []))
        seen = self._serving(event, served)
        seen.title = node
        return seen

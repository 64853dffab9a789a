"""The drawings of state machines are true: every event is tried in every state, or every transition is watched."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from devmodels.ahci.engine import TRANSITIONS
from devmodels.ata import Reset
from devmodels.exports.iscsi.login import Login
from devmodels.exports.iscsi.target import IscsiTarget
from devmodels.ide_cdrom.unit import Phase, Unit
from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.protocols.iscsi.codes import LoginStatus, Stage
from devmodels.runstate import RunState
from devmodels.scsi.target import ScsiTarget
from guestsim.drivers.ide_layouts import AtaCommand
from guestsim.drivers.ide_task import Task, Way
from tools.reference.machines import (
    AHCI,
    ANY,
    IDE,
    ISCSI,
    MACHINES,
    PATHS,
    RUN,
    SECURITY,
    SECURITY_BITS,
    VIRTIO,
    VIRTIO_VALUES,
    Machine,
)

from .ata.host import Host
from .exports.iscsi.initiator import INITIATOR, TARGET
from .exports.iscsi.test_login_machine import Client
from .ide_cdrom.machine import IdeMachine
from .virtio.dut import TestDevice
from .virtio.model import VERSION_1

SUSPEND_FEATURE = 1 << 43
FAILED = 128


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.anchor)
def test_arrows_lead_from_states_to_states(machine: Machine) -> None:
    for arrow in machine.arrows:
        assert {arrow.source, arrow.target} <= {*machine.places, ANY}
        assert arrow.target != ANY
    reached = {arrow.target for arrow in machine.arrows} | {machine.first}
    assert reached == set(machine.places)


def target_of(machine: Machine, state: str, label: str) -> str | None:
    """Where an event leads."""
    found = [each.target for each in machine.arrows if each.source in (state, ANY) and each.label == label]
    assert len(found) < 2
    return found[0] if found else None


# --- VIRTIO


def virtio_in(state: str) -> TestDevice:
    """A device whose driver has brought it there."""
    device = TestDevice(GuestMemory(), features=VERSION_1 | SUSPEND_FEATURE)
    device.driver_features = VERSION_1 | SUSPEND_FEATURE
    for bit in (1, 2, 8, 4):
        if VIRTIO_VALUES.get(state, 0) & bit or (bit == 4 and state == "SUSPEND"):
            device.write_status(device.status | bit)
    if state == "SUSPEND":
        device.write_status(device.status | 16)
    if state == "NEEDS_RESET":
        device.needs_reset()
    if state == "FAILED":
        device.write_status(FAILED)
    assert state == "FAILED" or device.status == VIRTIO_VALUES[state]
    assert device.violations.total == 0
    return device


@pytest.mark.parametrize("state", VIRTIO.places)
def test_every_write_of_device_status_does_what_is_drawn(state: str) -> None:
    for bit in (0, 1, 2, 4, 8, 16, FAILED):
        device = virtio_in(state)
        before = device.status
        device.write_status(before | bit if bit else 0)
        target = target_of(VIRTIO, state, f"sets {bit}" if bit else "writes 0")
        if target is None:
            assert device.status == before or device.violations.total, (state, bit)
        elif target == "FAILED":
            assert device.status == before | FAILED
        else:
            assert (device.status, device.violations.total) == (VIRTIO_VALUES[target], 0), (state, bit)


def test_refused_features_and_broken_rings_are_as_drawn() -> None:
    device = virtio_in("DRIVER")
    device.driver_features = 0
    device.write_status(device.status | 8)
    assert device.status == VIRTIO_VALUES["DRIVER"]
    assert target_of(VIRTIO, "DRIVER", "features refused") == "DRIVER"
    device = virtio_in("DRIVER_OK")
    device.needs_reset()
    assert device.status == VIRTIO_VALUES[target_of(VIRTIO, "DRIVER_OK", "ring broken") or ""]


# --- AHCI


def test_the_port_engine_is_the_table_that_ports_go_by() -> None:
    drawn = [(each.source, each.target) for each in AHCI.arrows]
    assert drawn == [(source.name, target.name) for (source, _), target in TRANSITIONS.items()]


# --- IDE

INQUIRY, READ_10 = bytes((0x12, 0, 0, 0, 36)), bytes((0x28, 0, 0, 0, 0, 0, 0, 0, 1))
TASKS = {
    "FLUSH CACHE": Task(AtaCommand.FLUSH_CACHE),
    "READ SECTOR(S), two": Task(AtaCommand.READ_SECTORS, count=2, way=Way.PIO_IN, length=1024),
    "WRITE SECTOR(S), two": Task(AtaCommand.WRITE_SECTORS, count=2, way=Way.PIO_OUT, data=bytes(1024)),
    "READ DMA": Task(AtaCommand.READ_DMA, count=1, way=Way.DMA_IN, length=512),
    "WRITE DMA": Task(AtaCommand.WRITE_DMA, count=1, way=Way.DMA_OUT, data=bytes(512)),
}
PACKETS = {
    "TEST UNIT READY": (bytes(6), 0, False),
    "INQUIRY": (INQUIRY, 36, False),
    "READ (10)": (READ_10, 2048, True),
}


class Watched:
    """Stands for `Unit.phase`, and notes what it becomes."""

    def __init__(self) -> None:
        self.path: list[str] = []

    def __get__(self, unit: Unit, _owner: type) -> Phase:
        phase: Phase = unit.__dict__["phase"]
        return phase

    def __set__(self, unit: Unit, phase: Phase) -> None:
        if unit.__dict__.get("phase", phase) is not phase:
            self.path.append(phase.name)
        unit.__dict__["phase"] = phase


def test_commands_go_the_ways_that_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    monkeypatch.setattr(Unit, "phase", watched, raising=False)
    seen: dict[str, tuple[str, ...]] = {}
    with IdeMachine() as machine:
        machine.run(machine.ide.packet(1, bytes(6)))  # It tells of its reset.
        for name in PATHS:
            watched.path = []
            if name in TASKS:
                reply = machine.run(machine.ide.do(0, TASKS[name]))
            else:
                packet, room, dma = PACKETS[name]
                reply = machine.run(machine.ide.packet(1, packet, room=room, dma=dma))
            assert reply.ok, name
            seen[name] = tuple(watched.path)
    assert seen == {name: path for name, (_, path) in PATHS.items()}
    steps = {step for path in seen.values() for step in itertools.pairwise((IDE.first, *path))}
    assert steps == {(each.source, each.target) for each in IDE.arrows if each.source != ANY}


@pytest.mark.parametrize(
    "phase", [each for each in Phase if each is not Phase.BUSY], ids=lambda each: each.name
)
def test_a_reset_makes_a_device_busy_in_any_state(phase: Phase, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    with IdeMachine(only="disk") as machine:
        unit = machine.channel.places[0]
        monkeypatch.setattr(Unit, "phase", watched, raising=False)
        unit.phase = phase
        watched.path = []
        machine.run(machine.ide.reset())
    assert watched.path == [target_of(IDE, phase.name, "reset"), IDE.first]


# --- security

PASSWORD = (bytes(2) + b"secret").ljust(512, b"\0")


def erase(host: Host) -> None:
    host.do(0xF3)
    host.do(0xF4, given=PASSWORD)


def power_on(host: Host) -> None:
    host.disk.reset(Reset.POWER_ON, lambda: None)


SECURITY_EVENTS: dict[str, Callable[[Host], object]] = {
    "SET PASSWORD": lambda host: host.do(0xF1, given=PASSWORD),
    "UNLOCK": lambda host: host.do(0xF2, given=PASSWORD),
    "ERASE": erase,
    "FREEZE LOCK": lambda host: host.do(0xF5),
    "DISABLE PASSWORD": lambda host: host.do(0xF6, given=PASSWORD),
    "power-on": power_on,
}
SECURITY_WAYS = {
    "disabled": (),
    "unlocked": ("SET PASSWORD",),
    "locked": ("SET PASSWORD", "power-on"),
    "frozen": ("SET PASSWORD", "FREEZE LOCK"),
    "frozen, disabled": ("FREEZE LOCK",),
}


@pytest.mark.parametrize("state", SECURITY.places)
def test_every_command_of_security_does_what_is_drawn(state: str) -> None:
    for name, event in SECURITY_EVENTS.items():
        with Host(1 << 16) as host:
            for step in SECURITY_WAYS[state]:
                SECURITY_EVENTS[step](host)
            assert security_of(host) == SECURITY_BITS[state]
            event(host)
            drawn = [
                each.target
                for each in SECURITY.arrows
                if each.source == state and name in each.label.split(", ")
            ]
            assert security_of(host) == SECURITY_BITS[drawn[0] if drawn else state], (state, name)


def security_of(host: Host) -> int:
    return int.from_bytes(host.do(0xEC).data[256:258], "little")


# --- iSCSI

NAMES = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]


def iscsi_after(stage: int, following: int | None, *, then: tuple[int, int | None] | None = None) -> str:
    """The state after a request of `stage` that wishes for `following`, and perhaps another one."""
    context = IoContext.stepped()
    client = Client(Login({TARGET: IscsiTarget(TARGET, ScsiTarget(context))}.get))
    state = "connected"
    for keys, each in ((NAMES, (stage, following)), *((([], then),) if then else ())):
        answer = client.ask(keys, *each, False, False)
        if answer.status is not LoginStatus.SUCCESS:
            state = "refused"
            break
        state = Stage(answer.flags & 3 if answer.flags & 0x80 else answer.flags >> 2 & 3).name
    context.close()
    return state


def test_every_login_request_does_what_is_drawn() -> None:
    for current in range(4):
        assert iscsi_after(current, None) == (target_of(ISCSI, "connected", f"CSG {current}") or "refused")
    for stage in (Stage.SECURITY, Stage.OPERATIONAL):
        for current, following in itertools.product(range(4), (None, 0, 1, 2, 3)):
            label = "T 0" if following is None else f"T 1, NSG {following}"
            drawn = target_of(ISCSI, stage.name, label) if current == stage else None
            assert iscsi_after(stage, None, then=(current, following)) == (drawn or "refused")


# --- machines


def test_every_change_of_the_run_state_is_as_drawn() -> None:
    events: dict[str, Callable[[RunState], None]] = {
        "stop": lambda state: state.stop(),
        "cont": RunState.cont,
        "error with stop": lambda state: state.stop("io-error"),
    }
    assert {each.label for each in RUN.arrows} == set(events)
    for state, (label, event) in itertools.product(RUN.places, events.items()):
        machine = RunState()
        if state != "running":
            machine.stop(state)
        event(machine)
        assert machine.status == (target_of(RUN, state, label) or state), (state, label)

"""State machines that are drawn: the code's own table where it has one, else one that a test holds against the code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from devmodels.ahci.engine import TRANSITIONS, Event, State
from devmodels.ata.table import Protocol
from devmodels.ide_cdrom.unit import Phase
from devmodels.protocols.iscsi.codes import Stage
from devmodels.virtio.constants import Status

ANY = "any state"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a state is drawn, in columns and rows, and what it means."""

    column: float
    row: float
    words: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """A transition: from, to, on what.

    `bend`: how far it swerves to the left of its direction; `at`: where on it its label stands, from 0 to 1.
    """

    source: str
    target: str
    label: str
    bend: float = 0
    at: float = 0.5


@dataclass(frozen=True, slots=True)
class Machine:
    """A state machine: `first` is the state that it begins in; `note` says what the drawing does not."""

    anchor: str
    title: str
    clause: str
    first: str
    places: Mapping[str, Place]
    arrows: tuple[Arrow, ...]
    note: str


# --- VIRTIO

VIRTIO_VALUES = {
    "reset": 0,
    "ACKNOWLEDGE": Status.ACKNOWLEDGE,
    "DRIVER": Status.ACKNOWLEDGE | Status.DRIVER,
    "FEATURES_OK": Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK,
    "DRIVER_OK": Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK,
    "SUSPEND": Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.SUSPEND,
    "NEEDS_RESET": Status.ACKNOWLEDGE
    | Status.DRIVER
    | Status.FEATURES_OK
    | Status.DRIVER_OK
    | Status.DEVICE_NEEDS_RESET,
}
"""What device_status reads in each state."""

VIRTIO = Machine(
    "virtio-status",
    "Device status of VIRTIO",
    "VIRTIO 1.4 §2.1, §3.1.1, §3.4",
    "reset",
    {
        "reset": Place(0, 0, "0: nothing is known of a driver"),
        "ACKNOWLEDGE": Place(1, 0, "a driver has seen the device"),
        "DRIVER": Place(2, 0, "it knows how to drive it, and negotiates features"),
        "FEATURES_OK": Place(3, 0, "features are agreed on; queues are set up"),
        "DRIVER_OK": Place(4, 0, "queues run"),
        "SUSPEND": Place(4, 1.3, "no queue is touched; only with VIRTIO_F_SUSPEND"),
        "NEEDS_RESET": Place(3, 1.3, "a ring was broken: only a reset helps"),
        "FAILED": Place(1, 1.3, "the driver has given up"),
    },
    (
        Arrow("reset", "ACKNOWLEDGE", "sets 1"),
        Arrow("ACKNOWLEDGE", "DRIVER", "sets 2"),
        Arrow("DRIVER", "FEATURES_OK", "sets 8"),
        Arrow("DRIVER", "DRIVER", "features refused"),
        Arrow("FEATURES_OK", "DRIVER_OK", "sets 4"),
        Arrow("DRIVER_OK", "SUSPEND", "sets 16", bend=40, at=0.4),
        Arrow("SUSPEND", "DRIVER_OK", "sets 4", bend=40, at=0.4),
        Arrow("DRIVER_OK", "NEEDS_RESET", "ring broken", at=0.6),
        Arrow(ANY, "FAILED", "sets 128"),
        Arrow(ANY, "reset", "writes 0"),
    ),
    "The driver sets bits of device_status, one after the other or some at once; set bits stay set. Where requests are "
    "in flight, a reset or a suspension is over when they have been given back. What is not drawn changes nothing or "
    "is reported as a violation.",
)

# --- AHCI

_ENGINE_WORDS = {
    State.OFF: Place(0, 0, "PxCMD.CR is 0"),
    State.RUNNING: Place(1.6, 0, "commands are fetched and done"),
    State.HALTED: Place(1.6, 1.4, "a fatal error: software has to stop it"),
    State.STOPPING: Place(0, 1.4, "software wants it to stop; a command still runs"),
}
_ENGINE_EVENTS = {
    Event.START: "PxCMD.ST set",
    Event.STOP: "PxCMD.ST cleared",
    Event.IDLE: "no command runs",
    Event.ERROR: "fatal error",
}

AHCI = Machine(
    "ahci-engine",
    "Command list engine of an AHCI port",
    "AHCI 1.3.1 §10.3, §5.3",
    State.OFF.name,
    {state.name: place for state, place in _ENGINE_WORDS.items()},
    tuple(
        Arrow(source.name, target.name, _ENGINE_EVENTS[event])
        for (source, event), target in TRANSITIONS.items()
    ),
    "Drawn from `devmodels/ahci/engine.py`, by which ports go. Every other event changes nothing.",
)

# --- IDE

IDE = Machine(
    "ata-protocols",
    "A device on an IDE channel",
    "ATA/ATAPI-7 vol. 2 (protocols)",
    Phase.IDLE.name,
    {
        "IDLE": Place(0, 1, "waits for a command"),
        "BUSY": Place(1.7, 1, "the device works: BSY"),
        "PACKET": Place(0.85, 0, "the 12 bytes of a packet are wanted: DRQ"),
        "DATA_IN": Place(3.1, 0.2, "a data block is to be read: DRQ"),
        "DATA_OUT": Place(3.1, 1.8, "a data block is to be written: DRQ"),
        "DMA": Place(0.85, 2, "data goes through the bus master: DRQ"),
    },
    (
        Arrow("IDLE", "BUSY", "command"),
        Arrow("BUSY", "IDLE", "it is over"),
        Arrow("BUSY", "PACKET", "PACKET"),
        Arrow("PACKET", "BUSY", "12 bytes written"),
        Arrow("BUSY", "DATA_IN", "a block is there"),
        Arrow("DATA_IN", "BUSY", "block read"),
        Arrow("BUSY", "DATA_OUT", "a block is wanted"),
        Arrow("DATA_OUT", "BUSY", "block written"),
        Arrow("BUSY", "DMA", "data by DMA"),
        Arrow("DMA", "IDLE", "all has gone"),
        Arrow(ANY, "BUSY", "reset"),
    ),
    "An interrupt comes with `a block is there`; with `it is over` and `all has gone`, but after PIO data-in; with "
    "`a block is wanted`, but for the first one of a write that is no packet's.",
)
IDE_ANY = Place(1.7, 2.2)

PATHS: dict[str, tuple[str, tuple[str, ...]]] = {
    "FLUSH CACHE": (Protocol.NON_DATA.value, ("BUSY", "IDLE")),
    "READ SECTOR(S), two": (
        Protocol.PIO_IN.value,
        ("BUSY", "DATA_IN", "BUSY", "DATA_IN", "BUSY", "IDLE"),
    ),
    "WRITE SECTOR(S), two": (
        Protocol.PIO_OUT.value,
        ("BUSY", "DATA_OUT", "BUSY", "DATA_OUT", "BUSY", "IDLE"),
    ),
    "READ DMA": (Protocol.DMA_IN.value, ("BUSY", "DMA", "IDLE")),
    "WRITE DMA": (Protocol.DMA_OUT.value, ("BUSY", "DMA", "IDLE")),
    "TEST UNIT READY": ("PACKET, non-data", ("BUSY", "PACKET", "BUSY", "IDLE")),
    "INQUIRY": ("PACKET, PIO data-in", ("BUSY", "PACKET", "BUSY", "DATA_IN", "BUSY", "IDLE")),
    "READ (10)": ("PACKET, DMA", ("BUSY", "PACKET", "BUSY", "DMA", "IDLE")),
}
"""A command, its protocol, and the states that the device goes through."""

SECURITY_BITS = {
    "disabled": 0x21,
    "unlocked": 0x23,
    "locked": 0x27,
    "frozen": 0x2B,
    "frozen, disabled": 0x29,
}
"""Word 128 of IDENTIFY DEVICE in each state."""

SECURITY = Machine(
    "ata-security",
    "Security of an ATA disk",
    "ACS-3 §4.18",
    "disabled",
    {
        "disabled": Place(0, 0.9, "there is no user password"),
        "unlocked": Place(1.6, 0, "there is one, and it was given or set"),
        "locked": Place(3.2, 0.9, "there is one: commands that reach the medium are aborted"),
        "frozen": Place(1.6, 2, "no command of the feature set changes anything"),
        "frozen, disabled": Place(0, 2.4, "the same, without a password"),
    },
    (
        Arrow("disabled", "unlocked", "SET PASSWORD"),
        Arrow("unlocked", "disabled", "DISABLE PASSWORD, ERASE"),
        Arrow("unlocked", "locked", "power-on"),
        Arrow("locked", "unlocked", "UNLOCK"),
        Arrow("locked", "disabled", "ERASE", at=0.3),
        Arrow("unlocked", "frozen", "FREEZE LOCK", at=0.7),
        Arrow("frozen", "locked", "power-on"),
        Arrow("disabled", "frozen, disabled", "FREEZE LOCK", at=0.35),
        Arrow("frozen, disabled", "disabled", "power-on", at=0.35),
    ),
    "With the right password. ERASE is SECURITY ERASE PREPARE and SECURITY ERASE UNIT. After five wrong passwords "
    "UNLOCK and ERASE are aborted until the next power-on. What is not drawn is aborted or changes no state.",
)

# --- iSCSI

ISCSI = Machine(
    "iscsi-login",
    "Login to an iSCSI target",
    "RFC 7143 §6.3, §11.12",
    "connected",
    {
        "connected": Place(0, 0.7, "the first request says in which stage it begins"),
        Stage.SECURITY.name: Place(1.35, 0, "who is there: AuthMethod, CHAP"),
        Stage.OPERATIONAL.name: Place(1.35, 1.4, "keys are negotiated"),
        Stage.FULL_FEATURE.name: Place(3, 0.7, "commands"),
        "refused": Place(3, 2.4, "a status that is not SUCCESS, and the connection ends"),
    },
    (
        Arrow("connected", Stage.SECURITY.name, "CSG 0"),
        Arrow("connected", Stage.OPERATIONAL.name, "CSG 1"),
        Arrow(Stage.SECURITY.name, Stage.SECURITY.name, "T 0"),
        Arrow(Stage.SECURITY.name, Stage.OPERATIONAL.name, "T 1, NSG 1"),
        Arrow(Stage.SECURITY.name, Stage.FULL_FEATURE.name, "T 1, NSG 3"),
        Arrow(Stage.OPERATIONAL.name, Stage.OPERATIONAL.name, "T 0", bend=-1),
        Arrow(Stage.OPERATIONAL.name, Stage.FULL_FEATURE.name, "T 1, NSG 3"),
        Arrow(ANY, "refused", "anything else"),
    ),
    "CSG and NSG are the current and the next stage of a Login Request; T asks for the next. A target with credentials "
    "lets nobody out of SECURITY who has not proved who he is, nor into OPERATIONAL past it.",
)

# --- machines

RUN = Machine(
    "run-state",
    "Run state of a machine",
    "QMP's RunState",
    "running",
    {
        "running": Place(1.4, 0, "requests go to their nodes"),
        "paused": Place(0, 0, "requests are held back"),
        "io-error": Place(2.8, 0, "`rerror` or `werror` said stop: the request is tried again on cont"),
    },
    (
        Arrow("running", "paused", "stop"),
        Arrow("paused", "running", "cont"),
        Arrow("running", "io-error", "error with stop"),
        Arrow("io-error", "running", "cont"),
    ),
    "The first reason counts: a machine that is stopped is not stopped again. Stopping sends the event STOP, going on "
    "RESUME, before anything that follows from them.",
)

MACHINES = (VIRTIO, AHCI, IDE, SECURITY, ISCSI, RUN)
ANYWHERE: dict[tuple[str, str], Place] = {
    (VIRTIO.anchor, "FAILED"): Place(2, 1.3),
    (VIRTIO.anchor, "reset"): Place(0, 1.3),
    (IDE.anchor, "BUSY"): IDE_ANY,
    (ISCSI.anchor, "refused"): Place(1.35, 2.4),
}
"""Where `any state` is drawn, by machine and target."""

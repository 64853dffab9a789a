"""A port's link comes up and goes down, sleeps and wakes, and the device is reset with it (AHCI 1.3.1 §3.3.11, §5.3.2).

PxSCTL.DET 1    COMRESET as long as it stands: the link is down
PxSCTL.DET 4    the link is switched off
PxSCTL.DET 0    COMINIT is answered: the link comes up, the device resets itself and sends its signature
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.ahci.fis import register_d2h
from devmodels.ahci.layout import RFIS
from devmodels.ahci.registers import DHRS, DIAG_N, DIAG_X
from devmodels.ata import Reset, Status, TaskFile

if TYPE_CHECKING:
    from devmodels.ahci.port import Port

DET_NONE, DET_PRESENT, DET_OFFLINE = 0, 3, 4
"""PxSSTS.DET."""
DET_RESET = 1
"""PxSCTL.DET."""
IPM_ACTIVE, IPM_PARTIAL, IPM_SLUMBER = 1, 2, 6
"""PxSSTS.IPM, PxCMD.ICC."""
MAX_SPEED = 3
"""Gen3."""
NO_DEVICE = 0x7F
"""PxTFD where nothing is attached."""


class Link:
    """The link of `port`.  `signature_due`: the device's first FIS waits for PxCMD.FRE."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self.signature_due = False
        self._turn = 0
        """Counts the device's resets: only the end of the newest one tells."""

    # --- up and down

    def down(self) -> None:
        """PhyRdy is no more; where it was not before, nothing has changed."""
        registers = self._port.registers
        worked = registers.ssts_det == DET_PRESENT
        registers.ssts = DET_OFFLINE if registers.sctl_det == DET_OFFLINE else DET_NONE
        registers.tfd = NO_DEVICE
        registers.sig = 0xFFFF_FFFF
        self.signature_due = False
        # A reset that goes on has nobody to tell.
        self._turn += 1
        if worked:
            self._port.errors(DIAG_N)

    def up(self, kind: Reset) -> None:
        """COMINIT was received: the device resets itself and then sends its signature (§5.3.2, P:Cominit).

        While PxSCTL.DET holds the link down, none is (§3.3.11).
        """
        port, registers = self._port, self._port.registers
        if port.device is None or registers.sctl_det in (DET_RESET, DET_OFFLINE):
            return
        if port.hba.habits.quiet_link:
            registers.ssts = DET_PRESENT | 1 << 4 | IPM_ACTIVE << 8
            registers.tfd, registers.sig = NO_DEVICE, 0xFFFF_FFFF
            port.held_in_reset = False
            self.reset_device(kind)
            return
        speed = min(registers.sctl_spd or MAX_SPEED, MAX_SPEED)
        port.device.link_speed = speed
        registers.ssts = DET_PRESENT | speed << 4 | IPM_ACTIVE << 8
        registers.tfd = Status.BSY
        port.held_in_reset = False
        port.errors(DIAG_N | DIAG_X)
        self.reset_device(kind)

    def control_written(self, before: int) -> None:
        """PxSCTL.DET was `before` (§3.3.11, §10.4.2)."""
        port, registers = self._port, self._port.registers
        now = registers.sctl_det
        if port.hba.habits.resets_when_over:
            if before == DET_RESET and not now:
                self._begin_anew()
        elif now in (DET_RESET, DET_OFFLINE):
            if port.device is not None:
                port.device.drop()
            self.down()
        elif before in (DET_RESET, DET_OFFLINE):
            registers.ssts = DET_NONE
            self.up(Reset.HARDWARE)

    def _begin_anew(self) -> None:
        """What a COMRESET that is over has to do, and what is issued is forgotten."""
        port, registers = self._port, self._port.registers
        port.forget_issued(heard=bool(registers.fr))
        registers.serr = 0
        registers.tfd, registers.sig = NO_DEVICE, 0xFFFF_FFFF
        if port.device is None:
            self.announce_none()
        else:
            self.up(Reset.HARDWARE)

    def announce_none(self) -> None:
        """A port without a device receives a first FIS, too, where that is its habit."""
        if self._port.hba.habits.empty_signature is not None:
            self.signature_due = True
            self.send_signature()

    # --- sleep

    def set_power(self, icc: int) -> None:
        """PxCMD.ICC asks for another state, which PxSCTL.IPM may forbid (§3.3.7, §3.3.11)."""
        registers = self._port.registers
        allowed = not (icc == IPM_PARTIAL and registers.sctl_ipm & 1) and not (
            icc == IPM_SLUMBER and registers.sctl_ipm & 2
        )
        if registers.ssts_det == DET_PRESENT and icc in (IPM_ACTIVE, IPM_PARTIAL, IPM_SLUMBER) and allowed:
            registers.ssts_ipm = icc
        registers.icc = 0

    # --- the device's reset

    def reset_device(self, kind: Reset) -> None:
        """Reset the device; its signature follows when what runs has come back."""
        port = self._port
        assert port.device is not None
        self.signature_due = False
        self._turn += 1
        port.device.reset(kind, partial(port.when_idle, partial(self._was_reset, self._turn)))

    def restored(self, *, resetting: bool) -> None:
        """A snapshot is there: a reset is over, and ends of earlier ones tell nobody."""
        self._turn += 1
        if resetting:
            self._was_reset(self._turn)

    def _was_reset(self, turn: int) -> None:
        port, device = self._port, self._port.device
        if turn != self._turn or device is None or port.held_in_reset:
            return
        habits = port.hba.habits
        if habits.signature is not None:
            disk, drive, device.registers.device = habits.signature
            device.registers.status = drive if device.packet_size else disk
        if not habits.quiet_link:
            self._show_signature(device.registers)
        self.signature_due = True
        self.send_signature()
        port.device_was_reset()

    def send_signature(self) -> None:
        """The device's first FIS shows in PxTFD and PxSIG; it goes to memory once PxCMD.FRE is 1 (§5.3.2)."""
        port = self._port
        if self.signature_due and port.registers.fr and port.hba.may_master:
            self.signature_due = False
            quiet = port.hba.habits.quiet_link
            registers = self._first()
            port.delivery.receive(RFIS, register_d2h(registers, interrupt=quiet))
            if quiet:
                self._show_signature(registers)
                port.tell(DHRS)

    def _first(self) -> TaskFile:
        """What the first FIS has."""
        if self._port.device is not None:
            return self._port.device.registers
        assert self._port.hba.habits.empty_signature is not None
        lba, device, status = self._port.hba.habits.empty_signature
        registers = TaskFile(lba=lba, count=1, device=device)
        registers.status = status
        return registers

    def _show_signature(self, taskfile: TaskFile) -> None:
        registers = self._port.registers
        registers.sig = (taskfile.lba & 0xFF_FFFF) << 8 | taskfile.count & 0xFF
        registers.tfd = taskfile.error << 8 | taskfile.status

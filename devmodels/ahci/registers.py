"""The registers of an AHCI host bus adapter: generic host control, and those of each port (AHCI 1.3.1 §3)."""

from __future__ import annotations

from typing import Protocol

from devmodels.registers import HWINIT, POWER_ON, RO, RW, RW1C, RW1S, Register, RegisterFile
from devmodels.registers.pieces import aligned_pieces

HBA_RESET = "hba-reset"
"""GHC.HR: keeps the addresses of command list and received FIS area (AHCI 1.3.1 §10.4.3)."""

GENERIC_SIZE = 0x100
PORT_SIZE = 0x80
MAX_PORTS = 32
VERSION = 0x0001_0301
"""AHCI 1.3.1."""

_KEPT = {POWER_ON: 0}
"""Reset values of what a reset of the HBA leaves alone."""


DHRS, PSS, DSS, SDBS, UFS, DPS, PCS = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6
PRCS, OFS, IFS, HBFS, TFES = 1 << 22, 1 << 24, 1 << 27, 1 << 29, 1 << 30
"""Bits of PxIS (AHCI 1.3.1 §3.3.5)."""

SERR_P = 1 << 10
DIAG_N, DIAG_H, DIAG_F, DIAG_X = 1 << 16, 1 << 22, 1 << 25, 1 << 26
"""Bits of PxSERR (AHCI 1.3.1 §3.3.12)."""


class HbaOwner(Protocol):
    """Who hears of writes to the generic host control registers."""

    def reset_asked(self) -> None:
        """GHC.HR was written."""
        ...

    def interrupt_enable_changed(self) -> None:
        """GHC.IE has another value."""
        ...

    def status_written(self, cleared: int) -> None:
        """These bits of IS were cleared."""
        ...


class GenericHostControl(
    RegisterFile, size=GENERIC_SIZE, widths=(1, 2, 4, 8), lenient=True, resets=(HBA_RESET,)
):
    """Offsets 00h to FFh."""

    cap = Register(0x00, 4, clause="AHCI 1.3.1 §3.1.1", doc="what the HBA can do")
    cap_np = cap.bits(4, 0, HWINIT, doc="number of ports, less one")
    cap_sxs = cap.bit(5, HWINIT, doc="external ports: none")
    cap_ems = cap.bit(6, HWINIT, doc="enclosure management: none")
    cap_cccs = cap.bit(7, HWINIT, doc="command completion coalescing: none")
    cap_ncs = cap.bits(12, 8, HWINIT, doc="number of command slots, less one")
    cap_psc = cap.bit(13, HWINIT, doc="partial state: entered when the host asks")
    cap_ssc = cap.bit(14, HWINIT, doc="slumber state: entered when the host asks")
    cap_pmd = cap.bit(15, HWINIT, doc="PIO with several DRQ data blocks")
    cap_fbss = cap.bit(16, HWINIT, doc="FIS-based switching: none")
    cap_spm = cap.bit(17, HWINIT, doc="port multipliers: none")
    cap_sam = cap.bit(18, HWINIT, doc="no interface but AHCI's")
    cap_iss = cap.bits(23, 20, HWINIT, doc="interface speed")
    cap_sclo = cap.bit(24, HWINIT, doc="PxCMD.CLO")
    cap_sal = cap.bit(25, HWINIT, doc="activity LED: none")
    cap_salp = cap.bit(26, HWINIT, doc="aggressive link power management: none")
    cap_sss = cap.bit(27, HWINIT, doc="staggered spin-up: none")
    cap_smps = cap.bit(28, HWINIT, doc="mechanical presence switches: none")
    cap_ssntf = cap.bit(29, HWINIT, doc="SNotification: none")
    cap_sncq = cap.bit(30, HWINIT, doc="native command queuing")
    cap_s64a = cap.bit(31, HWINIT, doc="64-bit addresses")

    ghc = Register(0x04, 4, clause="AHCI 1.3.1 §3.1.2", doc="of the whole HBA")
    ghc_hr = ghc.bit(0, RW1S, doc="1 until the reset is over")
    ghc_ie = ghc.bit(1, RW, doc="interrupts")
    ghc_mrsm = ghc.bit(
        2, RO, reset=_KEPT, doc="one message for all ports, because fewer were granted than asked for"
    )
    ghc_ae = ghc.bit(31, HWINIT, reset=1, doc="AHCI: always")

    status = Register(0x08, 4, RW1C, clause="AHCI 1.3.1 §3.1.3", doc="IS: ports that ask for an interrupt")
    pi = Register(0x0C, 4, HWINIT, clause="AHCI 1.3.1 §3.1.4", doc="ports implemented")
    vs = Register(0x10, 4, HWINIT, reset=VERSION, clause="AHCI 1.3.1 §3.1.5", doc="the version of AHCI")
    ccc_ctl = Register(0x14, 4, clause="AHCI 1.3.1 §3.1.6", doc="no coalescing")
    ccc_ports = Register(0x18, 4, clause="AHCI 1.3.1 §3.1.7", doc="no coalescing")
    em_loc = Register(0x1C, 4, clause="AHCI 1.3.1 §3.1.8", doc="no enclosure management")
    em_ctl = Register(0x20, 4, clause="AHCI 1.3.1 §3.1.9", doc="no enclosure management")
    cap2 = Register(0x24, 4, clause="AHCI 1.3.1 §3.1.10", doc="no handoff, no device sleep")
    bohc = Register(0x28, 4, clause="AHCI 1.3.1 §3.1.11", doc="no handoff")

    def __init__(self, owner: HbaOwner) -> None:
        super().__init__()
        self._owner = owner

    @ghc_hr.on_change
    def _reset(self, _value: int) -> None:
        self._owner.reset_asked()

    @ghc_ie.on_change
    def _interrupt_enable(self, _value: int) -> None:
        self._owner.interrupt_enable_changed()

    @status.on_write
    def _status(self, old: int, new: int) -> None:
        self._owner.status_written(old & ~new)


class PortOwner(Protocol):
    """Who hears of writes to a port's registers."""

    def status_written(self) -> None:
        """Bits of PxIS were cleared."""
        ...

    def enable_written(self) -> None:
        """PxIE was written."""
        ...

    def command_written(self, old: int, new: int) -> None:
        """PxCMD was written."""
        ...

    def control_written(self, old: int, new: int) -> None:
        """PxSCTL was written."""
        ...

    def errors_written(self) -> None:
        """Bits of PxSERR were cleared."""
        ...

    def active_written(self, old: int, new: int) -> None:
        """PxSACT was written."""
        ...

    def issue_written(self, old: int, new: int) -> None:
        """PxCI was written."""
        ...

    def address_written(self) -> None:
        """The address of the command list or of the received FIS area was written."""
        ...


class PortRegisters(RegisterFile, size=PORT_SIZE, widths=(1, 2, 4, 8), lenient=True, resets=(HBA_RESET,)):
    """One port: 80h bytes from 100h + 80h × port on."""

    clb = Register(0x00, 4, clause="AHCI 1.3.1 §3.3.1", doc="PxCLB: where the command list is")
    clb_bits = clb.bits(31, 10, RW, reset=_KEPT, doc="a multiple of 1 KiB")
    clbu = Register(0x04, 4, RW, reset=_KEPT, clause="AHCI 1.3.1 §3.3.2", doc="its upper half")
    fb = Register(0x08, 4, clause="AHCI 1.3.1 §3.3.3", doc="PxFB: where FISes are received")
    fb_bits = fb.bits(31, 8, RW, reset=_KEPT, doc="a multiple of 256")
    fbu = Register(0x0C, 4, RW, reset=_KEPT, clause="AHCI 1.3.1 §3.3.4", doc="its upper half")

    status = Register(0x10, 4, clause="AHCI 1.3.1 §3.3.5", doc="PxIS")
    is_dhrs = status.bit(0, RW1C, doc="Register – Device to Host")
    is_pss = status.bit(1, RW1C, doc="PIO Setup")
    is_dss = status.bit(2, RW1C, doc="DMA Setup")
    is_sdbs = status.bit(3, RW1C, doc="Set Device Bits")
    is_ufs = status.bit(4, RO, doc="unknown FIS: follows PxSERR.DIAG.F")
    is_dps = status.bit(5, RW1C, doc="a PRD with its interrupt bit has been done")
    is_pcs = status.bit(6, RO, doc="port connect change: follows PxSERR.DIAG.X")
    is_dmps = status.bit(7, RW1C, doc="mechanical presence: never set")
    is_prcs = status.bit(22, RO, doc="PhyRdy change: follows PxSERR.DIAG.N")
    is_ipms = status.bit(23, RW1C, doc="incorrect port multiplier: never set")
    is_ofs = status.bit(24, RW1C, doc="overflow: a PRD table too short for its command")
    is_infs = status.bit(26, RW1C, doc="interface non-fatal error: never set")
    is_ifs = status.bit(27, RW1C, doc="interface fatal error")
    is_hbds = status.bit(28, RW1C, doc="host bus data error: never set")
    is_hbfs = status.bit(29, RW1C, doc="host bus fatal error: an address that is no memory")
    is_tfes = status.bit(30, RW1C, doc="task file error")
    is_cpds = status.bit(31, RW1C, doc="cold port detect: never set")

    enable = Register(0x14, 4, clause="AHCI 1.3.1 §3.3.6", doc="PxIE")
    ie_dhre = enable.bit(0, RW, doc="interrupt of is_dhrs")
    ie_pse = enable.bit(1, RW, doc="interrupt of is_pss")
    ie_dse = enable.bit(2, RW, doc="interrupt of is_dss")
    ie_sdbe = enable.bit(3, RW, doc="interrupt of is_sdbs")
    ie_ufe = enable.bit(4, RW, doc="interrupt of is_ufs")
    ie_dpe = enable.bit(5, RW, doc="interrupt of is_dps")
    ie_pce = enable.bit(6, RW, doc="interrupt of is_pcs")
    ie_dmpe = enable.bit(7, RW, doc="interrupt of is_dmps")
    ie_prce = enable.bit(22, RW, doc="interrupt of is_prcs")
    ie_ipme = enable.bit(23, RW, doc="interrupt of is_ipms")
    ie_ofe = enable.bit(24, RW, doc="interrupt of is_ofs")
    ie_infe = enable.bit(26, RW, doc="interrupt of is_infs")
    ie_ife = enable.bit(27, RW, doc="interrupt of is_ifs")
    ie_hbde = enable.bit(28, RW, doc="interrupt of is_hbds")
    ie_hbfe = enable.bit(29, RW, doc="interrupt of is_hbfs")
    ie_tfee = enable.bit(30, RW, doc="interrupt of is_tfes")
    ie_cpde = enable.bit(31, RW, doc="interrupt of is_cpds")

    cmd = Register(0x18, 4, clause="AHCI 1.3.1 §3.3.7", doc="PxCMD")
    st = cmd.bit(0, RW, doc="the command list is worked on")
    sud = cmd.bit(1, HWINIT, reset=1, doc="spun up: no staggered spin-up")
    pod = cmd.bit(2, HWINIT, reset=1, doc="power on: no cold presence detection")
    clo = cmd.bit(3, RW1S, doc="forces BSY and DRQ to 0")
    fre = cmd.bit(4, RW, doc="FISes are received")
    ccs = cmd.bits(12, 8, RO, doc="the slot of the current command")
    mpss = cmd.bit(13, RO, doc="presence switch: none")
    fr = cmd.bit(14, RO, doc="FISes are being received")
    cr = cmd.bit(15, RO, doc="the command list is being worked on")
    cps = cmd.bit(16, HWINIT, doc="cold presence: not told")
    pma = cmd.bit(17, HWINIT, doc="port multiplier: none")
    hpcp = cmd.bit(18, HWINIT, doc="hot plug capable port")
    mpsp = cmd.bit(19, HWINIT, doc="presence switch: none")
    cpd = cmd.bit(20, HWINIT, doc="cold presence detection: none")
    esp = cmd.bit(21, HWINIT, doc="external port: no")
    fbscp = cmd.bit(22, HWINIT, doc="FIS-based switching: none")
    apste = cmd.bit(23, HWINIT, doc="automatic partial to slumber: none")
    atapi = cmd.bit(24, RW, doc="the activity LED of an ATAPI device: without effect")
    dlae = cmd.bit(25, RW, doc="without effect")
    alpe = cmd.bit(26, HWINIT, doc="aggressive link power management: none")
    asp = cmd.bit(27, HWINIT, doc="aggressive slumber: none")
    icc = cmd.bits(31, 28, RW, doc="link power state asked for; 0 again when the link is there")

    tfd = Register(0x20, 4, RO, clause="AHCI 1.3.1 §3.3.8", doc="PxTFD: error and status of the device")
    tfd_sts_err = tfd.bit(0, RO, reset=1, doc="a command has failed")
    tfd_sts_cs_low = tfd.bits(2, 1, RO, reset=3, doc="the command's own")
    tfd_sts_drq = tfd.bit(3, RO, reset=1, doc="a data transfer is asked for")
    tfd_sts_cs = tfd.bits(6, 4, RO, reset=7, doc="the command's own")
    tfd_sts_bsy = tfd.bit(7, RO, doc="the device is busy")
    tfd_err = tfd.bits(15, 8, RO, doc="the device's error register")
    sig = Register(
        0x24, 4, RO, reset=0xFFFF_FFFF, clause="AHCI 1.3.1 §3.3.9", doc="PxSIG: the first signature"
    )
    ssts = Register(0x28, 4, clause="AHCI 1.3.1 §3.3.10", doc="PxSSTS")
    ssts_det = ssts.bits(3, 0, RO, doc="device and link")
    ssts_spd = ssts.bits(7, 4, RO, doc="speed of the link")
    ssts_ipm = ssts.bits(11, 8, RO, doc="power state of the link")

    sctl = Register(0x2C, 4, clause="AHCI 1.3.1 §3.3.11", doc="PxSCTL")
    sctl_det = sctl.bits(3, 0, RW, doc="1 resets the link, 4 switches it off")
    sctl_spd = sctl.bits(7, 4, RW, doc="highest speed allowed")
    sctl_ipm = sctl.bits(11, 8, RW, doc="power states not allowed")

    serr = Register(0x30, 4, clause="AHCI 1.3.1 §3.3.12", doc="PxSERR")
    serr_err_i = serr.bit(0, RW1C, doc="recovered data integrity error: never set")
    serr_err_m = serr.bit(1, RW1C, doc="recovered communications error: never set")
    serr_err_t = serr.bit(8, RW1C, doc="transient data integrity error: never set")
    serr_err_c = serr.bit(9, RW1C, doc="persistent communication or data integrity error: never set")
    serr_err_p = serr.bit(10, RW1C, doc="protocol error")
    serr_err_e = serr.bit(11, RW1C, doc="internal error: never set")
    serr_diag_n = serr.bit(16, RW1C, doc="PhyRdy change")
    serr_diag_i = serr.bit(17, RW1C, doc="Phy internal error: never set")
    serr_diag_w = serr.bit(18, RW1C, doc="Comm Wake: never set")
    serr_diag_b = serr.bit(19, RW1C, doc="10B to 8B decode error: never set")
    serr_diag_d = serr.bit(20, RW1C, doc="disparity error: never set")
    serr_diag_c = serr.bit(21, RW1C, doc="CRC error: never set")
    serr_diag_h = serr.bit(22, RW1C, doc="handshake error")
    serr_diag_s = serr.bit(23, RW1C, doc="link sequence error: never set")
    serr_diag_t = serr.bit(24, RW1C, doc="transport state transition error: never set")
    serr_diag_f = serr.bit(25, RW1C, doc="unknown FIS")
    serr_diag_x = serr.bit(26, RW1C, doc="exchanged: COMINIT was received")

    sact = Register(
        0x34, 4, RW1S, clause="AHCI 1.3.1 §3.3.13", doc="PxSACT: tags of queued commands in flight"
    )
    ci = Register(0x38, 4, RW1S, clause="AHCI 1.3.1 §3.3.14", doc="PxCI: slots whose commands are issued")
    sntf = Register(0x3C, 4, clause="AHCI 1.3.1 §3.3.15", doc="no SNotification")
    fbs = Register(0x40, 4, clause="AHCI 1.3.1 §3.3.16", doc="no FIS-based switching")
    devslp = Register(0x44, 4, clause="AHCI 1.3.1 §3.3.17", doc="no device sleep")

    def __init__(self, owner: PortOwner) -> None:
        super().__init__()
        self._owner = owner

    @clb.on_write
    @clbu.on_write
    @fb.on_write
    @fbu.on_write
    def _address(self, _old: int, _new: int) -> None:
        self._owner.address_written()

    @status.on_write
    def _status(self, _old: int, _new: int) -> None:
        self._owner.status_written()

    @enable.on_write
    def _enable(self, _old: int, _new: int) -> None:
        self._owner.enable_written()

    @cmd.on_write
    def _command(self, old: int, new: int) -> None:
        self._owner.command_written(old, new)

    @sctl.on_write
    def _control(self, old: int, new: int) -> None:
        self._owner.control_written(old, new)

    @serr.on_write
    def _errors(self, _old: int, _new: int) -> None:
        self._owner.errors_written()

    @sact.on_write
    def _active(self, old: int, new: int) -> None:
        self._owner.active_written(old, new)

    @ci.on_write
    def _issue(self, old: int, new: int) -> None:
        self._owner.issue_written(old, new)


class WholeWrites:
    """Writes as QEMU 7.2's HBA takes them: a narrow one is of the whole register; one within a register is lost."""

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write, in pieces that lie as their size has it."""
        for at, piece in aligned_pieces(offset, size):
            if not at & 3:
                part = value >> 8 * (at - offset) & (1 << 8 * piece) - 1
                super().write(at, 4, part)  # type: ignore[misc]


class WholeHostControl(WholeWrites, GenericHostControl):
    """Offsets 00h to FFh, as QEMU 7.2 has them."""


class LoosePortRegisters(WholeWrites, PortRegisters):
    """A port as QEMU 7.2 has it: more bits hold what is written."""

    clb = Register(0x00, 4, RW, reset=_KEPT, clause="AHCI 1.3.1 §3.3.1", doc="PxCLB: all bits are held")
    fb = Register(0x08, 4, RW, reset=_KEPT, clause="AHCI 1.3.1 §3.3.3", doc="PxFB: all bits are held")
    cmd = Register(0x18, 4, clause="AHCI 1.3.1 §3.3.7", doc="PxCMD")
    cmd_st = cmd.bit(0, RW, doc="the command list is worked on")
    cmd_sud = cmd.bit(1, RW, reset=1, doc="held, without effect")
    cmd_pod = cmd.bit(2, RW, reset=1, doc="held, without effect")
    cmd_clo = cmd.bit(3, RW, doc="held, without effect")
    cmd_fre = cmd.bit(4, RW, doc="FISes are received")
    cmd_low = cmd.bits(7, 5, RO, doc="reserved")
    cmd_ccs = cmd.bits(12, 8, RO, doc="the slot of the current command")
    cmd_mpss = cmd.bit(13, RO, doc="presence switch: none")
    cmd_fr = cmd.bit(14, RO, doc="FISes are being received")
    cmd_cr = cmd.bit(15, RO, doc="the command list is being worked on")
    cmd_cps = cmd.bit(16, RO, doc="cold presence: not told")
    cmd_pma = cmd.bit(17, RW, doc="held, without effect")
    cmd_hpcp = cmd.bit(18, RO, doc="hot plug capable port: no")
    cmd_mpsp = cmd.bit(19, RO, doc="presence switch: none")
    cmd_cpd = cmd.bit(20, RO, doc="cold presence detection: none")
    cmd_esp = cmd.bit(21, RO, doc="external port: no")
    cmd_fbscp = cmd.bit(22, RO, doc="FIS-based switching: none")
    cmd_apste = cmd.bit(23, RW, doc="held, without effect")
    cmd_atapi = cmd.bit(24, RW, doc="held, without effect")
    cmd_dlae = cmd.bit(25, RW, doc="held, without effect")
    cmd_alpe = cmd.bit(26, RW, doc="held, without effect")
    cmd_asp = cmd.bit(27, RW, doc="held, without effect")
    sctl = Register(0x2C, 4, RW, clause="AHCI 1.3.1 §3.3.11", doc="PxSCTL: all bits are held")

    @clb.on_write
    @fb.on_write
    def _place(self, _old: int, _new: int) -> None:
        self._owner.address_written()

    @cmd.on_write
    def _started(self, old: int, new: int) -> None:
        self._owner.command_written(old, new)

    @sctl.on_write
    def _link(self, old: int, new: int) -> None:
        self._owner.control_written(old, new)

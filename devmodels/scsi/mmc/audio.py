"""Playing audio: nothing is heard, but the position moves as time does (MMC-3 PLAY AUDIO, MMC-6 READ SUB-CHANNEL)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from devmodels.disc import Mode
from devmodels.disc.address import FRAMES, from_msf
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import mmc_cdb
from devmodels.scsi.sense import CheckCondition, Sense, illegal, invalid_field
from devmodels.scsi.table import Access, Command
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

PLAY_10 = Layout(mmc_cdb.PLAY_AUDIO_10)
PLAY_12 = Layout(mmc_cdb.PLAY_AUDIO_12)
PLAY_MSF = Layout(mmc_cdb.PLAY_AUDIO_MSF)
PAUSE_RESUME = Layout(mmc_cdb.PAUSE_RESUME)
STOP_PLAY = Layout(mmc_cdb.STOP_PLAY)

HERE = 0xFFFF_FFFF
"""A starting address that means the current position; in minutes, seconds and frames each byte is FFh."""
_SECOND_NS = 1_000_000_000


class AudioStatus(IntEnum):
    """How playing goes (MMC-6 Table 484)."""

    PLAYING = 0x11
    PAUSED = 0x12
    COMPLETED = 0x13
    STOPPED_BY_ERROR = 0x14
    NONE = 0x15


_SENSES = {
    AudioStatus.PLAYING: Sense(SenseKey.NO_SENSE, Asc.AUDIO_PLAY_IN_PROGRESS),
    AudioStatus.PAUSED: Sense(SenseKey.NO_SENSE, Asc.AUDIO_PLAY_PAUSED),
}


class Player:
    """Plays blocks of a drive's disc: from where it is up to `_end`, then it stops, for the reason `_then`."""

    __slots__ = ("_drive", "_end", "_since_ns", "_status", "_then")

    def __init__(self, drive: CdDrive) -> None:
        self._drive = drive
        self._status = AudioStatus.NONE
        self._since_ns = 0
        self._end = 0
        self._then = AudioStatus.COMPLETED

    @property
    def playing(self) -> bool:
        """Whether it plays, now."""
        self.look()
        return self._status is AudioStatus.PLAYING

    @property
    def sense(self) -> Sense | None:
        """That it plays, or would go on (MMC-3, REQUEST SENSE); nothing is told of its end."""
        self.look()
        return _SENSES.get(self._status)

    def status(self) -> AudioStatus:
        """How it goes; that it has ended is told once."""
        self.look()
        status = self._status
        if status not in (AudioStatus.PLAYING, AudioStatus.PAUSED):
            self._status = AudioStatus.NONE
        return status

    def look(self) -> None:
        """Move the pick-up to where it has come to."""
        if self._status is AudioStatus.PLAYING:
            self._move(self._drive.turns.now_ns())

    def _move(self, now: int) -> None:
        frames = (now - self._since_ns) * FRAMES // _SECOND_NS
        left = self._end - self._drive.head
        if frames >= left:
            self._drive.head = self._end
            self._status = self._then
        else:
            self._drive.head += frames
            self._since_ns += frames * _SECOND_NS // FRAMES

    def play(self, start: int, blocks: int) -> None:
        """Play so many blocks; CheckCondition where the first is no audio."""
        disc = self._drive.medium.disc
        self._end, self._then = start, AudioStatus.COMPLETED
        for extent, _, count in disc.pieces(start, blocks):
            if extent.track.mode is not Mode.AUDIO:
                if self._end == start:
                    raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.ILLEGAL_MODE_FOR_THIS_TRACK))
                self._then = AudioStatus.STOPPED_BY_ERROR
                break
            self._end += count
        self._drive.head = start
        self._since_ns = self._drive.turns.now_ns()
        self._status = AudioStatus.PLAYING

    def pause(self) -> None:
        """Stay where it is; CheckCondition where nothing plays."""
        self.look()
        if self._status is AudioStatus.PLAYING:
            self._status = AudioStatus.PAUSED
        elif self._status is not AudioStatus.PAUSED:
            raise illegal(Asc.COMMAND_SEQUENCE_ERROR)

    def resume(self) -> None:
        """Go on; CheckCondition where nothing was paused."""
        self.look()
        if self._status is AudioStatus.PAUSED:
            self._since_ns = self._drive.turns.now_ns()
            self._status = AudioStatus.PLAYING
        elif self._status is not AudioStatus.PLAYING:
            raise illegal(Asc.COMMAND_SEQUENCE_ERROR)

    def stop(self) -> None:
        """Whatever it does."""
        self.look()
        self._status = AudioStatus.NONE

    def reset(self) -> None:
        """As after power on."""
        self._status = AudioStatus.NONE

    def save(self) -> tuple[AudioStatus, int, AudioStatus]:
        """Status, the block that it plays up to, and the status then."""
        if self._status is AudioStatus.PLAYING:
            # Nothing that a guest, or a trace, hears of.
            self._move(self._drive.context.now_ns())
        return self._status, self._end, self._then

    def restore(self, status: AudioStatus, end: int, then: AudioStatus) -> None:
        """Go on from where the pick-up is."""
        self._status, self._end, self._then = status, end, then
        self._since_ns = self._drive.turns.now_ns()


def _play(drive: CdDrive, start: int, blocks: int) -> None:
    medium = drive.medium
    if not medium.is_cd:
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.INCOMPATIBLE_FORMAT))
    if start + blocks > medium.blocks:
        raise CheckCondition(
            Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, information=max(start, medium.blocks))
        )
    if blocks:
        drive.player.play(start, blocks)
    else:
        drive.player.stop()
        drive.head = min(start, medium.blocks - 1)


def play_audio(drive: CdDrive, _task: Task, fields: Fields) -> None:
    """From a block on."""
    start = fields["lba"]
    if start == HERE:
        drive.player.stop()
        start = drive.head
    _play(drive, start, fields["transfer_length"])


def play_audio_msf(drive: CdDrive, _task: Task, fields: Fields) -> None:
    """From one address to before another."""
    start, end = msf_range(drive, fields, PLAY_MSF)
    _play(drive, start, end - start)


def msf_range(drive: CdDrive, fields: Fields, layout: Layout) -> tuple[int, int]:
    """The blocks from one address to before another; CheckCondition where these are none.

    A start of FFh in each byte is where the pick-up is.
    """
    first = [fields[f"start_{part}"] for part in ("minute", "second", "frame")]
    if first == [0xFF] * 3:
        drive.player.stop()
        start = drive.head
    else:
        try:
            start = from_msf(*first)
        except ValueError:
            raise invalid_field(layout, "start_minute") from None
    try:
        end = from_msf(fields["end_minute"], fields["end_second"], fields["end_frame"])
    except ValueError:
        raise invalid_field(layout, "end_minute") from None
    if end < start:
        raise invalid_field(layout, "end_minute")
    if start < 0:
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE))
    return start, end


def pause_resume(drive: CdDrive, _task: Task, fields: Fields) -> None:
    """Either."""
    if fields["resume"]:
        drive.player.resume()
    else:
        drive.player.pause()


def stop_play(drive: CdDrive, _task: Task, _fields: Fields) -> None:
    """Nothing plays any more."""
    drive.player.stop()


COMMANDS: tuple[Command[CdDrive], ...] = (
    Command(0x45, "PLAY AUDIO (10)", PLAY_10, play_audio, "MMC-3", access=Access.READ),
    Command(0xA5, "PLAY AUDIO (12)", PLAY_12, play_audio, "MMC-3", access=Access.READ),
    Command(0x47, "PLAY AUDIO MSF", PLAY_MSF, play_audio_msf, "MMC-3", access=Access.READ),
    Command(0x4B, "PAUSE/RESUME", PAUSE_RESUME, pause_resume, "MMC-3", access=Access.READ),
    Command(0x4E, "STOP PLAY/SCAN", STOP_PLAY, stop_play, "MMC-3", access=Access.READ),
)

"""The human monitor's line, as it is typed: what comes from a terminal or a pipe, echoed with VT100's sequences.

As on QEMU whoever comes is taken for a terminal, so that a pipe sees the same bytes.  There is no completion (Tab).
"""

from __future__ import annotations

from collections.abc import Callable

MAX_LINE = 4095
"""What is typed beyond it is lost."""
MAX_HISTORY = 64
LEFT, RIGHT, TO_END = b"\x1b[D", b"\x1b[C", b"\x1b[K"
CLEAR = b"\x1b[2J\x1b[1;1H"


class LineEditor:
    """Cuts keys into lines, without their ends; `echo` is called with what the keys show on a terminal."""

    def __init__(self, prompt: bytes, echo: Callable[[bytes], None]) -> None:
        self._prompt = prompt
        self._echo = echo
        self._keys = bytearray()
        self._sequence = b""
        """What has come of an escape sequence."""
        self._line = bytearray()
        self._at = 0
        """Where the cursor is."""
        self._shown, self._shown_at = b"", 0
        """The same on the terminal."""
        self._out = bytearray()
        self._history: list[bytes] = []
        self._entry: int | None = None
        """Which line of the history is shown."""
        self._plain: dict[int, Callable[[], None]] = {
            0x01: self._to_begin,
            0x04: self._delete,
            0x05: self._to_end,
            0x08: self._backspace,
            0x0C: self._clear,
            0x17: self._delete_word,
            0x7F: self._backspace,
        }
        self._sequences: dict[bytes, Callable[[], None]] = {
            **dict.fromkeys((b"[A", b"[F"), self._older),
            **dict.fromkeys((b"[B", b"[E"), self._newer),
            b"[C": self._right,
            b"[D": self._left,
            **dict.fromkeys((b"[1~", b"OH"), self._to_begin),
            **dict.fromkeys((b"[4~", b"OF"), self._to_end),
            b"[3~": self._delete,
        }

    def __len__(self) -> int:
        """Keys that wait behind a line."""
        return len(self._keys)

    def feed(self, keys: bytes) -> None:
        """More keys."""
        self._keys += keys

    def next(self) -> bytes | None:
        """The next whole line; None where there is none."""
        line = None
        for number, key in enumerate(self._keys):
            if not self._sequence and key in b"\r\n":
                line = self._enter()
                del self._keys[: number + 1]
                break
            self._key(key)
            self._show()
        else:
            self._keys.clear()
        if self._out:
            out, self._out = bytes(self._out), bytearray()
            self._echo(out)
        return line

    def _key(self, key: int) -> None:
        if self._sequence:
            self._in_sequence(key)
        elif key == 0x1B or key == 0x9B:
            self._sequence = b"\x1b" if key == 0x1B else b"\x1b["
        elif key in self._plain:
            self._plain[key]()
        elif key >= 0x20 and len(self._line) < MAX_LINE:
            self._line.insert(self._at, key)
            self._at += 1

    def _in_sequence(self, key: int) -> None:
        self._sequence += bytes([key])
        if self._sequence in (b"\x1b[", b"\x1bO"):
            return
        if self._sequence.startswith(b"\x1b[") and key in b"0123456789":
            # No more of them is looked at than make a number that is none of ours.
            self._sequence = self._sequence[:5]
            return
        act = self._sequences.get(self._sequence[1:])
        self._sequence = b""
        if act is not None:
            act()

    def _show(self) -> None:
        """Make the terminal show the line."""
        at = self._shown_at
        if self._shown != self._line:
            self._out += LEFT * at + self._line + TO_END
            self._shown = bytes(self._line)
            at = len(self._line)
        self._out += RIGHT * (self._at - at) + LEFT * (at - self._at)
        self._shown_at = self._at

    # --- what keys do

    def _enter(self) -> bytes:
        line = bytes(self._line)
        if line:
            if line in self._history:
                self._history.remove(line)
            self._history = [*self._history, line][-MAX_HISTORY:]
            self._entry = None
        self._line.clear()
        self._shown, self._at, self._shown_at = b"", 0, 0
        self._out += b"\r\n"
        return line

    def _to_begin(self) -> None:
        self._at = 0

    def _to_end(self) -> None:
        self._at = len(self._line)

    def _left(self) -> None:
        self._at = max(0, self._at - 1)

    def _right(self) -> None:
        self._at = min(len(self._line), self._at + 1)

    def _delete(self) -> None:
        del self._line[self._at : self._at + 1]

    def _backspace(self) -> None:
        if self._at:
            self._left()
            self._delete()

    def _delete_word(self) -> None:
        """What is before the cursor of the word that is there, or before it; on QEMU with a blank that is the first."""
        blank = bytes(self._line[: self._at]).rstrip().rfind(b" ")
        start = blank + 1 if blank > 0 else 0
        del self._line[start : self._at]
        self._at = start

    def _clear(self) -> None:
        self._out += CLEAR + self._prompt
        self._shown, self._shown_at = b"", 0

    def _older(self) -> None:
        entry = len(self._history) if self._entry is None else self._entry
        if entry:
            self._recall(entry - 1)

    def _newer(self) -> None:
        if self._entry is not None:
            self._recall(self._entry + 1)

    def _recall(self, entry: int) -> None:
        """Show a line of the history; behind its end is an empty one."""
        there = entry < len(self._history)
        self._entry = entry if there else None
        self._line[:] = self._history[entry] if there else b""
        self._at = len(self._line)

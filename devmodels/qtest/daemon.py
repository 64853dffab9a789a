"""`-daemonize` and `-pidfile`: the program in the background, and the file that says which process it is."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from devmodels.options import OptionError

UMASK = 0o027
"""What others may not do with the files that a daemon makes, sockets among them."""


class PidFile:
    """A file with this process's number, locked as long as it lives; OptionError where it cannot be had."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            why = f"Could not create '{path}': {error.strerror}"
            raise OptionError(f"cannot create PID file: {why}") from None
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise OptionError(f"cannot create PID file: Cannot lock pid file: {error.strerror}") from None
        os.ftruncate(self._fd, 0)
        os.write(self._fd, b"%d\n" % os.getpid())

    def remove(self) -> None:
        """Nobody is there any more."""
        with suppress(OSError):
            os.unlink(self._path)


class Daemon:
    """From here on this is another process, in a session of its own; the one that was started waits for `ready`.

    That one ends with status 0 then, and with 1 if there will be nothing to wait for, of which this one says why.
    """

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        if os.fork():
            os.close(self._writing)
            os._exit(0 if os.read(reading, 1) else 1)
        os.close(reading)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.umask(UMASK)

    def ready(self) -> None:
        """The machine is there: nothing comes from, or goes to, where it was started."""
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in range(3):
            os.dup2(null, fd)
        os.close(null)
        os.write(self._writing, b"\0")
        os.close(self._writing)

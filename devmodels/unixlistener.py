"""A listening UNIX socket at a path: what a dead process left there is replaced, what is alive is not touched."""

from __future__ import annotations

import errno
import os
import socket
import stat

from devmodels import logs

log = logs.logger("devmodels")


def listen(path: str) -> socket.socket:
    """A non-blocking listening socket at `path`; OSError where it cannot be bound."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path has a null byte")
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.bind(path)
        listener.listen(1)
    except BaseException:
        listener.close()
        raise
    return listener


def remove(path: str) -> None:
    """Remove the socket at the end."""
    try:
        os.unlink(path)
    except OSError:
        log.debug("socket %s was already gone", path)


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)

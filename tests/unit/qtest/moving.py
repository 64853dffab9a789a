"""What a machine says when it goes to another place."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from devmodels.qtest.board import Board
from devmodels.qtest.control import Control
from devmodels.qtest.migration import HEADER, TAKEN, Migrate


def sent(board: Board, control: Control, path: Path, answer: bytes = TAKEN) -> bytes:
    """All that a machine says to the one at `path`, which answers so."""
    said: list[bytes] = []

    def listen(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            header = connection.recv(HEADER.size, socket.MSG_WAITALL)
            said.append(header)
            said.append(connection.recv(HEADER.unpack(header)[1], socket.MSG_WAITALL))
            connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=listen, args=[listener])
        thread.start()
        migration = control.migration
        board.context.run(migration.migrate(control.world, Migrate(f"unix:{path}")))
        while board.context.run(migration.query_migrate(control.world)).status == "active":
            board.context.run_once()
        thread.join()
    return b"".join(said)

"""Makes tests/data/linux-ext4.trace anew: `python -m tests.guest.record_piece`.

A stock Linux behind SeaBIOS makes and mounts an ext4 and works on files; the recording ends at its limit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .backends import devmodels_serve
from .vm import run_guest

PIECE = Path(__file__).parents[1] / "data" / "linux-ext4.trace"
LIMIT = "190k"


def main() -> None:
    """Record it."""
    PIECE.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(32 << 20)
        files = {"expected": b"size=2m\n", "host.bin": bytes(range(256)) * 4096}
        options = ["--strict", "--record", str(PIECE), "--record-limit", LIMIT]
        with devmodels_serve(image, folder, more=options) as backend:
            run_guest("recorded.sh", backend, files=files).check("files")


if __name__ == "__main__":
    main()

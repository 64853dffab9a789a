"""What a thread of ours does, as the host sees it (proc(5), `/proc/pid/task/tid/stat`)."""

from __future__ import annotations

RUNNABLE = b"R"


def waits(native_id: int) -> bool:
    """Whether that thread waits for something else than a processor; True where nobody can tell."""
    try:
        with open(f"/proc/self/task/{native_id}/stat", "rb", buffering=0) as file:
            # The name before the state is in parentheses, and may have some of its own.
            return file.read(512).rpartition(b")")[2].split()[0] != RUNNABLE
    except (OSError, IndexError):
        return True

"""What the tests need of the host and not every host has."""

from __future__ import annotations

import os

import pytest

from devmodels.iocontext import IoContext


def _no_uring() -> str:
    """Why there is no io_uring here; empty where there is."""
    context = IoContext.wall()
    try:
        context.uring()
    except OSError as error:
        return str(error)
    finally:
        context.close()
    return ""


_reason = _no_uring()
needs_uring = pytest.mark.skipif(bool(_reason) and not os.environ.get("CI"), reason=f"no io_uring: {_reason}")

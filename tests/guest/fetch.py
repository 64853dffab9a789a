"""Gets what guests boot with into the cache folder: `python -m tests.guest.fetch`.

The first test that needs it would do the same, and the others would wait for it.
"""

from __future__ import annotations

import sys

from .host import Unavailable
from .initramfs import base_archive
from .kernel import get_kernel
from .newer_qemu import newer_qemu
from .vm import best_accelerator


def main() -> None:
    """Kernel, root, the newer QEMU, and whether KVM works; what is missing is told, and the status is 1 then."""
    try:
        kernel = get_kernel()
        newer_qemu()
        base_archive(kernel)
        best_accelerator(kernel)
    except Unavailable as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()

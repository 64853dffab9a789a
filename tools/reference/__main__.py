"""Write the reference pages: into docs/reference (and docs/reference.md), or with `-o` elsewhere.

python -m tools.reference [-o DIRECTORY]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.reference.site import DIRECTORY, MARKDOWN, files, markdown, pages


def main(arguments: list[str] | None = None) -> int:
    """Write them; 2 where that cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.reference", description="Write the reference pages."
    )
    parser.add_argument("-o", "--output", type=Path, default=DIRECTORY, metavar="DIRECTORY")
    directory: Path = parser.parse_args(arguments).output
    every = pages()
    written = files(every)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (directory / name).write_text(text, encoding="utf-8")
        if directory == DIRECTORY:
            MARKDOWN.write_text(markdown(every), encoding="utf-8")
    except OSError as error:
        print(f"{directory}: {error.strerror}", file=sys.stderr)
        return 2
    size = sum(len(text.encode()) for text in written.values())
    print(f"{len(written)} files, {size} bytes in {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

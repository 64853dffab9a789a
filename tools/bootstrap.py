"""Make a virtual environment with pip in it, with nothing but a bare python3.

Debian's python3 comes without `ensurepip` (it is in python3-venv).  Where it is missing, the environment is made
without pip, and pip's wheel is taken from the package index and installs itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from pathlib import Path

INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")


def _pip_wheel(folder: Path) -> Path:
    """Download the newest pip wheel and check its digest (PEP 691)."""
    request = urllib.request.Request(
        f"{INDEX}/pip/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request) as answer:
        files = json.load(answer)["files"]
    wheels = [f for f in files if f["filename"].endswith("-py3-none-any.whl") and not f.get("yanked")]
    released = [f for f in wheels if f["filename"].split("-")[1].replace(".", "").isdigit()]
    newest = max(released, key=lambda f: tuple(map(int, f["filename"].split("-")[1].split("."))))
    with urllib.request.urlopen(urllib.parse.urljoin(f"{INDEX}/pip/", newest["url"])) as answer:
        data = answer.read()
    if hashlib.sha256(data).hexdigest() != newest["hashes"]["sha256"]:
        raise SystemExit(f"{newest['filename']}: the digest is not the index's")
    path = folder / str(newest["filename"])
    path.write_bytes(data)
    return path


def main(target: Path) -> None:
    """Make the environment `target`, unless it has pip already."""
    if sys.version_info < (3, 11):  # noqa: UP036  the interpreter that runs this is whatever the machine has
        raise SystemExit(f"Python 3.11 or later is needed, this is {sys.version.split()[0]}")
    python = target / "bin" / "python"
    probe = [str(python), "-m", "pip", "--version"]
    if python.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return
    has_pip = importlib.util.find_spec("ensurepip") is not None
    venv.create(target, with_pip=has_pip, clear=True)
    if not has_pip:
        with tempfile.TemporaryDirectory() as folder:
            wheel = _pip_wheel(Path(folder))
            subprocess.run([str(python), f"{wheel}/pip", "install", "--quiet", str(wheel)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

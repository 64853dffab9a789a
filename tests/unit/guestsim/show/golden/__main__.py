"""Makes the golden listings anew: `python -m tests.unit.guestsim.show.golden`, then look at the difference."""

from __future__ import annotations

import tempfile
from pathlib import Path

from typer.testing import CliRunner

from guestsim.cli import app
from tests.unit.guestsim.show.golden import LISTINGS
from tests.unit.guestsim.show.traces import one_of_each

with tempfile.TemporaryDirectory() as folder:
    trace = one_of_each(Path(folder) / "disk.trace")
    for name, arguments in LISTINGS.items():
        result = CliRunner().invoke(app, ["show", str(trace), *arguments])
        (Path(__file__).parent / f"{name}.txt").write_text(result.stdout)

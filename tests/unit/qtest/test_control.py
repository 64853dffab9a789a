"""Commands on the control socket that only the stand-in has, with what no client should say."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from devmodels.monitor.command import CommandError
from devmodels.options import OptionError
from devmodels.qtest.commands import Commands
from devmodels.qtest.control import Control
from tests.unit.qtest.bench import machine


@pytest.mark.parametrize("board", ["pc", "q35"])
@pytest.mark.parametrize("bus", [["pci.0"], {"name": "pcie.0"}, None, 1, "nowhere"])
def test_a_bus_that_is_no_name_is_refused(board: str, bus: object) -> None:
    options: Mapping[str, object] = {"driver": "virtio-scsi-pci", "id": "s0", "bus": bus}
    with machine("-M", board, "-m", "1M", "-nodefaults") as client:
        control = Control(client.assembling, lambda: None)
        commands = Commands(client.assembling, control.world, control.migration)
        with pytest.raises((CommandError, OptionError), match=r"[Bb]us"):
            client.board.context.run(commands.device_add(control.world, options))
        assert not client.board.assembly.has("s0")
        control.close()

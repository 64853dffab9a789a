"""Commands on the control socket that only the stand-in has, with what no client should say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from devmodels.monitor.command import CommandError, text_of
from devmodels.monitor.table import commands as table
from devmodels.options import OptionError
from devmodels.qtest.commands import Commands
from devmodels.qtest.control import Control
from tests.unit.qtest.bench import Client, machine


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


NULL = "-blockdev null-co,size=1048576,node-name="


class Monitor:
    """What a client of a machine's control socket can ask."""

    def __init__(self, client: Client, control: Control) -> None:
        self.world = control.world
        self.board = client.board

    def __call__(self, name: str, **arguments: object) -> Any:
        """A command's answer."""
        given = {key.replace("_", "-"): each for key, each in arguments.items()}
        answer = self.board.context.run(table(self.world)[name](self.world, given))
        self.board.context.run_until_idle()
        return msgspec.to_builtins(answer)

    def refused(self, name: str, **arguments: object) -> str:
        """What its error says."""
        with pytest.raises((CommandError, OptionError, OSError)) as caught:
            self(name, **arguments)
        return text_of(caught.value)


@contextmanager
def monitor(board: str, line: str) -> Iterator[Monitor]:
    with machine("-M", board, "-m", "1M", "-nodefaults", *line.split()) as client:
        control = Control(client.assembling, lambda: None)
        yield Monitor(client, control)
        control.close()


@pytest.mark.parametrize(("board", "bus"), [("pc", "ide.0"), ("q35", "ide.0")])
def test_disks_of_ata_say_what_they_are_and_stay(board: str, bus: str) -> None:
    line = f"{NULL}n0 -device ide-hd,id=hd,drive=n0,bus={bus} -device ide-cd,id=cd,bus=ide.1"
    with monitor(board, line) as ask:
        for name in ("hd", "cd"):
            assert ask("qom-get", path=f"/machine/peripheral/{name}", property="type") == f"ide-{name}"
        assert ask.refused("device_del", id="hd") == f"Bus '{bus}' does not support hotplugging"
        assert ask.refused("device_add", driver="ide-cd", bus="ide.1").startswith("Bus 'ide.1' does not")


def test_what_is_on_q35s_own_bus_stays_and_what_is_behind_a_port_goes() -> None:
    line = "-device pcie-root-port,id=rp -device virtio-scsi-pci,id=s0 -device virtio-scsi-pci,id=s1,bus=rp"
    with monitor("q35", line) as ask:
        for name in ("rp", "s0"):
            assert ask.refused("device_del", id=name) == "Bus 'pcie.0' does not support hotplugging"
        ask("device_del", id="s1")
        ask("device_del", id="s1")
        ask("system_reset")
        assert list(ask.board.assembly.devices) == ["s0"]


def test_a_disk_of_nothing_has_qemus_name_and_keeps_its_size() -> None:
    line = "-drive if=none,id=d0,file=null-co://,format=raw -drive if=none,id=d1,file=blkdebug::null-co://"
    with monitor("pc", line) as ask:
        names = {each["device"]: each["inserted"]["file"] for each in ask("query-block")}
        assert names == {"d0": "null-co://", "d1": "blkdebug::null-co://"}
        refused = ask.refused("block_resize", device="d0", size=1 << 20)
        assert refused == "Image format driver does not support resize"

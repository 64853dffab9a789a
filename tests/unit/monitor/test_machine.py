"""The run state and the machine by the monitor, and the events that go with them."""

from __future__ import annotations

from pathlib import Path

from .support import Talk, in_daemon, in_machine


def test_stop_and_cont(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        running = {"running": True, "singlestep": False, "status": "running"}
        assert await talk("query-status") == running
        assert await talk("stop") == {}
        assert await talk("stop") == {}
        assert await talk("query-status") == {"running": False, "singlestep": False, "status": "paused"}
        assert await talk("cont") == {}
        assert await talk("query-status") == running
        assert await talk.events() == [("STOP", {}), ("RESUME", {})]

    in_machine(tmp_path, story)


def test_reset_is_told(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk("system_reset") == {}
        assert await talk.events() == [("RESET", {"guest": False, "reason": "host-qmp-system-reset"})]

    in_machine(tmp_path, story)


def test_a_machine_that_is_reset_while_it_is_stopped_has_not_begun_yet(tmp_path: Path) -> None:
    """QEMU's word for it, whatever had stopped the machine before."""

    async def story(talk: Talk) -> None:
        await talk("stop")
        await talk("system_reset")
        for _ in range(2):
            assert (await talk("query-status"))["status"] == "prelaunch"
            await talk("stop")
        await talk("cont")
        assert (await talk("query-status"))["status"] == "running"

    in_machine(tmp_path, story)


def test_quit_is_told_to_client_and_embedder(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk("quit") == {}
        assert talk.world.quit_requested
        assert await talk.events() == [("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})]

    in_machine(tmp_path, story)


def test_without_a_machine_its_commands_are_not_there(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        answer = await talk("system_reset")
        assert answer == {
            "class": "CommandNotFound",
            "desc": "The command system_reset has not been found",
        }

    in_daemon(tmp_path, story)

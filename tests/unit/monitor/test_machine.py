"""The run state and the machine by the monitor, and the events that go with them."""

from __future__ import annotations

from pathlib import Path

from devmodels.blockbackend import Op, Request

from .support import DISK, NODE, Talk, in_daemon, in_machine


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


def test_a_machine_that_is_stopped_has_nothing_running_and_all_is_stable(tmp_path: Path) -> None:
    cache = {"driver": "volatile-cache", "node-name": "c0", "file": "d0"}
    slow = {"driver": "delay", "node-name": "s0", "file": "c0", "latency-ns": 10**9}

    async def story(talk: Talk) -> None:
        ended: list[int] = []
        data = [memoryview(bytearray(b"\1" * 512))]
        backend = talk.world.find("v0").backend
        backend.activate()
        backend.submit(Request(Op.WRITE, 0, 512, data, done=lambda request: ended.append(request.error)))
        assert ended == []
        assert await talk("stop") == {}
        assert ended == [0]
        assert await talk("human-monitor-command", command_line="qemu-io d0 'read -q -P 1 0 512'") == ""

    in_machine(tmp_path, story, nodes=[NODE, cache, slow], devices=[{**DISK, "drive": "s0"}])


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


def test_an_error_that_stops_the_machine_is_told_shown_and_over_after_cont(tmp_path: Path) -> None:
    once = {"event": "pwritev", "errno": 28, "iotype": "write", "once": True}
    blkdebug = {"driver": "blkdebug", "node-name": "b0", "image": "d0", "inject-error": [once]}

    async def io_status(talk: Talk) -> str:
        (disk,) = await talk("query-block")
        return str(disk["io-status"])

    async def story(talk: Talk) -> None:
        ended: list[int] = []
        backend = talk.world.find("v0").backend
        data = [memoryview(bytearray(512))]
        backend.submit(Request(Op.WRITE, 0, 512, data, done=lambda request: ended.append(request.error)))
        assert await talk("query-status") == {"running": False, "singlestep": False, "status": "io-error"}
        (name, error), stopped = await talk.events()
        assert (name, stopped) == ("BLOCK_IO_ERROR", ("STOP", {}))
        assert error == {
            "device": "",
            "qom-path": "/machine/peripheral/v0/virtio-backend",
            "node-name": "b0",
            "operation": "write",
            "action": "stop",
            "nospace": True,
            "reason": "No space left on device",
        }
        assert await io_status(talk) == "nospace"
        assert ended == []
        assert await talk("cont") == {}
        assert ended == [0]
        assert await io_status(talk) == "ok"

    in_machine(tmp_path, story, nodes=[NODE, blkdebug], devices=[{**DISK, "drive": "b0"}])

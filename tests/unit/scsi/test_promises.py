"""A disk that does not keep what it promises is seen by the oracle of hostile initiators, with an innocent one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from devmodels.blockbackend import BlockBackend, Flags, Op
from devmodels.scsi import Task
from devmodels.scsi.disk import Disk, atomic, transfer
from tests.unit.scsi.kinds import KINDS
from tests.unit.scsi.oracle import Oracle, play

Put = pytest.MonkeyPatch


def meets_an_innocent_initiator(configuration: str = "512") -> None:
    with ExitStack() as stack:
        bench = KINDS["disk"].configurations[configuration](stack)
        play(bench, Oracle(bench, Counter(), Counter()), [])


@pytest.mark.parametrize("configuration", KINDS["disk"].configurations)
def test_a_disk_that_keeps_its_promises(configuration: str) -> None:
    meets_an_innocent_initiator(configuration)


def _performs(put: Put, change: Callable[[Op, list[Any]], bool]) -> None:
    """Requests of commands are changed, and done where `change` says so."""
    perform = Disk.perform

    async def performed(disk: Disk, task: Task | None, op: Op, *arguments: Any) -> None:
        given = list(arguments)
        if change(op, given):
            await perform(disk, task, op, *given)

    put.setattr(Disk, "perform", performed)


def synchronizes_nothing(put: Put) -> None:
    _performs(put, lambda op, _given: op is not Op.FLUSH)


def verifies_what_is_in_the_cache(put: Put) -> None:
    """WRITE AND VERIFY, and WRITE ATOMIC with FUA."""

    def change(op: Op, given: list[Any]) -> bool:
        if op is Op.WRITE:
            given[3:] = [Flags.NONE]
        return True

    _performs(put, change)


def ignores_fua(put: Put) -> None:
    put.setattr(transfer, "_FUA", Flags.NONE)


def ignores_fua_of_atomic_writes(put: Put) -> None:
    put.setattr(atomic, "_flags", lambda _fields: Flags.NONE)


async def _at_once(_disk: Disk, _task: Task) -> None:
    """It is not flushed."""


def switches_the_cache_off_with_what_is_in_it(put: Put) -> None:
    put.setattr(Disk, "_flush_for", _at_once)


def has_the_cache_on_for_ever(put: Put) -> None:
    put.setattr(BlockBackend, "write_cache", property(lambda _backend: True, lambda _backend, _on: None))


@pytest.mark.parametrize(
    "defect",
    [
        synchronizes_nothing,
        verifies_what_is_in_the_cache,
        ignores_fua,
        ignores_fua_of_atomic_writes,
        switches_the_cache_off_with_what_is_in_it,
        has_the_cache_on_for_ever,
    ],
)
def test_a_disk_that_does_not_is_seen(defect: Callable[[Put], None], monkeypatch: Put) -> None:
    defect(monkeypatch)
    with pytest.raises(AssertionError, match="acknowledged as stable"):
        meets_an_innocent_initiator()


def test_a_disk_that_reads_something_else_is_seen(monkeypatch: Put) -> None:
    read_now = BlockBackend.read_now

    def beside(backend: BlockBackend, reads: Any, **how: Any) -> int:
        return read_now(backend, [(offset ^ 512, *rest) for offset, *rest in reads], **how)

    monkeypatch.setattr(BlockBackend, "read_now", beside)
    with pytest.raises(AssertionError, match="is not what was written"):
        meets_an_innocent_initiator()

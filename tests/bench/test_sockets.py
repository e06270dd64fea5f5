"""The crowd of signalling clients: all are there, all hear everything, and limits are told in a sentence."""

from __future__ import annotations

import resource
import struct

import click
import pytest

from bench import files, socket_clients, sockets
from bench.cores import Cores
from bench.mesi import open_mesi
from media.io.native import SO_TIMESTAMPNS


async def test_all_clients_of_all_processes_hear_every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SETTLE_S", 0.2)
    monkeypatch.setattr(sockets, "OF_ONE_PROCESS", 4)
    async with open_mesi() as mesi:
        outcome = await sockets.run_sockets(mesi, clients=6, messages=3, pause_s=0.1, cores=Cores(None, None))
    assert [len(lates) for lates in outcome.late_ms] == [4, 4, 4, 2, 2, 2]
    assert min(ms for lates in outcome.late_ms for ms in lates) > 0
    assert outcome.memory_before > 0
    report = sockets.describe(outcome, "test")
    assert ("everybody heard everything", True) in report.targets
    outcome.late_ms[0].pop()
    assert ("everybody heard everything", False) in sockets.describe(outcome, "test").targets


def test_a_memory_or_a_delay_above_the_target_fails_the_report() -> None:
    fine = sockets.Outcome(2, memory_before=0, memory_after=19_000, said=1, late_ms=[[1.0, 2.0]])
    assert sockets.describe(fine, "test").holds
    for large in (
        sockets.Outcome(2, memory_after=21_000, said=1, late_ms=[[1.0, 2.0]]),
        sockets.Outcome(2, memory_after=19_000, said=1, late_ms=[[1.0, 151.0]]),
    ):
        assert not sockets.describe(large, "test").holds


def test_the_kernels_time_of_arrival_is_read() -> None:
    stamp = (socket_clients.socket.SOL_SOCKET, SO_TIMESTAMPNS, struct.pack("=qq", 3, 7))
    assert socket_clients.read_stamp([(0, 0, b""), stamp]) == 3_000_000_007
    assert socket_clients.read_stamp([]) > 10**18


def test_too_few_files_are_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []

    def refuse(kind: int, wanted: tuple[int, int]) -> None:
        if wanted[1] > 1000:
            raise ValueError
        limits.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 1000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    files.allow_files(700)
    assert limits == [(900, 1000)]
    files.allow_files(20)
    assert limits == [(900, 1000)]
    with pytest.raises(click.ClickException, match="10,200 open files, and the system allows 1,000"):
        files.allow_files(10_000)

"""Loads side by side: one server runs at a time, and every load has a clock of its own."""

import asyncio
import time

import psutil
import pytest

from llm42_sglang.cli.bench import turns
from llm42_sglang.cli.bench.clock import Clock
from llm42_sglang.cli.bench.load import Closed, Job, Poisson, Target
from llm42_sglang.cli.bench.workload import Request
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.launch import ServerProcess

REQUESTS = [Request((i,), 9) for i in range(1, 5)]


@pytest.fixture
def pair(fake):
    with fake("--token-s", "0.02", name="a") as one, fake("--token-s", "0.02", name="b") as other:
        yield one, other


def test_a_clock_stands_still_while_it_is_stopped():
    async def show():
        clock = Clock(running=False)
        time.sleep(0.05)
        assert clock() == 0
        began = time.perf_counter()
        clock.start()
        time.sleep(0.05)
        clock.stop()
        first = clock()
        time.sleep(0.05)
        assert 0.05 <= first == clock()
        waiting = asyncio.ensure_future(clock.sleep_until(first + 0.05))
        await asyncio.sleep(0.2)
        assert not waiting.done(), "woke up though the clock stood still"
        stood_s = time.perf_counter() - began - first
        clock.start()
        await waiting
        assert first + 0.05 <= clock() <= time.perf_counter() - began - stood_s

    asyncio.run(show())


class Paused(set[int]):
    """Ports of the servers that are told to stand still; `seen`: whenever one may run on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[frozenset[int]] = []

    def discard(self, port: int) -> None:
        super().discard(port)
        self.seen.append(frozenset(self))


@pytest.fixture
def paused(monkeypatch) -> Paused:
    """That they do stand still, tests/cli/test_launch.py shows."""
    ports = Paused()
    pause, resume = ServerProcess.pause, ServerProcess.resume
    monkeypatch.setattr(ServerProcess, "pause", lambda self: (ports.add(self.port), pause(self)))
    monkeypatch.setattr(
        ServerProcess, "resume", lambda self: (ports.discard(self.port), resume(self))
    )
    return ports


def test_one_server_runs_at_a_time(pair, paused, monkeypatch):
    monkeypatch.setattr(turns, "SLICE_S", 0.05)
    jobs = [Job(Target(s.url, False, s), REQUESTS, Closed(2)) for s in pair]
    began = time.perf_counter()
    made = turns.run(jobs)
    took_s = time.perf_counter() - began
    assert [[one.request for one in of] for of in made] == [REQUESTS, REQUESTS]
    for server in pair:
        assert {server.port} in paused.seen, "one stands still while the other one runs"
    # Of the whole time each load had its own part, and not more.
    ends = [max(one.chunks[-1].at_s for one in of) for of in made]
    assert all(end > 0 for end in ends) and sum(ends) < took_s
    assert not paused


def test_arrivals_are_by_the_loads_own_clock(pair, monkeypatch):
    monkeypatch.setattr(turns, "SLICE_S", 0.05)
    first_s = [client * 0.05 for client in range(len(REQUESTS))]
    poisson, staggered = Poisson(20, seed=1), Closed(len(REQUESTS), every_s=0.05)
    for load, sent_s in ((poisson, poisson.arrivals_s(len(REQUESTS))), (staggered, first_s)):
        for of in turns.run([Job(Target(s.url, False, s), REQUESTS, load) for s in pair]):
            assert [one.sent_s for one in of][1:] == sent_s[1:]
            assert all(one.ttft_s > 0 for one in of)  # nobody is sent early


def test_nobody_sends_before_its_turn(pair, monkeypatch):
    monkeypatch.setattr(turns, "SLICE_S", 30)
    one, other = turns.run([Job(Target(s.url, False, s), REQUESTS[:1], Closed(1)) for s in pair])
    assert one[0].sent_s > 0 and other[0].sent_s > 0  # of its own clock, which runs


def test_an_interrupt_leaves_no_server_stopped(pair, paused, monkeypatch):
    monkeypatch.setattr(turns, "SLICE_S", 0.05)

    def interrupt():
        assert paused
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        turns.run([Job(Target(s.url, False, s), REQUESTS, Closed(1), interrupt) for s in pair])
    assert not paused


def test_an_error_of_one_ends_the_other_and_both_run_on(pair, paused, monkeypatch):
    monkeypatch.setattr(turns, "SLICE_S", 0.05)
    many = [Request((i,), 9) for i in range(1, 200)]
    well, dying = pair
    die = psutil.Process(dying.pid).kill
    jobs = [
        Job(Target(well.url, False, well), many, Closed(1)),
        Job(Target(dying.url, False, dying), many, Closed(1), die),
    ]
    with pytest.raises(UserError, match=f"{dying.url}/generate stopped answering"):
        turns.run(jobs)
    assert not paused

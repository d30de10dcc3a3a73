"""Servers under load that take turns: one runs, the others are stopped, a slice of time each.

A shared host may be a quarter slower from one minute to the next. Loads that run one after the
other differ by that; loads that take turns every SLICE_S seconds differ less: only the end of the
longest has nothing beside it. Every load has a clock of its own that stands still while its server
does. A GPU may work on for a moment when its server has been stopped; how much that is has not been
measured.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llm42_sglang.cli.bench.clock import Clock
from llm42_sglang.cli.bench.load import Job, all_or_none, drive, flush, outcomes_of, user_errors
from llm42_sglang.cli.bench.outcome import Outcome

SLICE_S = 0.5  # two or three decode steps on two cores; filling the caches again is 1 % of it


def run(jobs: Sequence[Job]) -> list[list[Outcome]]:
    """As `load.run` for each; every job has a server of its own, that `servers.running` started.

    Raises UserError if a server refuses or fails a single request; the other loads end then too.
    """
    with user_errors():
        for job in jobs:
            flush(job.target.url)
        with _stopped(jobs):
            raw = asyncio.run(_take_turns(jobs))
    return [outcomes_of(job, answers) for job, answers in zip(jobs, raw, strict=True)]


@contextmanager
def _stopped(jobs: Sequence[Job]) -> Iterator[None]:
    """The servers stand still at first, and run on at the end, whatever happened."""
    try:
        for job in jobs:
            job.target.process.pause()
        yield
    finally:
        for job in jobs:
            job.target.process.resume()


async def _take_turns(jobs: Sequence[Job]) -> list:
    clocks = [Clock(running=False) for _ in jobs]
    loads = [
        asyncio.ensure_future(drive(job, clock)) for job, clock in zip(jobs, clocks, strict=True)
    ]
    *answers, _ = await all_or_none([*loads, _switch(jobs, clocks, loads)])
    return answers


async def _switch(
    jobs: Sequence[Job], clocks: Sequence[Clock], loads: Sequence[asyncio.Future]
) -> None:
    """Until all loads are done. A server whose load is done is left running: it is idle."""
    while pending := [each for each in zip(jobs, clocks, loads, strict=True) if not each[2].done()]:
        slice_s = SLICE_S if len(pending) > 1 else None
        for job, clock, load in pending:
            clock.start()
            job.target.process.resume()
            await asyncio.wait([load], timeout=slice_s)
            if not load.done():
                job.target.process.pause()
            clock.stop()

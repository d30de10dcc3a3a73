"""One fault after the other, each on a server of its own: `scripts/drill` runs it.

A drill breaks a server on purpose, at its start or under a load, and looks at what comes of it. Its
end must be one that the drill allows:

    refused   the server does not start, and one line says why
    ends      the server ends with a status that is not 0, and leaves no process
    gone      deterministic service ends (503), ordinary requests go on
    on        the server goes on, and answers are right

Whatever the end is, a deterministic answer must be the one that the request gets alone, or the
beginning of it if the stream breaks; and nobody may wait longer than LONGEST_S. One kind of
fault is an exception: when what was certified gives other bits later, only the audit can tell, and
it samples. How many answers were wrong until it did is counted.
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from llm42_sglang.cli.launch import ServerError, runs
from llm42_sglang.repro.connection import KEEP_IDLE_S
from tests.engine import client, tiny_models
from tests.engine.preloaded import Forked
from tests.engine.servers import CONFIGURATIONS, ENV, Configuration, ForkedServer, errors_in
from tests.fire.alone import outcome
from tests.fire.broken import ARMED, VARIABLE
from tests.fire.requests import ordinary, requests

LONGEST_S = 150  # for the whole load
LEAVES_S = 30  # how long a server that fails may take to end
KINDS = 17  # as many different requests
WHOLE = ("ids", "logprobs", "top", "text", "finish", "verified")
AUDITED = ("--llm42-audit", "1")  # every page


@dataclass(frozen=True)
class Drill:
    """One fault. `what` names it for the table; those of one name are counted together."""

    what: str
    ends: tuple[str, ...]  # what may come of it
    server: str = "tiny"
    flags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    rounds: int = 1  # times that the load comes at once
    says: str = ""  # in the line of a server that is refused
    silent: bool = False  # answers may be wrong until the audit comes to one of their pages
    during: Callable[["BrokenServer"], None] = lambda server: None  # a second into the load

    @property
    def place(self) -> str:
        """The breaking point, if there is one."""
        return self.env.get(VARIABLE, "")

    @property
    def counts_calls(self) -> bool:
        """Whether the breaking point may never be come to; the log tells."""
        return self.place.startswith(("call", "torch"))


class BrokenServer(ForkedServer):
    """A server of `broken`."""

    def _spawn(self) -> Forked:
        arguments = ["--port", str(self.port), *self.args]
        return Forked(arguments, self.env, self.log_path, "tests.fire.broken:serve")


def server_of(drill: Drill, folder: Path) -> ForkedServer:
    """The server that the drill breaks."""
    base: Configuration = CONFIGURATIONS[drill.server]
    model = tiny_models.make(base.model, folder)
    kind = BrokenServer if drill.place else ForkedServer
    env = ENV | base.env | drill.env | {ARMED: str(folder / "armed")}
    log = folder / "server.log"
    args = [*base.flags, *drill.flags, "--model-path", str(model)]
    return kind(args, log_path=log, env=env, deadline_s=120)


@dataclass
class Outcome:
    """What came of a drill."""

    end: str
    counts: Counter[str] = field(default_factory=Counter)  # of requests
    wrong: list[str] = field(default_factory=list)
    reached: bool = True  # whether the fault has happened


@dataclass(frozen=True)
class Right:
    """Requests, and the answers that they get alone, one entry for each sample: see `outcome`."""

    bodies: list[dict[str, Any]]
    answers: list[list[dict[str, Any]]]

    @classmethod
    def of(cls, url: str) -> "Right":
        """Ask a sound server, one by one."""
        bodies = [request.body for request in requests(KINDS, seed=26)]
        replies = [client.post(url, body).require_ok() for body in bodies]
        return cls(bodies, [_answers([json.loads(reply.text)]) for reply in replies])


def run(drill: Drill, right: Right, folder: Path) -> Outcome:
    """Start the server, break it, and look."""
    server, armed = server_of(drill, folder), folder / "armed"
    armed.unlink(missing_ok=True)
    try:
        server.start()
    except ServerError as error:
        log = server.log_path.read_text(errors="replace")
        return judged(drill, _refused(drill, str(error), log))
    try:
        family = server._family | {psutil.Process(server.pid)}
        outcome = Outcome("")
        armed.touch()
        seconds = time.monotonic()
        load = asyncio.run(_load(server, right, drill))
        if time.monotonic() - seconds > LONGEST_S:
            outcome.wrong.append(f"the load took {time.monotonic() - seconds:.0f} s")
        for what, why in load:
            outcome.counts[what] += 1
            if what == "wrong" and not drill.silent:
                outcome.wrong.append(why)
        outcome.end, why = _end_of(server, family, right)
        outcome.wrong += why
        if drill.counts_calls:
            log = server.log_path.read_text(errors="replace")
            outcome.reached = "broken on purpose" in log
    finally:
        server.stop()
    return judged(drill, outcome)


def judged(drill: Drill, outcome: Outcome) -> Outcome:
    if (outcome.reached or not drill.counts_calls) and outcome.end not in drill.ends:
        outcome.wrong.append(f"end {outcome.end!r}, expected one of {', '.join(drill.ends)}")
    return outcome


def _refused(drill: Drill, error: str, log: str) -> Outcome:
    """error: what our own start of a server says; it then leaves no process."""
    said = {*errors_in(log)}
    wrong = [] if re.search(r"ended with status -?[1-9]", error) else [error.splitlines()[0]]
    if len(said) != 1 or "Traceback" in log:
        wrong.append(f"not one line: {sorted(said)} {log[-300:]!r}")
    elif drill.says not in (line := said.pop()):
        wrong.append(f"{drill.says!r} is not in {line!r}")
    return Outcome("refused", wrong=wrong)


# -- The load --

# What came of a request, and why that is wrong if it is.
Came = tuple[str, str]


async def _load(server: ForkedServer, right: Right, drill: Drill) -> list[Came]:
    """Every request whole, streamed, and as an ordinary one, all at once."""
    limits = httpx.Limits(max_connections=None, keepalive_expiry=KEEP_IDLE_S)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=LONGEST_S, limits=limits, trust_env=False
    ) as http:
        asked = [
            _ask(http, right, number, how)
            for number in [*range(len(right.bodies))] * drill.rounds
            for how in ("whole", "stream", "ordinary")
        ]
        return await asyncio.gather(_later(drill, server), *asked)


async def _later(drill: Drill, server: ForkedServer) -> Came:
    await asyncio.sleep(1)
    await asyncio.to_thread(drill.during, server)
    return "faults", ""


async def _ask(http: httpx.AsyncClient, right: Right, number: int, how: str) -> Came:
    body, expected = right.bodies[number], right.answers[number]
    body = ordinary(body) if how == "ordinary" else body | {"stream": how == "stream"}
    events: list[Any] = []
    status, text = 200, ""
    try:
        async with http.stream("POST", "/generate", json=body) as response:
            status = response.status_code
            async for line in response.aiter_lines():
                text += line
                if line.startswith("data: {"):
                    events.append(json.loads(line[6:]))
        if status == 200 and how != "stream":
            events.append(json.loads(text))
    except ValueError:
        return "wrong", f"request {number} ({how}) is no JSON: {text[-80:]!r}"
    except httpx.TimeoutException:
        return "wrong", f"request {number} ({how}) hangs"
    except httpx.HTTPError:
        status = 0
    answers = [event for event in events if "error" not in event]
    if how == "ordinary":
        whole = status == 200 and answers == events
        return ("ordinary answers" if whole else "ordinary errors"), ""
    return compared(number, status, _answers(answers), expected)


def _answers(events: Sequence[Any]) -> list[dict]:
    return outcome(200, "", events)["answer"]


def compared(number: int, status: int, got: Sequence[dict], expected: Sequence[dict]) -> Came:
    """A deterministic answer, or what there is of it, beside the right one."""
    whole = 0
    for one in got:
        alone, finish = expected[one["sample"]], one["finish"]
        for part in ("ids", "logprobs"):
            if one[part] != alone[part][: len(one[part])]:
                return "wrong", f"request {number}: other {part} than alone"
        if finish is None or finish["type"] == "abort":
            continue
        whole += 1
        if any(one[part] != alone[part] for part in WHOLE):
            return "wrong", f"request {number}: {one['text']!r:.80}, alone {alone['text']!r:.80}"
    if status == 200 and whole == len(expected):
        return "right answers", ""
    return "errors", ""


# -- The end --


def _end_of(
    server: ForkedServer, family: set[psutil.Process], right: Right
) -> tuple[str, list[str]]:
    """What the server has come to, and what is wrong with that."""
    deadline = time.monotonic() + LEAVES_S
    while time.monotonic() < deadline:
        if not server.alive:
            return _ended(server, family, deadline)
        if (end := _lives(server.url, right)) is not None:
            return end, []
        time.sleep(0.2)
    return "hangs", [f"after {LEAVES_S} s the server neither ends nor answers"]


def _ended(
    server: ForkedServer, family: set[psutil.Process], deadline: float
) -> tuple[str, list[str]]:
    wrong = [] if server._process.poll() else ["its status is 0"]
    while any(map(runs, family)):
        if time.monotonic() > deadline:
            return "ends", [*wrong, "it has left processes"]
        time.sleep(0.1)
    return "ends", wrong


def _lives(url: str, right: Right) -> str | None:
    """What it answers, None while it answers nothing that tells."""
    with httpx.Client(base_url=url, timeout=LEAVES_S / 2, trust_env=False) as http:
        try:
            health = http.get("/health").status_code
            plain = http.post("/generate", json=ordinary(right.bodies[0])).status_code
            asked = http.post("/generate", json=right.bodies[0])
        except httpx.HTTPError:
            return None
    if (health, plain, asked.status_code) == (503, 200, 503):
        return "gone"
    if (health, plain, asked.status_code) == (200, 200, 200):
        came, _ = compared(0, 200, _answers([asked.json()]), right.answers[0])
        return "on" if came == "right answers" else "other answers"
    return None

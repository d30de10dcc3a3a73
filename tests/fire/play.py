"""Play a trace on a server. Everything that comes back is written to a history, a line each."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import httpx

from llm42_sglang.repro.connection import GENERATE, KEEP_IDLE_S
from llm42_sglang.repro.wire import claiming
from tests.engine import client
from tests.fire.alone import Oracle, outcome
from tests.fire.requests import Request, claimed, ordinary
from tests.fire.trace import Event, Trace

LONGEST_S = 120  # an answer that takes longer hangs
MOST = 64  # requests in flight


class History:
    """A file of JSON lines."""

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, what: str, **fields: Any) -> None:
        """Add a line."""
        print(json.dumps({"what": what, **fields}), file=self._file, flush=True)


class Player:
    """Plays the events of a trace, at their times or as soon as fewer than MOST are in flight."""

    def __init__(
        self, http: httpx.AsyncClient, trace: Trace, oracle: Oracle, right: list, history: History
    ):
        """right: for each request its `alone` under the plain weights."""
        self.http = http
        self.trace = trace
        self.oracle = oracle
        self.right = right
        self.history = history
        self.most = 0  # requests that were in flight at a time
        self.to_replay: list[tuple[Event, int, dict]] = []  # answers of several segments
        self._began = 0.0  # time.monotonic()
        self._asking: dict[asyncio.Task, Event] = {}
        self._room = asyncio.Semaphore(MOST)
        self._updating = asyncio.Lock()  # SGLang takes one update at a time

    async def play(self) -> None:
        """Return when all is over."""
        self._began, tasks = time.monotonic(), []
        for event in self.trace.events:
            await asyncio.sleep(max(0.0, event.at - self._now()))
            if event.kind == "ask":
                await self._room.acquire()
            task = asyncio.create_task(self._happen(event))
            if event.kind == "ask":
                self._asking[task] = event
                task.add_done_callback(self._ended)
            self.most = max(self.most, len(self._asking))
            tasks.append(task)
        await asyncio.gather(*tasks)
        await self.http.post("/continue_generation", json={})

    def _ended(self, task: asyncio.Task) -> None:
        del self._asking[task]
        self._room.release()

    def _now(self) -> float:
        """Seconds since the beginning of the trace."""
        return round(time.monotonic() - self._began, 6)

    async def _happen(self, event: Event) -> None:
        begin = self._now()
        events: list[str] = []
        try:
            if event.kind == "ask":
                result = await self._ask(event, events)
            else:
                result = await getattr(self, f"_{event.kind}")(event)
        except asyncio.CancelledError:  # the client has hung up
            result = {"left": True, **self._streamed(event, events)}
        except httpx.HTTPError as error:
            result = {"broken": repr(error)}
        line = {"event": vars(event), "begin": begin, "end": self._now(), **result}
        self.history.write(event.kind, **line)
        for answer in result.get("answer") or ():
            if event.deterministic and len(answer["segments"]) > 1:
                self.to_replay.append((event, answer["sample"], answer))

    async def _ask(self, event: Event, events: list[str]) -> dict[str, Any]:
        """events: takes what is streamed."""
        body = self._body(event, self.trace.requests[event.request])
        if not event.stream:
            response = await self.http.post("/generate", json=body)
            whole = response.status_code == 200
            return outcome(response.status_code, response.text, [response.json()] if whole else [])
        async with self.http.stream("POST", "/generate", json=body) as response:
            if response.status_code != 200:
                return outcome(response.status_code, (await response.aread()).decode(), [])
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    events.append(line[6:])
                    if event.leave_after is not None and len(events) > event.leave_after:
                        return {"left": True, **self._streamed(event, events)}
                    if event.slow and len(events) == 1:
                        await asyncio.sleep(event.slow)
        return self._streamed(event, events)

    def _streamed(self, event: Event, events: list[str]) -> dict[str, Any]:
        """What came; an event has all that came before it of its sample."""
        several = self.trace.requests[event.request].samples > 1
        return outcome(200, "", [*map(json.loads, events if several else events[-1:])])

    def _body(self, event: Event, request: Request) -> dict[str, Any]:
        """What is sent."""
        body = dict(request.body) if event.deterministic else ordinary(request.body)
        if request.samples == 1:  # SGLang names samples by itself, and a claim is of one answer
            if event.claim and self.right[event.request].get("answer"):
                (right,) = self.right[event.request]["answer"]
                body = claiming(GENERATE, body, claimed(right["ids"], event.claim))
            body["rid"] = event.rid
        body["stream"] = event.stream
        if event.priority is not None:
            body["priority"] = event.priority
        return body

    # -- Troubles, by kind --

    async def _abort(self, event: Event) -> dict[str, Any]:
        return await self._post("/abort_request", rid=event.rid)

    async def _flush(self, event: Event) -> dict[str, Any]:
        response = await self.http.post("/flush_cache", params={"timeout": 0})
        return {"status": response.status_code}

    async def _pause(self, event: Event) -> dict[str, Any]:
        paused = await self._post("/pause_generation", mode=event.mode)
        await asyncio.sleep(event.seconds)
        return _worse(paused, await self._post("/continue_generation"))

    async def _storm(self, event: Event) -> dict[str, Any]:
        """Every second client hangs up at once."""
        leaving = [*self._asking][::2]
        for task in leaving:
            task.cancel()
        return {"clients": len(leaving)}

    async def _update(self, event: Event) -> dict[str, Any]:
        """In a pause, or SGLang waits for all streams, or it ends them."""
        async with self._updating:
            begin, result = self._now(), {"status": 200}
            if event.mode in ("retract", "in_place"):
                result = await self._post("/pause_generation", mode=event.mode)
            more = {"abort_all_requests": True} if event.mode == "abort" else {}
            answer = await asyncio.to_thread(self.oracle.update, event.weights, **more)
            if event.mode in ("retract", "in_place"):
                result = _worse(result, await self._post("/continue_generation"))
        said = {"success": answer["success"], "said": answer["message"][:300]}
        return {"begin": begin, **result, **said}

    async def _post(self, path: str, **body: Any) -> dict[str, Any]:
        response = await self.http.post(path, json=body)
        return {"status": response.status_code}


def _worse(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return max(one, other, key=lambda result: result["status"])


async def _play(url: str, trace: Trace, oracle: Oracle, right: list, history: History) -> Player:
    limits = httpx.Limits(max_connections=None, keepalive_expiry=KEEP_IDLE_S)
    async with httpx.AsyncClient(
        base_url=url, timeout=LONGEST_S, limits=limits, trust_env=False
    ) as http:
        player = Player(http, trace, oracle, right, history)
        await player.play()
    return player


def record(trace: Trace, path: Path, oracle: Oracle) -> None:
    """Ask for the right answers, play the trace, and look at the server afterwards."""
    with path.open("w") as file:
        history = History(file)
        history.write("trace", server=trace.server, seed=trace.seed, events=len(trace.events))
        client.flush(oracle.url)
        updated = any(event.kind == "update" for event in trace.events)
        answers = oracle.alone(trace.requests, updated)
        for number, request in enumerate(trace.requests):
            alone = [of_weights[number] for of_weights in answers]
            history.write("alone", request=number, kind=request.kind, answers=alone)
        player = asyncio.run(_play(oracle.url, trace, oracle, answers[0], history))
        _replay(player.to_replay, trace, oracle, history)
        if updated:
            oracle.update("plain")
        _afterwards(oracle.url, history, in_flight=player.most)


def _replay(wholes: list, trace: Trace, oracle: Oracle, history: History) -> None:
    """Ask for the segments of answers alone, after the trace."""
    bodies = [_sample(trace.requests[event.request].body, i) for event, i, _ in wholes]
    answers = [answer for _, _, answer in wholes]
    alone = oracle.segments([*zip(bodies, answers, strict=True)]) if wholes else []
    for (event, sample, answer), found in zip(wholes, alone, strict=True):
        history.write("segments", rid=event.rid, sample=sample, ids=answer["ids"], alone=found)


def _sample(body: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The request whose whole answer is this sample."""
    params = {name: value for name, value in body["sampling_params"].items() if name != "n"}
    if "sampling_seed" in params:
        params["sampling_seed"] += index
    return {**body, "sampling_params": params}


def _afterwards(url: str, history: History, in_flight: int) -> None:
    """The server is idle: nothing may be left, and it must be well."""
    flushed = client.connection(url).post("/flush_cache?timeout=30", {})
    health = client.get(url, "/health")
    history.write("end", flush=flushed.status, health=health.status_code, in_flight=in_flight)

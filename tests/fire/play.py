"""Play a trace on a server. Everything that comes back is written to a history, a line each."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import httpx

from tests.engine import client
from tests.fire.requests import ordinary, requests
from tests.fire.trace import Event, Trace

LONGEST_S = 120  # an answer that takes longer hangs


class History:
    """A file of JSON lines."""

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, what: str, **fields: Any) -> None:
        """Add a line."""
        print(json.dumps({"what": what, **fields}), file=self._file, flush=True)


def alone(url: str, trace: Trace, history: History) -> None:
    """Ask every request of the trace alone: these are the right answers."""
    for number, request in enumerate(requests(trace.requests, trace.seed)):
        answer = json.loads(client.post(url, request).require_ok().text)
        history.write("alone", request=number, answer=kept(answer))


def play(
    url: str, trace: Trace, history: History, update: Callable[[str], Any] = lambda name: None
) -> None:
    """Play it, and look at the server afterwards. update: changes the weights to those named."""
    asyncio.run(_play(url, trace, history, update))


async def _play(url: str, trace: Trace, history: History, update: Callable[[str], Any]) -> None:
    bodies = requests(trace.requests, trace.seed)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=LONGEST_S, limits=limits, trust_env=False
    ) as http:
        began = time.monotonic()
        tasks = []
        for event in trace.events:
            await asyncio.sleep(max(0.0, began + event.at - time.monotonic()))
            tasks.append(asyncio.create_task(_happen(http, event, bodies, history, update)))
        await asyncio.gather(*tasks)
        await http.post("/continue_generation", json={})
        await _afterwards(http, history)


async def _happen(
    http: httpx.AsyncClient,
    event: Event,
    bodies: list[dict],
    history: History,
    update: Callable[[str], Any],
) -> None:
    began = time.monotonic()
    try:
        if event.kind == "ask":
            outcome = await _ask(http, event, bodies[event.request])
        elif event.kind == "update":
            outcome = {"said": await asyncio.to_thread(update, event.mode)}
        else:
            outcome = await _trouble(http, event)
    except httpx.HTTPError as error:
        outcome = {"broken": repr(error)}
    seconds = round(time.monotonic() - began, 3)
    history.write(event.kind, event=vars(event), seconds=seconds, **outcome)


async def _ask(http: httpx.AsyncClient, event: Event, body: Mapping[str, Any]) -> dict[str, Any]:
    body = dict(body) if event.deterministic else ordinary(dict(body))
    body |= {"rid": event.rid, "stream": event.stream}
    if body["sampling_params"].get("n", 1) > 1:
        del body["rid"]  # SGLang names samples by itself
    if event.priority is not None:
        body["priority"] = event.priority
    if not event.stream:
        response = await http.post("/generate", json=body)
        whole = response.status_code == 200
        return _outcome(response.status_code, response.text, [response.json()] if whole else [])
    events: list[Any] = []
    async with http.stream("POST", "/generate", json=body) as response:
        if response.status_code != 200:
            return _outcome(response.status_code, (await response.aread()).decode(), [])
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line[6:]))
                if event.leave_after is not None and len(events) > event.leave_after:
                    return {"left": True, **_outcome(200, "", events)}
    return _outcome(200, "", events)


def _outcome(status: int, text: str, events: list[Any]) -> dict[str, Any]:
    """The last event of each sample; the text of what is no answer."""
    last: dict[int, Any] = {}
    for event in events:
        for index, one in enumerate(event if isinstance(event, list) else [event]):
            last[one.get("index", index)] = one
    for one in last.values():
        if "error" in one:
            return {"status": status, "said": json.dumps(one)[:300]}
    answer = [last[index] for index in sorted(last)]
    said = "" if status == 200 else " ".join(text.split())[:300]
    return {"status": status, "said": said, "answer": kept(answer)}


def kept(answer: Any) -> list[dict[str, Any]]:
    """What is kept of an answer: one entry for each sample."""
    return [_kept(one) for one in (answer if isinstance(answer, list) else [answer])]


def _kept(one: Mapping[str, Any]) -> dict[str, Any]:
    meta = one["meta_info"]
    receipt = meta.get("llm42") or {}
    counts = ("verify_passes", "canonical_steps", "rollbacks", "tokens_rolled_back")
    return {
        "ids": one["output_ids"],
        "text": one["text"],
        "finish": meta["finish_reason"],
        "logprobs": [entry[0] for entry in meta.get("output_token_logprobs") or ()],
        "verified": receipt.get("verified"),
        "fingerprint": receipt.get("fingerprint"),
        "segments": len(receipt.get("segments") or ()),
        "digest": receipt.get("output_digest"),
        "retractions": meta.get("num_retractions", 0),
        **{name: receipt.get(name, 0) for name in counts},
    }


async def _trouble(http: httpx.AsyncClient, event: Event) -> dict[str, Any]:
    if event.kind == "abort":
        response = await http.post("/abort_request", json={"rid": event.rid})
    elif event.kind == "flush":
        response = await http.post("/flush_cache", params={"timeout": 0})
    else:
        response = await http.post("/pause_generation", json={"mode": event.mode})
        await asyncio.sleep(event.seconds)
        await http.post("/continue_generation", json={})
    return {"status": response.status_code}


async def _afterwards(http: httpx.AsyncClient, history: History) -> None:
    """The server is idle: nothing may be left, and it must be well."""
    flushed = await http.post("/flush_cache", params={"timeout": 30})
    health = await http.get("/health")
    history.write("end", flush=flushed.status_code, health=health.status_code)


def record(
    url: str, trace: Trace, path: Path, update: Callable[[str], Any] = lambda name: None
) -> None:
    """The right answers and the trace, in one history."""
    with path.open("w") as file:
        history = History(file)
        history.write("trace", seed=trace.seed, events=len(trace.events))
        client.flush(url)
        alone(url, trace, history)
        play(url, trace, history, update)

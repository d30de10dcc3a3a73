"""Play a trace on a server. Everything that comes back is written to a history, a line each."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import httpx

from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.wire import claiming
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


class Asked(NamedTuple):
    """A request of a trace, and the token ids that it gets alone, sample by sample."""

    body: dict[str, Any]
    right: list[list[int]]


def alone(url: str, trace: Trace, history: History) -> list[Asked]:
    """Ask every request of the trace alone: these are the right answers."""
    asked = []
    for number, request in enumerate(requests(trace.requests, trace.seed)):
        answer = kept(json.loads(client.post(url, request).require_ok().text))
        history.write("alone", request=number, answer=answer)
        asked.append(Asked(request, [one["ids"] for one in answer]))
    return asked


async def _play(
    url: str, trace: Trace, asked: list[Asked], history: History, update: Callable[[str], Any]
) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=LONGEST_S, limits=limits, trust_env=False
    ) as http:
        began = time.monotonic()
        tasks = []
        for event in trace.events:
            await asyncio.sleep(max(0.0, began + event.at - time.monotonic()))
            tasks.append(asyncio.create_task(_happen(http, event, asked, history, update)))
        await asyncio.gather(*tasks)
        await http.post("/continue_generation", json={})
        await _afterwards(http, history)


async def _happen(
    http: httpx.AsyncClient,
    event: Event,
    asked: list[Asked],
    history: History,
    update: Callable[[str], Any],
) -> None:
    began = time.monotonic()
    try:
        if event.kind == "ask":
            outcome = await _ask(http, event, asked[event.request])
        elif event.kind == "update":
            outcome = {"said": await asyncio.to_thread(update, event.mode)}
        else:
            outcome = await _trouble(http, event)
    except httpx.HTTPError as error:
        outcome = {"broken": repr(error)}
    seconds = round(time.monotonic() - began, 3)
    history.write(event.kind, event=vars(event), seconds=seconds, **outcome)


def _body(event: Event, asked: Asked) -> dict[str, Any]:
    """What is sent."""
    body = dict(asked.body) if event.deterministic else ordinary(asked.body)
    several = len(asked.right) > 1
    if event.claim and not several:
        (right,) = asked.right
        wrong = [*right[:-1], (right[-1] + 7) % 1000]
        body = claiming(GENERATE, body, right if event.claim == "right" else wrong)
    body["stream"] = event.stream
    if not several:  # SGLang names samples by itself
        body["rid"] = event.rid
    if event.priority is not None:
        body["priority"] = event.priority
    return body


async def _ask(http: httpx.AsyncClient, event: Event, asked: Asked) -> dict[str, Any]:
    body = _body(event, asked)
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
        "refuted": receipt.get("refuted"),
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
    """Ask for the right answers, play the trace, and look at the server afterwards.

    update: changes the weights to those of a name.
    """
    with path.open("w") as file:
        history = History(file)
        history.write("trace", seed=trace.seed, events=len(trace.events))
        client.flush(url)
        asked = alone(url, trace, history)
        asyncio.run(_play(url, trace, asked, history, update))

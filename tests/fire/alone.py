"""The right answers: what each request gets alone, on an idle server, under each set of weights."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.segments import NotReplayable, request_of
from tests.engine import client
from tests.engine.weights import Weights
from tests.fire.requests import Request
from tests.fire.trace import CHANGED, NONE, PLAIN

COUNTERS = ("verify_passes", "canonical_steps", "rollbacks", "tokens_rolled_back")


class Oracle:
    """Asks a server for the right answers, each one once. It keeps them for all traces."""

    def __init__(self, url: str, weights: Weights | None = None):
        """weights: both sets, if traces update them. The server has the plain ones then."""
        self.url = url
        self._weights = weights
        self._paths: Mapping[str, Path] = {}
        if weights is not None:
            self._paths = {PLAIN: weights.plain, CHANGED: weights.changed}
        self._known: dict[tuple[str, str], dict[str, Any]] = {}

    def update(self, name: str, **more: Any) -> dict[str, Any]:
        """What the server answers to an update to the weights of this name."""
        assert self._weights is not None, "the trace has updates, and the server has one model"
        return self._weights.load(self._paths.get(name, self._weights.plain / NONE), **more)

    def alone(self, requests: Sequence[Request], updated: bool) -> list[list[dict[str, Any]]]:
        """A list for each set of weights, the plain ones first, with an entry for each request.

        updated: whether the trace updates weights. The server has the plain ones at the end.
        """
        names = [PLAIN, CHANGED] if updated else [PLAIN]
        return [self._alone(name, requests, updated) for name in reversed(names)][::-1]

    def _alone(self, name: str, requests: Sequence[Request], updated: bool) -> list[dict]:
        if updated:
            assert self.update(name)["success"]
        return [self._answer(name, request.body) for request in requests]

    def _answer(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        key = name, json.dumps(body)
        if key not in self._known:
            reply = client.post(self.url, dict(body))
            self._known[key] = outcome(reply.status, reply.text, [_json(reply.text)])
        return self._known[key]

    def segments(self, wholes: Sequence[tuple[Mapping, Mapping]]) -> list[list[dict | str | None]]:
        """What the segments of answers get alone, from the second segment of each on.

        wholes: body and answer of each. A text says why a segment cannot be asked for
        alone; None stands for one of weights that nobody knows.
        """
        bodies = [_segments_of(body, answer) for body, answer in wholes]
        found: list[list[dict | str | None]] = [[None] * len(of_answer) for of_answer in bodies]
        for name, path in self._paths.items():
            assert self._weights is not None
            mine = self._weights.update(path)
            for (_, answer), of_answer, results in zip(wholes, bodies, found, strict=True):
                for i, body in enumerate(of_answer):
                    if isinstance(body, str):
                        results[i] = body
                    elif answer["segments"][i + 1]["fingerprint"] == mine:
                        (results[i],) = self._answer(name, body).get("answer") or [None]
        return found


def _segments_of(body: Mapping[str, Any], answer: Mapping[str, Any]) -> list[dict | str]:
    """The requests for the segments of an answer alone, from the second on."""
    parts = [SimpleNamespace(**segment) for segment in answer["segments"]]
    receipt = SimpleNamespace(segments=parts, seed=None)
    whole = SimpleNamespace(ids=answer["ids"], receipt=receipt)
    requests: list[dict | str] = []
    for index in range(1, len(parts)):
        try:
            requests.append(request_of(GENERATE, body, whole, index))
        except NotReplayable as error:
            requests.append(str(error))
    return requests


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {}


def outcome(status: int, text: str, events: Sequence[Any]) -> dict[str, Any]:
    """The last event of each sample, or the text of what is no answer."""
    last: dict[int, Any] = {}
    for event in events if status == 200 else []:
        for index, one in enumerate(event if isinstance(event, list) else [event]):
            last[one.get("index", index)] = one
    for one in last.values():
        if "error" in one:
            return {"status": status, "said": json.dumps(one)[:300]}
    answer = [{"sample": index, **_kept(last[index])} for index in sorted(last)]
    said = "" if status == 200 else " ".join(text.split())[:300]
    return {"status": status, "said": said, "answer": answer}


def _kept(one: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an answer."""
    meta = one["meta_info"]
    receipt = meta.get("llm42") or {}
    return {
        "ids": one["output_ids"],
        "text": one["text"],
        "finish": meta["finish_reason"],
        "logprobs": [entry[:2] for entry in meta.get("output_token_logprobs") or ()],
        "top": [[e[:2] for e in top or ()] for top in meta.get("output_top_logprobs") or ()],
        "verified": receipt.get("verified"),
        "fingerprint": receipt.get("fingerprint"),
        "refuted": receipt.get("refuted"),
        "segments": receipt.get("segments") or [],
        "digest": receipt.get("output_digest"),
        "retractions": meta.get("num_retractions", 0),
        **{name: receipt.get(name, 0) for name in COUNTERS},
    }

"""Attacks on a real server, and what has to hold: no 500, no hang, no wrong answer, no leak.

`scripts/fuzz --minutes N` sends attacks until the time is over, and writes totals. A short sample
of the same is in tests/engine/test_hostile.py.
"""

import json
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import psutil
from hypothesis import given

from tests.engine import client
from tests.fire.attacks import GENERATE, READ, RESPONSES, VERIFY, WELL, Attack, attacks, encoded
from tests.fire.draws import draws

PATIENCE_S = 60  # no answer may take longer
MOST_GROWTH_MIB = 1500  # of all processes of the server
MOST_AGAIN = 60  # answers of a round that are asked for again
REFERENCE = client.body(client.prompts()[6], max_new_tokens=60)
MOST_OF_LINE = 2000  # characters of a refusal
UNSERVED = "the request could not be served"


class Answered(NamedTuple):
    """What came back."""

    status: int
    text: str
    seconds: float


class Kept(NamedTuple):
    """An answer with receipts, and the request that must give it again."""

    path: str
    body: dict[str, Any]
    receipts: list[dict[str, Any]]
    texts: list[str]


class Fuzzer:
    """Sends attacks to one server, and counts."""

    def __init__(self, url: str, family: Sequence[psutil.Process] = ()):
        self.url = url
        self.family = family
        self.statuses: dict[str, Counter[str]] = defaultdict(Counter)  # by endpoint
        self.by_attack: dict[str, Counter[str]] = defaultdict(Counter)
        self.counts: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._kept: list[Kept] = []
        self._http = httpx.Client(trust_env=False, timeout=PATIENCE_S)
        named = client.get(url, "/v1/models").json()["data"][0]["id"]
        self._model = f'"model": {json.dumps(named)}'.encode()
        self.saved = [*exchanges(url)]
        self.reference = client.ask(url, REFERENCE)
        self.memory_mib = self.memory()

    def memory(self) -> int:
        """Resident memory of the server's processes in MiB; 0 if these are not known."""
        return sum(process.memory_info().rss for process in self.family) >> 20

    def fire(self, examples: int, number: int | None = None) -> None:
        """Send so many attacks, and look after them. number: the seed; None: always the same.

        Raises AssertionError for the first thing that is wrong; Hypothesis makes it small.
        """

        @draws(examples, number)
        @given(attacks(self.saved))
        def attack(one: Attack) -> None:
            self.judge(one, self.send(one))

        attack()
        self.look_after()

    def totals(self) -> dict[str, Any]:
        """What has been counted, in JSON types."""
        counts = {"slowest_s": round(self.slowest_s, 1), **self.counts}
        by_attack, by_endpoint = map(dict, (self.by_attack, self.statuses))
        return {"counts": counts, "attacks": by_attack, "endpoints": by_endpoint}

    def send(self, attack: Attack) -> Answered:
        """One attack; 599 where the server breaks off, 0 where the client has."""
        began = time.monotonic()
        content = attack.content
        if attack.path == RESPONSES:  # the only one where SGLang looks at the model's name
            content = content.replace(b'"model": "default"', self._model)
        if attack.cut is not None:
            hang_up(self.url, attack)
            return Answered(0, "", time.monotonic() - began)
        try:
            pairs = attack.headers.items()
            headers = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
            response = self._http.request(
                attack.method, self.url + attack.path, content=content, headers=headers
            )
        except httpx.TransportError as error:
            return Answered(599, repr(error), time.monotonic() - began)
        return Answered(response.status_code, response.text, time.monotonic() - began)

    def judge(self, attack: Attack, answer: Answered) -> None:
        """Count an answer. Raises AssertionError if it is wrong in itself."""
        status = "hung up" if answer.status == 0 else str(answer.status)
        self.statuses[attack.path.partition("?")[0]][status] += 1
        self.by_attack[attack.name][status] += 1
        self.counts["requests"] += 1
        self.slowest_s = max(self.slowest_s, answer.seconds)
        assert answer.status < 500, (attack, answer)
        if 400 <= answer.status < 500:
            self._judge_refusal(attack, answer)
        elif answer.status == 200:
            assert UNSERVED not in answer.text, (attack, answer)  # a stream that broke off
            self._keep(attack, answer)

    def _judge_refusal(self, attack: Attack, answer: Answered) -> None:
        assert answer.text.strip() or attack.method != "POST", (attack, answer)
        named = names_field(attack, answer.text)
        if attack.ours:
            assert named, (attack, answer)
            line = message_of(answer.text)
            assert len(line.splitlines()) == 1 and len(line) < MOST_OF_LINE, (attack, line)
        if attack.names:
            self.counts["refusals that name the field" if named else "refusals that do not"] += 1

    def _keep(self, attack: Attack, answer: Answered) -> None:
        receipts = [one for one in receipts_in(answer.text) if "output_digest" in one]
        if not receipts or attack.path not in READ:
            assert not lacks_receipt(attack, answer.text), (attack, answer)
            return
        self.counts["deterministic answers"] += 1
        assert all(one["verified"] is True for one in receipts), (attack, answer)
        body = parsed(attack.content)
        seeds = {one["seed"] for one in receipts}
        if isinstance(body, dict) and len(receipts) == 1 and len(self._kept) < MOST_AGAIN:
            again = pinned(attack.path, body, seeds.pop())
            self._kept.append(Kept(attack.path, again, receipts, texts_in(answer.text)))

    def look_after(self) -> None:
        """What must hold when it is quiet again. Raises AssertionError."""
        response = self._http.post(self.url + "/flush_cache", params={"timeout": 30})
        assert response.status_code == 200, response.text
        assert client.get(self.url, "/health").status_code == 200
        again = client.ask(self.url, REFERENCE)
        assert (again.ids, again.text) == (self.reference.ids, self.reference.text)
        kept, self._kept = self._kept, []
        for one in kept:
            content = encoded(one.body)
            answer = self.send(Attack("again", one.path, content))
            receipts = [r for r in receipts_in(answer.text) if "output_digest" in r]
            assert [*map(bound, one.receipts)] == [*map(bound, receipts)], (one, answer)
            assert texts_in(answer.text) == one.texts, (one, answer)
            self.counts["deterministic answers, asked for again alone"] += 1
        grown = self.memory() - self.memory_mib
        self.counts["memory_grown_mib"] = max(self.counts["memory_grown_mib"], grown)
        assert grown < MOST_GROWTH_MIB, f"the server has grown by {grown} MiB"


def bound(receipt: Mapping[str, Any]) -> tuple[str, str]:
    """What the same request must give again."""
    return receipt["request_digest"], receipt["output_digest"]


def names_field(attack: Attack, text: str) -> bool:
    """Whether a refusal names what was changed: a field of ours itself, not only what holds it."""
    names = attack.names[:1] if attack.ours else attack.names
    # OpenAI's name is part of ours. What is no JSON has no fields: NaN, say.
    names = ["seed" if name == "sampling_seed" else name for name in names]
    return any(name in text for name in (*names, "JSON decode error"))


def lacks_receipt(attack: Attack, text: str) -> bool:
    """Whether a request that says `deterministic` got an answer that no receipt comes with.

    An error in a stream, a stream that is refused before its first token, and a claim that was
    refuted, are no answers.
    """
    path, body = attack.path.partition("?")[0], parsed(attack.content)
    if path not in READ or not isinstance(body, dict) or not asks(path, body):
        return False
    said = [*walk(events_in(text))]
    failed = any(name == "error" and value for name, value in said)
    ends = [value for name, value in said if name == "finish_reason" and isinstance(value, dict)]
    tokens = any(texts_in(text)) or any(name == "output_ids" and value for name, value in said)
    refused = any(end.get("status_code") for end in ends) and not tokens
    return bool(texts_in(text)) and not (failed or refused) and not receipts_in(text)


def asks(path: str, body: Mapping[str, Any]) -> bool:
    """Whether a body says `deterministic` where it is read."""
    holders = body.get("sampling_params") if path == GENERATE else body
    for holder in holders if isinstance(holders, list) else [holders]:
        if isinstance(holder, dict):
            custom = holder.get("custom_params")
            inner = custom.get("deterministic") if isinstance(custom, dict) else None
            if holder.get("deterministic") is True or inner is True:
                return True
    return False


def exchanges(url: str) -> Iterator[bytes]:
    """Saved answers that /llm42/verify finds authentic: one of each API."""
    http = client.connection(url).client
    for path in READ[:3]:
        request = WELL[path] | ({} if path == GENERATE else {"return_token_ids": True})
        response = http.post(path, json=request).raise_for_status().json()
        content = encoded({"path": path, "request": request, "response": response})
        verdict = http.post(VERIFY, content=content).json()
        assert verdict["verdict"] == "AUTHENTIC", verdict
        yield content


def hang_up(url: str, attack: Attack) -> None:
    """Send the beginning of a request, and close the connection."""
    where = urlsplit(url)
    head = f"POST {attack.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(attack.content)}\r\n\r\n"
    with suppress(OSError), socket.create_connection((where.hostname, where.port), 5) as sent:
        sent.sendall(head.encode() + attack.content[: attack.cut])


def parsed(content: bytes | str) -> Any:
    """The JSON value, None if it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def events_in(text: str) -> list[Any]:
    """The JSON values of an answer: one, or those of its events."""
    if (whole := parsed(text)) is not None:
        return [whole]
    lines = (line[5:] for line in text.split("\n") if line.startswith("data:"))
    return [event for line in lines if (event := parsed(line)) is not None]


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and value of all that is in objects, from the outside in."""
    inner = value.items() if isinstance(value, Mapping) else ()
    for name, part in inner:
        yield name, part
        yield from walk(part)
    for part in value if isinstance(value, list) else ():
        yield from walk(part)


def receipts_in(text: str) -> list[dict[str, Any]]:
    """The receipts of an answer, or of the events of a stream, each once."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in walk(events_in(text)):
        for one in value if name == "llm42" and isinstance(value, list) else [value]:
            if name == "llm42" and isinstance(one, dict):
                found[json.dumps(one, sort_keys=True)] = one
    return list(found.values())


def texts_in(text: str) -> list[str]:
    """All texts of an answer, in order."""
    named = (part for name, part in walk(events_in(text)) if name in ("text", "content", "delta"))
    return [part for part in named if isinstance(part, str)]


def pinned(path: str, body: dict[str, Any], number: int | None) -> dict[str, Any]:
    """The request with the seed that the receipt names."""
    if number is None:
        return body
    holder = body.get("sampling_params") if path == GENERATE else body
    params = dict(holder or {})
    if isinstance(params.get("custom_params"), dict):
        custom = params["custom_params"].items()
        params["custom_params"] = {name: one for name, one in custom if name != "sampling_seed"}
    params.pop("seed", None), params.pop("sampling_seed", None)
    params["sampling_seed" if path == GENERATE else "seed"] = number
    return body | {"sampling_params": params} if path == GENERATE else params


def message_of(text: str) -> str:
    """The message in the body of an error."""
    said = dict(reversed([*walk(parsed(text) or {})]))
    return str(said.get("message", said.get("error", text)))

"""What the engine tests send: fixed prompts, and many requests at once."""

import json
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pydoc_data.topics import topics  # long English text that every Python has

import httpx

from llm42_sglang.cli.launch import local_client
from llm42_sglang.cli.model import ensure_default_model

PROMPT_LENGTHS = (3, 17, 31, 32, 33, 63, 64, 100, 200, 333, 600, 900)  # tokens; T is 32
NEW_TOKENS = 50  # crosses one page's end, or two
TIMEOUT_S = 900


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    ids: tuple[int, ...]
    meta: dict
    text: str

    @classmethod
    def of(cls, answer: dict) -> "Answer":
        return cls(tuple(answer["output_ids"]), answer["meta_info"], answer["text"])


@cache
def prompts() -> tuple[tuple[int, ...], ...]:
    """One prompt of token ids per length, none a prefix of another."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ensure_default_model() / "tokenizer.json"))
    text = " ".join(topics[name] for name in sorted(topics)[:40])
    ids = tokenizer.encode(text).ids
    starts = range(0, len(ids), 1000)
    return tuple(
        tuple(ids[start : start + length])
        for start, length in zip(starts, PROMPT_LENGTHS, strict=False)
    )


def body(ids: Sequence[int], deterministic: bool | None = True, **sampling) -> dict:
    """A greedy /generate request; None leaves determinism to the server, `sampling` overrides."""
    params = {"temperature": 0, "max_new_tokens": NEW_TOKENS, "ignore_eos": True}
    if deterministic is not None:
        params["custom_params"] = {"deterministic": deterministic}
    return {"input_ids": list(ids), "sampling_params": params | sampling}


def generate(url: str, ids: Sequence[int], deterministic: bool | None = True, **sampling) -> Answer:
    """One request, to its end. Raises on an HTTP error."""
    return ask(url, body(ids, deterministic, **sampling))


def ask(url: str, request: dict) -> Answer:
    """One /generate request, streamed if it says so, to its end. Raises on an HTTP error."""
    if request.get("stream"):
        return Answer.of(list(stream(url, request))[-1])
    response = post(url, request)
    assert response.status_code == 200, response.text
    return Answer.of(response.json())


def ask_all(
    url: str, requests: Sequence[dict], in_flight: int, shuffle: int | None = None
) -> list[Answer]:
    """At most `in_flight` at a time, sent in an order that `shuffle` seeds; answers in order."""
    order = list(range(len(requests)))
    if shuffle is not None:
        random.Random(shuffle).shuffle(order)
    with ThreadPoolExecutor(in_flight) as pool:
        answers = dict(zip(order, pool.map(lambda i: ask(url, requests[i]), order), strict=True))
    return [answers[i] for i in range(len(requests))]


def stream(url: str, request: dict) -> Iterator[dict]:
    """The chunks of a streamed answer."""
    with (
        local_client(url, TIMEOUT_S) as http,
        http.stream("POST", "/generate", json=request | {"stream": True}) as response,
    ):
        for line in response.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


def run(
    url: str,
    in_flight: int,
    deterministic: bool = True,
    shuffle: int | None = None,
    only: slice = slice(None),
    **sampling,
) -> list[Answer]:
    """The prompts, at most `in_flight` at a time; answers in the order of `prompts()[only]`."""
    requests = [body(ids, deterministic, **sampling) for ids in prompts()[only]]
    return ask_all(url, requests, in_flight, shuffle)


@contextmanager
def ordinary_traffic(url: str, streams: int):
    """Ordinary requests of many lengths and temperatures, as long as the block runs; every second
    one is streamed. Fails if an answer is not complete."""
    stop = threading.Event()

    def stream(seed: int) -> None:
        dice = random.Random(seed)
        streamed = False
        while not stop.is_set():
            prompt = dice.choice(prompts())[: dice.randrange(1, 120)]
            length = dice.randrange(1, 60)
            sampling = {"max_new_tokens": length, "temperature": dice.choice((0, 0.8))}
            how = {"return_logprob": streamed, "stream": streamed}
            answer = ask(url, body(prompt, deterministic=False, **sampling) | how)
            assert len(answer.ids) == length
            if streamed:
                assert len(answer.meta["output_token_logprobs"]) == length
            streamed = not streamed

    with ThreadPoolExecutor(streams) as pool:
        running = [pool.submit(stream, seed) for seed in range(streams)]
        try:
            yield
        finally:
            stop.set()
        for future in running:
            future.result()


def flush(url: str) -> None:
    """Empty the prefix cache, once the server is idle."""
    with local_client(url, TIMEOUT_S) as client:
        assert client.post("/flush_cache", params={"timeout": 30}).status_code == 200


def metrics(url: str) -> dict[str, float]:
    """The lane's metrics: sums over labels, by name."""
    sums: dict[str, float] = {}
    for line in httpx.get(f"{url}/metrics", timeout=60, trust_env=False).text.splitlines():
        if line.startswith("llm42_"):
            name, value = line.rsplit(" ", 1)
            name = name.partition("{")[0]
            sums[name] = sums.get(name, 0) + float(value)
    return sums


def post(url: str, json: dict, path: str = "/generate") -> httpx.Response:
    """One request, whatever comes back."""
    with local_client(url, TIMEOUT_S) as client:
        return client.post(path, json=json)


def ids_of(answers: Sequence[Answer]) -> list[tuple[int, ...]]:
    """Output ids, answer by answer."""
    return [answer.ids for answer in answers]


def total(answers: Sequence[Answer], counter: str) -> int:
    """Sum of one counter over the receipts."""
    return sum(answer.meta["llm42"][counter] for answer in answers)

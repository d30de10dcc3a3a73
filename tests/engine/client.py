"""What the engine tests send: fixed prompts, and many requests at once."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pydoc_data.topics import topics  # long English text that every Python has

from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.repro.connection import GENERATE, Connection, Reply, at_once, events_of

T = 16  # tokens per page of nearly all servers
PROMPT_LENGTHS = (3, 15, 16, 17, 31, 32, 50, 100, 200, 333)  # tokens
NEW_TOKENS = 40  # crosses two ends of pages, whatever the prompt
TIMEOUT_S = 300


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
def tokenizer():
    """The tokenizer of all models here."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(ensure_default_model() / "tokenizer.json"))


@cache
def prompts() -> tuple[tuple[int, ...], ...]:
    """One prompt of token ids per length, none a prefix of another."""
    text = " ".join(topics[name] for name in sorted(topics)[:20])
    ids = tokenizer().encode(text).ids
    return tuple(tuple(ids[1000 * i :][:length]) for i, length in enumerate(PROMPT_LENGTHS))


def text_of(ids: Sequence[int]) -> str:
    """The ids' text, special tokens and all."""
    return tokenizer().decode(list(ids), skip_special_tokens=False)


@cache
def connection(url: str) -> Connection:
    """One for all tests of a server."""
    return Connection(url, timeout_s=TIMEOUT_S)


def post(url: str, body: dict, path: str = GENERATE) -> Reply:
    """One request, whatever comes back."""
    return connection(url).post(path, body)


def get(url: str, path: str):
    """An httpx.Response, whatever comes back."""
    return connection(url).request("GET", path)


def flush(url: str) -> None:
    """Empty the prefix cache, once the server is idle; fails if it does not become so."""
    connection(url).flush()


def body(ids: Sequence[int], deterministic: bool | None = True, **sampling) -> dict:
    """A greedy /generate request; None leaves determinism to the server, `sampling` overrides."""
    params = {"temperature": 0, "max_new_tokens": NEW_TOKENS, "ignore_eos": True}
    if deterministic is not None:
        params["custom_params"] = {"deterministic": deterministic}
    return {"input_ids": list(ids), "sampling_params": params | sampling}


def ask(url: str, request: dict) -> Answer:
    """One /generate request, streamed if it says so, to its end. Fails unless it is served."""
    return Answer.of(connection(url).generate(request))


def generate(url: str, ids: Sequence[int], deterministic: bool | None = True, **sampling) -> Answer:
    """`body`, asked."""
    return ask(url, body(ids, deterministic, **sampling))


def ask_all(
    url: str, requests: Sequence[dict], in_flight: int, shuffle: int | None = None
) -> list[Answer]:
    """At most `in_flight` at a time, sent in an order that `shuffle` seeds; answers in order."""
    return at_once(lambda request: ask(url, request), requests, in_flight, shuffle)


def run(url: str, in_flight: int, shuffle: int | None = None, only=slice(None), **how):
    """The prompts, at most `in_flight` at a time, with logprobs; answers in the order of
    `prompts()[only]`."""
    requests = [body(ids, **how) | {"return_logprob": True} for ids in prompts()[only]]
    return ask_all(url, requests, in_flight, shuffle)


def stream(url: str, request: dict) -> Iterator[dict]:
    """The events of a streamed answer, as they arrive; leaving the loop hangs up."""
    http = connection(url).client
    with http.stream("POST", GENERATE, json=request | {"stream": True}) as response:
        for event in events_of(response):
            yield event.data


def under_way(url: str, requests: list[dict]) -> Callable[[], list[Answer]]:
    """Stream requests, and return when all of them decode. Call the result for the answers."""
    decoding = threading.Semaphore(0)

    def run(request: dict) -> Answer:
        events = stream(url, request)
        next(events), next(events)
        decoding.release()
        *_, last = events
        return Answer.of(last)

    pool = ThreadPoolExecutor(len(requests))
    answers = [pool.submit(run, request) for request in requests]
    for _ in requests:
        assert decoding.acquire(timeout=60), "a request does not decode"
    return lambda: [answer.result(timeout=120) for answer in answers]


@contextmanager
def ordinary_traffic(url: str, streams: int):
    """Ordinary requests of many lengths and temperatures, as long as the block runs; every second
    one is streamed. Fails if an answer is not complete."""
    stop = threading.Event()

    def talk(seed: int) -> None:
        dice = random.Random(seed)
        streamed = False
        while not stop.is_set():
            prompt = dice.choice(prompts())[: dice.randrange(1, 120)]
            length = dice.randrange(1, 40)
            sampling = {"max_new_tokens": length, "temperature": dice.choice((0, 0.8))}
            how = {"return_logprob": streamed, "stream": streamed}
            answer = ask(url, body(prompt, deterministic=False, **sampling) | how)
            assert len(answer.ids) == length
            if streamed:
                assert len(answer.meta["output_token_logprobs"]) == length
            streamed = not streamed

    with ThreadPoolExecutor(streams) as pool:
        running = [pool.submit(talk, seed) for seed in range(streams)]
        try:
            yield
        finally:
            stop.set()
        for future in running:
            future.result()


def metrics(url: str) -> dict[str, float]:
    """The lane's metrics: sums over labels, by name."""
    sums: dict[str, float] = {}
    for line in get(url, "/metrics").text.splitlines():
        if line.startswith("llm42_"):
            name, value = line.rsplit(" ", 1)
            name = name.partition("{")[0]
            sums[name] = sums.get(name, 0) + float(value)
    return sums


def ids_of(answers: Sequence[Answer]) -> list[tuple[int, ...]]:
    """Output ids, answer by answer."""
    return [answer.ids for answer in answers]


def bits_of(answers: Sequence[Answer]) -> list[tuple[tuple[int, ...], list]]:
    """Output ids and their logprobs, answer by answer."""
    return [(answer.ids, answer.meta["output_token_logprobs"]) for answer in answers]


def total(answers: Sequence[Answer], counter: str) -> int:
    """Sum of one counter over the receipts."""
    return sum(answer.meta["llm42"][counter] for answer in answers)

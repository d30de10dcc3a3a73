"""Trainers renew the weights of a server under load: deterministic before it, and after it.

The server "other weights" gets those of "tiny", as each trainer of `trainers` sends them. Then it
must answer as "tiny" has answered. At the end of each test it has its own weights again.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Event
from typing import NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.engine import client, trainers
from tests.engine.client import Answer
from tests.engine.weights import Weights, fingerprint

pytestmark = pytest.mark.server("other weights")

SHORT = slice(0, 4)  # of the prompts
UNDER_WAY = 3  # long answers, while the weights change
LONG, MIDDLE = 200, 40  # tokens of each, and those that it has then, at least
ABORTING = (
    trainers.slime_from_disk,
    trainers.slime_from_tensors,
    trainers.slime_from_distributed,
    trainers.verl,
)


class Old(NamedTuple):
    """What the server answers with its own weights."""

    fingerprint: str
    short: list[Answer]
    long: list[Answer]
    rollouts: list[Answer]


@cache
def old_answers(url: str) -> Old:
    """Asked before the first of these tests changes the weights."""
    long = client.ask_all(url, [long_request(index) for index in range(UNDER_WAY)], UNDER_WAY)
    return Old(fingerprint(url), short_answers(url), long, rollouts(url, in_flight=1))


@pytest.fixture
def old(url: str, weights: Weights) -> Old:
    return old_answers(url)


@pytest.fixture
def new(url: str, weights: Weights, old: Old) -> Iterator[trainers.NewWeights]:
    """The weights of "tiny", in memory that the server can read."""
    version = client.get(url, "/model_info").json()["weight_version"]
    strategy = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy("file_system")
    try:
        model = AutoModelForCausalLM.from_pretrained(weights.plain, dtype=torch.bfloat16)
        tensors = [(name, tensor.detach()) for name, tensor in model.named_parameters()]
        buckets = [tensors[::2], tensors[1::2]]
        yield trainers.NewWeights(str(weights.plain), buckets, version="7")
    finally:
        torch.multiprocessing.set_sharing_strategy(strategy)
        client.post(url, {}, trainers.CONTINUE)  # a test that failed may have paused the server
        client.post(url, {"new_version": version}, "/update_weight_version").require_ok()


def renew(url: str, calls: trainers.Calls) -> None:
    """Send the calls in order. Each must succeed."""
    for call in calls:
        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(send, url, call)
            call.meanwhile()
            assert reply.result() == 200


def send(url: str, call: trainers.Call) -> int:
    """The status of the answer. As trainers do, try to flush until it is 200."""
    if call.body is not None:
        return client.post(url, call.body, call.path).require_ok().status
    for _ in range(60):
        if (status := client.get(url, call.path).status_code) == 200:
            break
        time.sleep(1)
    return status


def rollouts(url: str, in_flight: int) -> list[Answer]:
    """As slime asks: token ids, a seed for each of a group, logprobs; no word of determinism."""
    sampling = trainers.SLIME_SAMPLING | {"max_new_tokens": client.NEW_TOKENS}
    prompt = {"input_ids": list(client.prompts()[3]), "return_logprob": True}
    requests = [prompt | {"sampling_params": sampling | {"sampling_seed": i}} for i in range(4)]
    answers = client.ask_all(url, requests, in_flight, shuffle=in_flight)
    for answer in answers:  # slime and verl take ids and logprobs from there
        listed = answer.meta["output_token_logprobs"]
        assert tuple(token for _, token, _ in listed) == answer.ids
        assert answer.meta["llm42"]["verified"]
    return answers


def short_answers(url: str) -> list[Answer]:
    """To compare with those of "tiny"."""
    return client.run(url, in_flight=4, deterministic=None, only=SHORT)


def long_request(index: int) -> dict:
    return client.body(client.prompts()[index], None, max_new_tokens=LONG) | {
        "return_logprob": True
    }


def follow(url: str, index: int, begun: Event) -> Answer:
    """Ask a long request; set `begun` when it has come to the middle."""
    for event in client.stream(url, long_request(index)):
        if len(event["output_ids"]) >= MIDDLE:
            begun.set()
        last = event
    return Answer.of(last)


def renewed_in_the_middle(url: str, calls: trainers.Calls) -> list[Answer]:
    """Renew the weights while some long requests are under way; their answers."""
    begun = [Event() for _ in range(UNDER_WAY)]
    with ThreadPoolExecutor(UNDER_WAY) as pool:
        answers = [pool.submit(follow, url, i, event) for i, event in enumerate(begun)]
        assert all(event.wait(60) for event in begun)
        renew(url, calls)
        return [answer.result() for answer in answers]


def assert_new(url: str, old: Old, reference: list[Answer]) -> None:
    """The server has the weights of "tiny", and is as deterministic as with its own."""
    renamed = fingerprint(url)
    assert renamed != old.fingerprint
    answers = short_answers(url)
    assert client.bits_of(answers) == client.bits_of(reference[SHORT])
    assert client.bits_of(old.short) != client.bits_of(reference[SHORT])  # negative control
    alone, together = rollouts(url, in_flight=1), rollouts(url, in_flight=4)
    assert client.bits_of(alone) == client.bits_of(together) != client.bits_of(old.rollouts)
    for answer in (*answers, *alone):
        assert answer.meta["llm42"]["fingerprint"] == renamed


@pytest.mark.parametrize("trainer", ABORTING, ids=lambda trainer: trainer.__name__)
def test_a_trainer_that_aborts_gets_what_was_committed(url, new, old, reference, trainer):
    assert client.bits_of(rollouts(url, in_flight=4)) == client.bits_of(old.rollouts)
    calls = during_the_pause(trainer(new), lambda: assert_healthy(url))
    for got, undisturbed in zip(renewed_in_the_middle(url, calls), old.long, strict=True):
        assert got.meta["finish_reason"]["type"] == "abort"
        count = len(got.ids)
        assert MIDDLE <= count < LONG
        assert got.ids == undisturbed.ids[:count]
        listed = undisturbed.meta["output_token_logprobs"][:count]
        assert got.meta["output_token_logprobs"] == listed
        assert got.meta["llm42"]["segments"] == [{"fingerprint": old.fingerprint, "tokens": count}]
    assert_new(url, old, reference)


def test_a_trainer_that_retracts_gets_whole_answers(url, new, old, reference):
    """Tokens up to the pause are of the old weights, those behind it of the new ones. A request
    that comes in the pause waits for its end."""
    with ThreadPoolExecutor(1) as pool:
        late: list[Future[Answer]] = []

        def ask_late() -> None:
            late.append(pool.submit(client.generate, url, client.prompts()[0], None))
            assert_healthy(url)
            assert not late[0].done()

        calls = during_the_pause(trainers.miles(new), ask_late)
        answers = renewed_in_the_middle(url, calls)
        assert late[0].result().ids == reference[0].ids
    for index, (got, undisturbed) in enumerate(zip(answers, old.long, strict=True)):
        assert len(got.ids) == LONG
        first, second = got.meta["llm42"]["segments"]
        assert first["fingerprint"] == old.fingerprint != second["fingerprint"] == fingerprint(url)
        count, rest = first["tokens"], second["tokens"]
        assert count + rest == LONG
        assert got.ids[:count] == undisturbed.ids[:count]
        prompt = [*client.prompts()[index], *got.ids[:count]]
        behind = client.body(prompt, None, max_new_tokens=rest) | {"return_logprob": True}
        (again,) = client.bits_of([client.ask(url, behind)])
        assert again == (got.ids[count:], got.meta["output_token_logprobs"][count:])
    assert_new(url, old, reference)


def assert_healthy(url: str) -> None:
    """slime kills an engine whose /health_generate is not 200 in some seconds."""
    began = time.monotonic()
    assert client.get(url, "/health_generate").json()["status"] in ("busy", "paused")
    assert time.monotonic() - began < 5


def during_the_pause(calls: trainers.Calls, do: Callable[[], None]) -> trainers.Calls:
    """The calls, with something else before the last of them, which ends the pause."""
    for call in calls:
        if call.path == trainers.CONTINUE:
            do()
        yield call

"""The circumstances under which every case is asked again."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from random import Random

from llm42_sglang.errors import UserError
from llm42_sglang.repro.claimed import ask_claiming
from llm42_sglang.repro.connection import at_once
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.prompts import BACKGROUND
from llm42_sglang.repro.suite import Case, Message, Sampling
from llm42_sglang.repro.wire import Answer

BACKGROUND_TOKENS = 48  # the most that a background request generates
SHUFFLE_SEED = 42


@dataclass(frozen=True, slots=True)
class Observation:
    """One case's answer under one condition, or the error that came in its place."""

    case_id: str
    condition: str
    answer: Answer | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """How the cases of a suite are sent.

    `share` and `background` are shares of --in-flight. `share` says how many cases are under way at
    once; with 0 it is one. `background` says how many ordinary requests run beside the cases.
    `flush` empties the prefix cache before the first case, and before each that is asked alone.
    `claimed` has the server check the recorded tokens in place of generating an answer.
    """

    name: str
    share: float = 0
    background: float = 0
    flush: bool = False
    shuffle: bool = False
    stream: bool = False
    claimed: bool = False


# The order counts: `warm` finds the prefix cache as the conditions before it have filled it.
CONDITIONS = {
    condition.name: condition
    for condition in (
        Condition("alone", flush=True),
        Condition("load", share=1, background=0.5, flush=True),
        Condition("shuffled", share=0.5, background=0.25, shuffle=True),
        Condition("warm"),
        Condition("streaming", share=0.5, background=0.5, stream=True),
        Condition("claimed", share=0.5, claimed=True),
    )
}
# Those of a check that names none. The recorded tokens are checked as if they were a prompt: that
# is several times as fast, and says nothing about decode steps.
USUAL = tuple(name for name, condition in CONDITIONS.items() if not condition.claimed)


def observe(
    endpoint: Endpoint,
    cases: Sequence[Case],
    condition: Condition,
    in_flight: int,
    advance: Callable[[], object] = lambda: None,
    deterministic: bool = True,
    keep_on: bool = False,
) -> list[Observation]:
    """Ask every case once under one condition. The observations are in the cases' order.

    `advance` is called after each case. Raises UserError for the first case that is not answered.
    With `keep_on` the error becomes that case's observation, and the other cases are still asked.
    """
    if condition.flush:
        endpoint.flush()

    def ask(case: Case) -> Observation:
        if condition.flush and condition.share == 0:
            endpoint.flush()
        try:
            if condition.claimed:
                answer = ask_claiming(endpoint, case, deterministic)
            else:
                answer = endpoint.ask(case, deterministic, condition.stream)
        except UserError as error:
            if not keep_on:
                raise UserError(f"case {case.id}: {error}") from None
            return Observation(case.id, condition.name, None, str(error))
        finally:
            advance()
        return Observation(case.id, condition.name, answer)

    together = max(1, round(condition.share * in_flight))
    beside = round(condition.background * in_flight)
    try:
        with _background(endpoint, beside, in_chat=cases[0].messages is not None):
            return at_once(ask, cases, together, SHUFFLE_SEED if condition.shuffle else None)
    except UserError as error:
        if not keep_on:
            raise
        # Without its background requests the server was not in load, so no answer counts.
        reason = f"a background request failed: {error}"
        return [Observation(case.id, condition.name, None, reason) for case in cases]


@contextmanager
def _background(endpoint: Endpoint, count: int, in_chat: bool) -> Iterator[None]:
    """Keep `count` ordinary requests of several lengths under way as long as the block runs."""
    stop = threading.Event()

    def ask_until_stopped(number: int) -> None:
        for case in cycle(_background_cases(number, in_chat)):
            if stop.is_set():
                return
            endpoint.ask(case, deterministic=False)

    if count == 0:
        yield
        return
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(ask_until_stopped, number) for number in range(count)]
        try:
            yield
        finally:
            stop.set()
    for future in futures:
        future.result()


def _background_cases(number: int, in_chat: bool) -> Iterator[Case]:
    """Yield greedy and sampled requests. Each `number` has a sequence of its own."""
    dice = Random(number)
    for prompt in dice.sample(BACKGROUND, len(BACKGROUND)):
        temperature = dice.choice((0, 0.8))
        length = dice.randrange(BACKGROUND_TOKENS // 4, BACKGROUND_TOKENS)
        sampling = Sampling(temperature=temperature, max_tokens=length)
        yield question(f"background-{number}", prompt, in_chat, sampling)


def question(name: str, prompt: str, in_chat: bool, sampling: Sampling) -> Case:
    """A case whose prompt is one message, or with `in_chat` false a text to go on with."""
    messages = [Message(role="user", content=prompt)] if in_chat else None
    return Case(id=name, prompt=None if in_chat else prompt, messages=messages, sampling=sampling)

"""The circumstances under which every case is asked again."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from random import Random

from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import at_once
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.prompts import COMPANY
from llm42_sglang.repro.suite import Case, Message, Sampling
from llm42_sglang.repro.wire import Answer

COMPANY_TOKENS = 48
SHUFFLE = 42  # seed
Advance = Callable[[], object]  # called whenever a case is answered


@dataclass(frozen=True, slots=True)
class Observation:
    """One case's answer under one condition, or why there is none."""

    case_id: str
    condition: str
    answer: Answer | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """How the cases are sent. share: of --in-flight, how many of them at once (0: one); company:
    likewise, how many ordinary requests run beside them all the time."""

    name: str
    share: float = 0
    company: float = 0
    flush: bool = False  # the prefix cache: before, and before every case that is sent alone
    shuffle: bool = False
    stream: bool = False


# In this order: by the time of `warm` the cache has been filled by those before it.
CONDITIONS = {
    one.name: one
    for one in (
        Condition("alone", flush=True),
        Condition("load", share=1, company=0.5, flush=True),
        Condition("shuffled", share=0.5, company=0.25, shuffle=True),
        Condition("warm"),
        Condition("streaming", share=0.5, company=0.5, stream=True),
    )
}


def observe(
    endpoint: Endpoint,
    cases: Sequence[Case],
    condition: Condition,
    in_flight: int,
    advance: Advance = lambda: None,
    deterministic: bool = True,
    keep_on: bool = False,
) -> list[Observation]:
    """Every case once under one condition, in the cases' order.

    Raises UserError for the first that is not answered; with `keep_on` that is an observation.
    """
    if condition.flush:
        endpoint.flush()

    def ask(case: Case) -> Observation:
        if condition.flush and condition.share == 0:
            endpoint.flush()
        try:
            answer = endpoint.ask(case, deterministic, condition.stream)
        except UserError as error:
            if not keep_on:
                raise UserError(f"case {case.id}: {error}") from None
            return Observation(case.id, condition.name, None, str(error))
        finally:
            advance()
        return Observation(case.id, condition.name, answer)

    together, beside = (round(part * in_flight) for part in (condition.share, condition.company))
    try:
        with _company(endpoint, beside, in_chat=cases[0].messages is not None):
            return at_once(ask, cases, max(1, together), SHUFFLE if condition.shuffle else None)
    except UserError as error:
        if not keep_on:
            raise
        told = f"the requests beside it: {error}"  # company that is refused makes no load
        return [Observation(case.id, condition.name, None, told) for case in cases]


@contextmanager
def _company(endpoint: Endpoint, streams: int, in_chat: bool) -> Iterator[None]:
    """Ordinary requests of several lengths, `streams` at a time, as long as the block runs."""
    stop = threading.Event()

    def stream(number: int) -> None:
        for case in cycle(_company_cases(number, in_chat)):
            if stop.is_set():
                return
            endpoint.ask(case, deterministic=False)

    if streams == 0:
        yield
        return
    with ThreadPoolExecutor(streams) as pool:
        running = [pool.submit(stream, number) for number in range(streams)]
        try:
            yield
        finally:
            stop.set()
    for future in running:
        future.result()


def _company_cases(number: int, in_chat: bool) -> Iterator[Case]:
    """Ordinary requests, greedy and sampled; other ones for each stream."""
    dice = Random(number)
    for prompt in dice.sample(COMPANY, len(COMPANY)):
        temperature = dice.choice((0, 0.8))
        length = dice.randrange(COMPANY_TOKENS // 4, COMPANY_TOKENS)
        sampling = Sampling(temperature=temperature, max_tokens=length)
        yield question(f"company-{number}", prompt, in_chat, sampling)


def question(name: str, prompt: str, in_chat: bool, sampling: Sampling) -> Case:
    """A case that asks this, as a message or as a text to go on with."""
    messages = [Message(role="user", content=prompt)] if in_chat else None
    return Case(id=name, prompt=None if in_chat else prompt, messages=messages, sampling=sampling)

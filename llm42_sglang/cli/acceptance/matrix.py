"""The determinism matrix of one server: the same requests under different loads, bit for bit.

Greedy and sampled, from an empty prefix cache and a warm one, alone and in two kinds of company.
The negative control asks ordinary greedy requests alone and in company: they must differ, or the
load was not one under which anything could have gone wrong.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx

from llm42_sglang.cli.acceptance.verdict import Result, Verdict
from llm42_sglang.cli.demo import Answer, ask, flush_cache
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.launch import local_client
from llm42_sglang.repro.output import first_difference
from llm42_sglang.repro.prompts import COMPANY, PROMPTS

TIMEOUT_S = 600
SAMPLING: Mapping[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 0.8, "top_p": 0.95, "sampling_seed": 7},
}
REFERENCE = "alone"

# (deterministic?, sampling) -> the prompts' answers, in order
Condition = Callable[[httpx.Client, bool, int, Mapping[str, Any]], list[Answer]]


def matrix(url: str, new_tokens: int) -> Result:
    """Ask everything. Raises UserError if the server refuses a request or stops answering."""
    with local_client(url, TIMEOUT_S) as client:
        try:
            answers = {
                kind: {name: run(client, True, new_tokens, how) for name, run in CONDITIONS.items()}
                for kind, how in SAMPLING.items()
            }
            control = [
                CONDITIONS[name](client, False, new_tokens, {})
                for name in (REFERENCE, "in company")
            ]
        except httpx.HTTPError as error:
            raise UserError(f"the server at {url} stopped answering: {error!r}") from error
    return judge(answers, control)


def judge(
    answers: Mapping[str, Mapping[str, Sequence[Answer]]], control: Sequence[Sequence[Answer]]
) -> Result:
    """`answers` by kind and condition; `control` alone and in company."""
    differences = [
        {"kind": kind, "condition": name, "prompt": i, "token": token}
        for kind, by_condition in answers.items()
        for name, given in by_condition.items()
        for i, token in _differences(by_condition[REFERENCE], given)
    ]
    flat = [a for conditions in answers.values() for given in conditions.values() for a in given]
    unverified = sum(not answer.verified for answer in flat)
    diverged = len(list(_differences(*control)))
    finding = (
        f"{len(flat)} answers: {len(differences)} differ, {unverified} not verified; "
        f"control: {diverged} of {len(control[0])} ordinary ones differ"
    )
    if differences or unverified:
        verdict = Verdict.FAILED
    else:
        verdict = Verdict.PASSED if diverged else Verdict.UNKNOWN
    data = {
        "answers": len(flat),
        "differences": differences,
        "unverified": unverified,
        "control_diverged": diverged,
        "rollbacks": sum(answer.receipt.get("rollbacks", 0) for answer in flat),
        "tokens_rolled_back": sum(a.receipt.get("tokens_rolled_back", 0) for a in flat),
    }
    return Result("determinism matrix", verdict, finding, data)


def _differences(reference: Sequence[Answer], given: Sequence[Answer]) -> Iterator[tuple[int, int]]:
    """(prompt, first token that differs) of those that differ."""
    for i, (one, other) in enumerate(zip(reference, given, strict=True)):
        token = first_difference(one.output_ids, other.output_ids)
        if token is not None:
            yield i, token


def _alone(client: httpx.Client, deterministic: bool, new: int, how: Mapping) -> list[Answer]:
    answers = []
    for prompt in PROMPTS:
        flush_cache(client)
        answers.append(ask(client, prompt, deterministic, new, **how))
    return answers


def _warm(client: httpx.Client, deterministic: bool, new: int, how: Mapping) -> list[Answer]:
    """Alone, what was asked before still in the prefix cache."""
    return [ask(client, prompt, deterministic, new, **how) for prompt in PROMPTS]


def _in_company(client: httpx.Client, deterministic: bool, new: int, how: Mapping) -> list[Answer]:
    flush_cache(client)
    return _all_at_once(client, deterministic, new, how, COMPANY, seed=1)


def _in_more(client: httpx.Client, deterministic: bool, new: int, how: Mapping) -> list[Answer]:
    """Other company, other order, and the prefix cache as the last condition left it."""
    return _all_at_once(client, deterministic, new, how, COMPANY * 3, seed=2)


def _all_at_once(
    client: httpx.Client,
    deterministic: bool,
    new: int,
    how: Mapping[str, Any],
    company: Sequence[str],
    seed: int,
) -> list[Answer]:
    asked = [(prompt, deterministic, how) for prompt in PROMPTS]
    asked += [(prompt, False, {}) for prompt in company]
    order = list(range(len(asked)))
    Random(seed).shuffle(order)
    with ThreadPoolExecutor(len(asked)) as pool:
        futures = {}
        for i in order:
            prompt, kind, sampling = asked[i]
            futures[i] = pool.submit(ask, client, prompt, kind, new, **sampling)
        return [futures[i].result() for i in range(len(PROMPTS))]


CONDITIONS: Mapping[str, Condition] = {
    REFERENCE: _alone,
    "alone, warm cache": _warm,
    "in company": _in_company,
    "in more company, warm cache": _in_more,
}

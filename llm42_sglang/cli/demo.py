"""The demonstration: do the same prompts get the same tokens alone and in company?"""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import httpx

from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.launch import local_client
from llm42_sglang.repro.output import first_difference
from llm42_sglang.repro.prompts import COMPANY, PROMPTS

NEW_TOKENS = 96
ANSWER_TIMEOUT_S = 600


@dataclass(frozen=True)
class Answer:
    """What the server returned for one prompt; `receipt` is meta_info["llm42"], {} if absent."""

    output_ids: tuple[int, ...]
    receipt: dict[str, Any]

    @property
    def verified(self) -> bool:
        """Whether the server vouches for the answer."""
        return self.receipt.get("verified") is True


Answers = Iterator[tuple[str, Answer]]  # each with its prompt


@dataclass(frozen=True)
class Comparison:
    """One prompt's answer alone and under load."""

    prompt: str
    alone: Answer
    loaded: Answer

    @property
    def diverged_at(self) -> int | None:
        """Index of the first token that differs, counted from 0; None if no token does."""
        return first_difference(self.alone.output_ids, self.loaded.output_ids)

    @property
    def verified(self) -> bool:
        """Whether the server vouches for both answers."""
        return self.alone.verified and self.loaded.verified

    def total(self, counter: str) -> int:
        """The sum of a receipt counter, such as `rollbacks`, over both answers."""
        return sum(answer.receipt.get(counter, 0) for answer in (self.alone, self.loaded))


def compare(
    url: str, deterministic: bool, progress: Callable[[str], None], new_tokens: int = NEW_TOKENS
) -> list[Comparison]:
    """Run PROMPTS one after the other, then all at once beside COMPANY, and pair the answers.

    The prefix cache is emptied before every lone prompt and before the load, so that the company
    is the only thing that differs. The company is ordinary traffic. Raises UserError if the server
    refuses a request or stops answering.
    """
    kind = "deterministic" if deterministic else "ordinary"
    with local_client(url, ANSWER_TIMEOUT_S) as client:
        try:
            progress(f"{kind} requests: {len(PROMPTS)} prompts, one after the other")
            lone = _one_by_one(client, deterministic, new_tokens)
            alone = _collect(lone, len(PROMPTS), progress)
            in_flight = len(PROMPTS) + len(COMPANY)
            progress(f"{kind} requests: the same prompts, {in_flight} requests in flight")
            crowd = _all_at_once(client, deterministic, new_tokens)
            loaded = _collect(crowd, in_flight, progress)
        except httpx.HTTPError as error:
            raise UserError(f"the server at {url} stopped answering: {error!r}") from error
    return [Comparison(prompt, alone[prompt], loaded[prompt]) for prompt in PROMPTS]


def _one_by_one(client: httpx.Client, deterministic: bool, new_tokens: int) -> Answers:
    for prompt in PROMPTS:
        flush_cache(client)
        yield prompt, ask(client, prompt, deterministic, new_tokens)


def _all_at_once(client: httpx.Client, deterministic: bool, new_tokens: int) -> Answers:
    flush_cache(client)
    requests = [(prompt, deterministic) for prompt in PROMPTS]
    requests += [(prompt, False) for prompt in COMPANY]
    random.Random(42).shuffle(requests)
    with ThreadPoolExecutor(len(requests)) as pool:
        prompts = {
            pool.submit(ask, client, *request, new_tokens): request[0] for request in requests
        }
        for future in as_completed(prompts):
            yield prompts[future], future.result()


def _collect(answers: Answers, total: int, progress: Callable[[str], None]) -> dict[str, Answer]:
    collected: dict[str, Answer] = {}
    began = time.monotonic()
    for prompt, answer in answers:
        collected[prompt] = answer
        if len(collected) % (total // 4) == 0:
            seconds = time.monotonic() - began
            progress(f"  {len(collected)} of {total} answered after {seconds:.0f} s")
    return collected


def ask(
    client: httpx.Client, prompt: str, deterministic: bool, new_tokens: int, **sampling: Any
) -> Answer:
    """One request, greedy unless `sampling` says otherwise. Raises UserError if it is refused."""
    sampling_params: dict[str, Any] = {
        "temperature": 0,
        "max_new_tokens": new_tokens,
        "ignore_eos": True,
        **sampling,
    }
    if deterministic:
        sampling_params["custom_params"] = {"deterministic": True}
    text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    reply = _post(client, "/generate", json={"text": text, "sampling_params": sampling_params})
    body = reply.json()
    return Answer(tuple(body["output_ids"]), body["meta_info"].get("llm42") or {})


def flush_cache(client: httpx.Client) -> None:
    """Empty the server's prefix cache."""
    # The server flushes only when idle; `timeout` (seconds) lets it finish what just ended.
    _post(client, "/flush_cache", params={"timeout": 30})


def _post(client: httpx.Client, path: str, **options: Any) -> httpx.Response:
    reply = client.post(path, **options)
    if reply.status_code != 200:
        raise UserError(f"the server answered {path} with {reply.status_code}: {reply.text[:300]}")
    return reply

"""Which token follows, for one request: a function of one row of logits and the tokens before it.

The fast path and the canonical pass choose by the same code, so that a candidate differs from the
verifier's token only where the logits differ enough. Order of the adjustments: SGLang's.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from sglang.srt.sampling.sampling_params import TOP_K_ALL, SamplingParams

from llm42_sglang.engine.loop.grammar import Grammar
from llm42_sglang.sampling import (
    DEFAULT_SEED,
    Adjustments,
    Plan,
    adjust,
    bias_pairs,
    greedy,
    sample,
)

# What SGLang itself sees of a deterministic request's sampling: greedy and unadjusted. Its sampler
# is then as fast for the rest of the batch as if the request were not there.
_PLAIN = {
    "temperature": 1.0,
    "top_k": 1,
    "top_p": 1.0,
    "min_p": 0.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
    "min_new_tokens": 0,
    "logit_bias": None,
    "sampling_seed": None,
}


class Chooser:
    """One request's plan, adjustments and grammar."""

    def __init__(self, params: SamplingParams, prompt_len: int, stops: frozenset[int]):
        self.plan = plan_of(params)
        self.adjustments = adjustments_of(params, stops)
        self.prompt_len = prompt_len
        self.grammar: Grammar | None = None  # set once it is compiled

    @property
    def plain(self) -> bool:
        """Greedy on the raw row: SGLang's own sampler proposes the same."""
        return self.plan.greedy and not self.looks_back

    @property
    def looks_back(self) -> bool:
        """The choice depends on earlier output tokens, not on the row and its position alone."""
        return not self.adjustments.neutral or self.grammar is not None

    def propose(
        self, row: torch.Tensor, output: Sequence[int], candidates: Sequence[int], position: int
    ) -> int:
        """As `follow`, for the token at `position`; the tokens before it are only looked at by
        requests that look back. row: [vocab]."""
        if self.looks_back:
            return self.follow(row, output, candidates)
        return sample(row, self.plan, position)

    def follow(self, row: torch.Tensor, output: Sequence[int], candidates: Sequence[int]) -> int:
        """The token after prompt, output and candidates; row: [vocab]."""
        with self._lookahead() as step:
            for token in candidates:
                step(token)
            return self._choose(row, [*output, *candidates] if candidates else output)

    def follow_all(
        self, rows: torch.Tensor, output: Sequence[int], candidates: Sequence[int]
    ) -> list[int]:
        """The tokens after output, and after each candidate in turn; rows: [n, vocab].

        Ends at the first that is not the candidate: the rows after it stand on a wrong token.
        """
        if self.plain:
            return greedy(rows).tolist()
        tokens: list[int] = []
        known = list(output)
        with self._lookahead() as step:
            for row, candidate in zip(rows, [*candidates, None], strict=False):
                tokens.append(self._choose(row, known))
                if tokens[-1] != candidate or not step(candidate):
                    break
                known.append(candidate)
        return tokens

    def _choose(self, row: torch.Tensor, output: Sequence[int]) -> int:
        mask = self.grammar.mask if self.grammar is not None else None
        row = adjust(row, self.adjustments, output, mask)
        return sample(row, self.plan, self.prompt_len + len(output))

    def _lookahead(self):
        return self.grammar.lookahead() if self.grammar else nullcontext(lambda token: True)


def plan_of(params: SamplingParams) -> Plan:
    """How the request samples; without a seed, the documented default."""
    seed = params.sampling_seed
    return Plan(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        seed=DEFAULT_SEED if seed is None else seed,
    )


def sampling_of(params: SamplingParams) -> dict[str, float]:
    """What a receipt names, as the request draws. Greedy is temperature 0, however it was asked
    for; a top_k of -1 is the whole vocabulary."""
    return {
        "temperature": 0.0 if plan_of(params).greedy else params.temperature,
        "top_p": params.top_p,
        "top_k": -1 if params.top_k == TOP_K_ALL else params.top_k,
        "min_p": params.min_p,
        "frequency_penalty": params.frequency_penalty,
        "presence_penalty": params.presence_penalty,
        "repetition_penalty": params.repetition_penalty,
    }


def adjustments_of(params: SamplingParams, stops: frozenset[int]) -> Adjustments:
    """What changes the request's logits before it samples. Raises ValueError naming the option."""
    return Adjustments(
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
        repetition_penalty=params.repetition_penalty,
        min_new_tokens=params.min_new_tokens,
        stop_ids=stops,
        logit_bias=bias_pairs(params.logit_bias),
    )


def plain_copy(params: SamplingParams) -> SamplingParams:
    """The parameters without anything that would change SGLang's own sampling of a batch."""
    copied = params.__copy__()
    for name, value in _PLAIN.items():
        setattr(copied, name, value)
    return copied

"""Which token follows, for one request: a function of one row of logits and the tokens before it.

Decode steps and canonical passes choose by the same code. So a candidate differs from the pass's
token only where the logits differ enough. The order of the adjustments is SGLang's.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.engine.loop.grammar import Grammar
from llm42_sglang.engine.parameters import adjustments_of, plan_of
from llm42_sglang.sampling import adjust, greedy, sample


class Chooser:
    """How one request chooses: its sampling plan, adjustments and grammar."""

    def __init__(self, params: SamplingParams, prompt_len: int, stops: frozenset[int]):
        self.plan = plan_of(params)
        self.adjustments = adjustments_of(params, stops)
        self.prompt_len = prompt_len
        self.grammar: Grammar | None = None  # set once it is compiled

    @property
    def plain(self) -> bool:
        """Whether it takes the largest logit of the raw row, as SGLang's own sampler does."""
        return self.plan.greedy and not self.depends_on_output

    @property
    def depends_on_output(self) -> bool:
        """Whether the choice depends on earlier output, not on the row and its position alone."""
        return not self.adjustments.neutral or self.grammar is not None

    def propose(
        self, row: torch.Tensor, output: Sequence[int], candidates: Sequence[int], position: int
    ) -> int:
        """As `follow`, for the token at `position`. Output and candidates are not looked at where
        the choice does not depend on them. row: [vocab]."""
        if self.depends_on_output:
            return self.follow(row, output, candidates)
        return sample(row, self.plan, position)

    def follow(self, row: torch.Tensor, output: Sequence[int], candidates: Sequence[int]) -> int:
        """The token after prompt, output and candidates. row: [vocab], the last one's logits."""
        with self._lookahead() as step:
            for token in candidates:
                step(token)
            return self._choose(row, [*output, *candidates] if candidates else output)

    def follow_all(
        self, rows: torch.Tensor, output: Sequence[int], candidates: Sequence[int]
    ) -> list[int]:
        """The tokens after output, and after each candidate in turn. rows: [n, vocab].

        The list ends at the first token that is not the candidate, because the rows after it were
        computed over a wrong token.
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

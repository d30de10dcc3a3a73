"""A request's grammar, held at its committed output.

SGLang advances a grammar by the tokens it appends; here tokens are proposed and taken back, so the
grammar is taken over at admission and advanced by committed tokens only. Candidates are walked
along and undone again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from sglang.srt.constrained.base_grammar_backend import BaseGrammarObject


class Grammar:
    """What may come next, after the committed output or after candidates beyond it."""

    def __init__(self, matcher: BaseGrammarObject):
        self._matcher = matcher

    @property
    def complete(self) -> bool:
        """Nothing can follow: whatever comes is unconstrained, and the request ends."""
        return self._matcher.is_terminated()

    def commit(self, token: int) -> None:
        """Advance by a committed token. Raises ValueError if the grammar does not allow it."""
        self._matcher.accept_token(token)

    @contextmanager
    def lookahead(self) -> Iterator[Callable[[int], bool]]:
        """Yields a step over tokens that may never be committed; all is undone at the end.

        The step says whether the grammar allows the token.
        """
        steps = 0

        def step(token: int) -> bool:
            nonlocal steps
            if self.complete:
                return True
            if token < 0:  # nothing could be chosen
                return False
            try:
                self._matcher.accept_token(token)
            except ValueError:
                return False
            steps += 1
            return True

        try:
            yield step
        finally:
            if steps:
                self._matcher.rollback(steps)

    def mask(self, row: torch.Tensor) -> torch.Tensor:
        """row: [vocab] logits, written to: -inf where a token is not allowed."""
        if not self.complete:
            allowed = self._matcher.allocate_vocab_mask(len(row), 1, row.device)
            self._matcher.fill_vocab_mask(allowed, 0)
            allowed = self._matcher.move_vocab_mask(allowed, row.device)
            self._matcher.apply_vocab_mask(row.unsqueeze(0), allowed)  # [1, vocab]
        return row

"""A request's grammar, which stands at its committed output.

SGLang advances a grammar by every token it appends. Here tokens are proposed and taken back. So we
take the grammar over at admission, and advance it by committed tokens only. Candidates are tried
and undone again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from sglang.srt.constrained.base_grammar_backend import BaseGrammarObject


class Grammar:
    """Says what may come next, after the committed output or after candidates beyond it."""

    def __init__(self, matcher: BaseGrammarObject):
        self._matcher = matcher

    @property
    def complete(self) -> bool:
        """Whether nothing can follow. The next token is unconstrained, and the request ends."""
        return self._matcher.is_terminated()

    def commit(self, token: int) -> None:
        """Advance by a committed token. Raises ValueError if the grammar does not allow it."""
        self._matcher.accept_token(token)

    @contextmanager
    def lookahead(self) -> Iterator[Callable[[int], bool]]:
        """Yields a function that steps over a token and says whether the grammar allows it. All
        steps are undone at the end."""
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
        """Set logits of tokens that are not allowed to -inf, in place. row: [vocab]; returns it."""
        if not self.complete:
            allowed = self._matcher.allocate_vocab_mask(len(row), 1, row.device)
            self._matcher.fill_vocab_mask(allowed, 0)
            allowed = self._matcher.move_vocab_mask(allowed, row.device)
            self._matcher.apply_vocab_mask(row.unsqueeze(0), allowed)  # [1, vocab]
        return row

"""A request whose answer is claimed: canonical passes check the claim, and nothing is decoded.

SGLang prefills prompt and claim as one prompt. So admission, chunks, the prefix cache and fairness
are those of any prompt. When the last chunk has run, the request ends: with the answer, if the
claimed tokens lead to its end, else as refuted.
"""

from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from sglang.srt.constrained.base_grammar_backend import BaseGrammarObject
from sglang.srt.managers.schedule_batch import FINISH_ABORT, FINISH_MATCHED_TOKEN

from llm42_sglang.core.claim import Claim, Refutation, refutation
from llm42_sglang.core.track import Prefilled
from llm42_sglang.engine.loop.finish import nothing_left
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.frontend.claims import claim_of
from llm42_sglang.sampling import NO_TOKEN

REFUTED = "llm42: the claimed tokens are not the answer"


class ClaimReq(DeterministicReq):
    """A deterministic request with a claimed output."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._claim: Claim | None = None  # how far it is checked; None until it is queued
        self._most = 0  # tokens that the answer may have
        self._complete_at: int | None = None  # tokens after which the grammar allows no other
        self._pristine: BaseGrammarObject | None = None  # the grammar at its beginning
        self._margin = 0.0  # by how much the logit of a token that was drawn instead is larger
        self.refuted: Refutation | None = None  # set if the claim is wrong

    def refutation(self) -> dict[str, Any]:
        """Where a refuted claim is wrong, in JSON types."""
        assert self.refuted is not None, "the claim is not refuted"
        both = None not in self.refuted
        return self.refuted._asdict() | {"margin": self._margin if both else None}

    def take_grammar(self) -> None:
        """As for any request, and keep it as it is at the beginning."""
        if self.grammar is not None:
            self._pristine = self.grammar.copy()
        super().take_grammar()

    # -- What SGLang prefills --

    def refresh_fill_ids(self) -> None:
        """Prompt and claim. `output_ids` stays empty until the claim is decided."""
        if self._claim is None:
            self._begin()
        ended = self.to_finish and not self.begun  # rows of a chunk cannot be taken back
        claimed = () if ended else self._begun_claim.tokens
        self.full_untruncated_fill_ids = self.origin_input_ids + array("q", claimed)

    def _begin(self) -> None:
        """What is prefilled is a claim without the last token that the answer may have: no row
        needs to follow that one. From here on SGLang reads that one token may come. It reserves
        room for tokens to come, and has let in no more than there is room for."""
        params = self.sampling_params
        self._most, params.max_new_tokens = params.max_new_tokens, 1
        self._claim = Claim(self._claimed[: max(0, self._most - 1)])

    @cached_property
    def _claimed(self) -> tuple[int, ...]:
        return tuple(claim_of(self.asked.custom_params) or ())

    @property
    def _begun_claim(self) -> Claim:
        assert self._claim is not None, "the request was never queued"
        return self._claim

    def _compute_max_prefix_len(self, input_len: int) -> int:
        """Rows from the prompt's last one on are drawn from, so they must not come from a cache."""
        longest = super()._compute_max_prefix_len(input_len)
        return min(longest, max(len(self.origin_input_ids) - 1, 0))

    def next_output_finishes_by_length(self) -> bool:
        """No decode step is launched for it."""
        return True

    # -- Rows --

    def reads_page(self, page: int, tokens: int) -> bool:
        """Whether a page needs logits: from the one with the prompt's last row on, all do."""
        end = page * self.page_size + tokens
        return end >= len(self.origin_input_ids) or super().reads_page(page, tokens)

    def read_prompt(self, rows: torch.Tensor, start: int) -> None:
        """Draw from rows behind the prompt, and compare. rows: [n, vocab], of positions from
        `start` on. A page comes twice where a chunk ended inside it."""
        super().read_prompt(rows, start)
        claim = self._begun_claim
        behind = len(self.origin_input_ids) - 1 + claim.agreed - start  # rows that have been read
        rows = rows[max(behind, 0) :]
        if claim.decided or self.to_finish or not len(rows):
            return
        assert behind >= 0, "a row was left out"
        agreed, left = claim.tokens[: claim.agreed], claim.left[: len(rows)]
        self._claim = now = claim.read(self.chooser.follow_all(rows, agreed, left))
        run = now.answer[claim.agreed :]
        self._advance_grammar(now.tokens[claim.agreed : now.agreed], claim.agreed)
        if self.logprobs is not None:
            self.logprobs.read(rows, run)
        if now.drawn is not None and now.drawn != NO_TOKEN:
            row, claimed = rows[len(run) - 1], self._claimed[now.agreed : now.agreed + 1]
            self._margin = float(row[now.drawn] - row[claimed[0]]) if claimed else 0.0

    def _advance_grammar(self, tokens: Sequence[int], before: int) -> None:
        """Let the grammar follow tokens that were drawn. before: the tokens that came earlier."""
        grammar = self.chooser.grammar
        for count, token in enumerate(tokens, start=before + 1):
            if grammar is None or grammar.complete:
                return
            grammar.commit(token)
            if grammar.complete:
                self._complete_at = count

    def prefilled(self, upto: int, last_row: torch.Tensor | None) -> int:
        """Rows [0, upto) are canonical. Nothing is born of the last one; returns a placeholder."""
        self.apply(Prefilled(upto))
        return 0

    # -- The end --

    def conclude(self) -> bool:
        """Called when the results of a prefill are processed. When the last chunk is done, say how
        the request ends: as if the tokens had come one by one, up to the end or the disagreement.
        Returns whether it ends now.
        """
        if self.inflight_middle_chunks > 0 or self.finished() or self.is_retracted:
            return False
        self.sampling_params.max_new_tokens = self._most
        self.discard_output_reason = self.to_finish or self._ending()
        return True

    def _ending(self) -> Any:
        for token in self._begun_claim.answer:
            if token == NO_TOKEN:
                return nothing_left()
            self.output_ids.append(token)
            self.update_finish_state(1)
            if self.finished():
                break
        reason, self.finished_reason = self.finished_reason, None
        self.refuted = refutation(self._claimed, self.output_ids_through_stop)
        return FINISH_ABORT(REFUTED) if self.refuted else reason

    def _follow_grammar(self, token: int) -> None:
        """The grammar has followed already; here it only ends the answer."""
        complete = self._complete_at is not None and len(self.output_ids) > self._complete_at
        if complete and not self.finished():
            self.finished_reason = FINISH_MATCHED_TOKEN(matched=token)

    def owned_kv_len(self) -> int:
        """All of its KV, however short the answer is: the tree may hold pages of the claim."""
        return self.kv.kv_committed_len

    @property
    def all_committed(self) -> bool:
        """Every token of the output was drawn from a canonical row that follows drawn tokens."""
        return True

    def reset_for_retract(self) -> None:
        """Begin again. A claim has no output to keep."""
        self._track = None
        super().reset_for_retract()
        self._reader.forget()
        self._claim = self._claim and Claim(self._claim.tokens)
        self._complete_at = None
        if self._pristine is not None:
            self.grammar = self._pristine

"""SGLang's request, for which only committed tokens exist.

Candidates live in `track`, never in `output_ids`. Streaming, finish checks, stop logic, retraction
and the radix cache read `output_ids`. So they see committed tokens only, and need no hook.
"""

from collections import deque
from collections.abc import Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any

import torch
from sglang.srt.constrained.base_grammar_backend import BaseGrammarObject
from sglang.srt.managers.schedule_batch import FINISH_ABORT, FINISH_MATCHED_TOKEN, Req
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.core.drafts import Drafter
from llm42_sglang.core.pages import page_index, page_span
from llm42_sglang.core.track import (
    Action,
    Born,
    Event,
    Prefilled,
    Proposed,
    Retracted,
    Stepped,
    Track,
    Verified,
    step,
)
from llm42_sglang.engine.loop.chooser import Chooser
from llm42_sglang.engine.loop.finish import may_finish, nothing_left, stop_tokens
from llm42_sglang.engine.loop.grammar import Grammar
from llm42_sglang.engine.loop.lineage import Lineage
from llm42_sglang.engine.loop.logprobs import LogprobReader
from llm42_sglang.engine.loop.outlook import Outlook
from llm42_sglang.engine.parameters import plain_copy
from llm42_sglang.sampling import NO_TOKEN


class DeterministicReq(Req):
    """A deterministic request: SGLang's own, with the protocol's state beside it."""

    sampling_params: SamplingParams
    grammar: BaseGrammarObject | None
    to_finish: FINISH_ABORT | None
    finished_len: int | None

    def __init__(
        self, *args, page_size: int, fingerprint: str, extra_key: str | None = None, **kwargs
    ):
        self.page_size = page_size
        self.lineage = Lineage(fingerprint, extra_key)
        self._track: Track | None = None
        self._steps = 0  # decode steps launched
        self._due_since: int | None = None  # the same number, when its page became due
        # Of each decode step that is launched and not seen yet, in order: whether it is canonical.
        self.in_flight: deque[bool] = deque()
        self.audited_len: int | None = None  # the audit has decided about rows up to here
        self.stepped = False  # whether the step that was seen last was canonical
        self.withdrawn = False
        self.drafter = Drafter()
        self.drafted = 0  # the last candidates of so many are a draft
        super().__init__(*args, extra_key=self.lineage.cache_key, **kwargs)
        self.asked = self.sampling_params
        self.sampling_params = plain_copy(self.asked)
        self._reader = LogprobReader(self.logprob)

    @property
    def begun(self) -> bool:
        """Whether its first prefill has begun."""
        return self._track is not None

    @property
    def track(self) -> Track:
        """The protocol's state. There is none before the first prefill begins."""
        assert self._track is not None, "no prefill has begun"
        return self._track

    @track.setter
    def track(self, track: Track) -> None:
        self._track = track

    @cached_property
    def chooser(self) -> Chooser:
        """It is made when it is first needed: the tokenizer comes after construction."""
        return Chooser(self.asked, len(self.origin_input_ids), self._stop_tokens)

    @property
    def logprobs(self) -> LogprobReader | None:
        """None unless logprobs were asked for. SGLang takes them from a request that it aborts."""
        return self._reader if self.return_logprob else None

    def apply(self, event: Event) -> Action:
        """Move the track by one event."""
        self.track, action = step(self.track, event)
        return action

    def take_grammar(self) -> None:
        """Take the compiled grammar from SGLang, at admission. It follows committed tokens only."""
        if self.grammar is not None:
            self.chooser.grammar, self.grammar = Grammar(self.grammar), None

    # -- What rows of canonical passes decide --

    def begin_prefill(self) -> None:
        """Called before each chunk. Rows from the radix cache or an earlier chunk are canonical."""
        if self._track is None:
            known = len(self.full_untruncated_fill_ids)  # prompt and committed output
            self.track = Track(page_size=self.page_size, committed_len=known)
        self.apply(Prefilled(self.prefix_len))

    def read_prompt(self, rows: torch.Tensor, start: int) -> None:
        """Score the prompt, if asked to. rows: [n, vocab], of positions from `start` on."""
        if self.logprobs is not None:
            self.logprobs.read_prompt(rows, start, self.origin_input_ids, self.logprob_start_len)

    def reads_page(self, page: int, tokens: int) -> bool:
        """Whether a page of the prompt needs logits. It does if its last row gives the first token,
        or if its rows score the prompt."""
        end = page * self.page_size + tokens
        scores = self.logprobs is not None and 0 <= self.logprob_start_len < end
        return end == self.track.committed_len or scores

    def prefilled(self, upto: int, last_row: torch.Tensor | None) -> int:
        """Rows [0, upto) are canonical. Returns the next token; inside the prompt, a placeholder.

        last_row: [vocab], the logits of the last of these rows; None only inside the prompt.
        """
        self.apply(Prefilled(upto))
        if upto < self.track.committed_len:
            return 0
        assert last_row is not None, "the prompt's last page ran without logits"
        token = self.chooser.follow(last_row, self.output_ids, ())
        if token == NO_TOKEN:
            self.to_finish = self.to_finish or nothing_left()
            return 0
        self.apply(Born(token))
        if self.logprobs is not None:
            self.logprobs.read(last_row.unsqueeze(0), [token])
        return token

    # -- Decode steps --

    @property
    def settled(self) -> bool:
        """Whether there are no candidates, and none will come from steps in flight."""
        return self._track is not None and self._track.settled and all(self.in_flight)

    def launch(self, certified: bool) -> None:
        """A decode step with this request is launched. certified: whether its size is."""
        self._steps += 1
        self.in_flight.append(certified and self.settled)

    def draw(self, row: torch.Tensor) -> int:
        """Draw the token of the step that was launched last. row: [vocab], its logits.

        Earlier steps in flight count for the position. A choice that depends on output is never
        made while a token of that output is still in flight.
        """
        *unseen, canonical = self.in_flight
        assert not unseen or not self.chooser.depends_on_output
        token = self.chooser.propose(
            row, self.output_ids, self.track.candidates, self.track.known_len + len(unseen)
        )
        return self.drawn(row, token) if canonical else max(token, 0)

    def drawn(self, row: torch.Tensor, token: int) -> int:
        """`token` was drawn from a canonical row. row: [vocab]. Returns the next step's input.

        Where a row allows no token, token 0 becomes a candidate: the next step must have some
        input. A pass finds no token allowed either, and ends the request.
        """
        if token == NO_TOKEN:
            self.in_flight[-1] = False
        elif self.logprobs is not None:
            self.logprobs.read(row.unsqueeze(0), [token])
        return max(token, 0)

    def seen(self, token: int) -> list[int]:
        """The oldest step in flight has given `token`. Returns what that commits, in order."""
        self.stepped = self.in_flight.popleft()
        if self.finished() or self.is_retracted:
            return []
        if self.stepped:
            return list(self.apply(Stepped(token)).commit)
        self.apply(Proposed(token, may_finish(self, self._stop_tokens, token)))
        return []

    def verified(self, rows: torch.Tensor) -> Action:
        """Judge the candidates. rows: [n, vocab], canonical, of positions [n-1, due_span.end)."""
        tokens = self.chooser.follow_all(rows, self.output_ids, self.track.candidates)
        action = self.apply(Verified(tokens))
        self._due_since = None
        if self.logprobs is not None:
            self.logprobs.read(rows, action.commit)
        return action

    def outlook(self, certified: bool) -> Outlook | None:
        """How the request will stand when the steps in flight have been seen. None unless it
        decodes and has candidates then.

        certified: whether the size of the next step is. Then the page is to verify at once: only
        its candidates keep the request from canonical steps.
        """
        track = self._track
        if track is None or not track.decoding or self.finished() or self.settled:
            return None
        committed = track.committed_len + sum(self.in_flight)
        tokens = track.known_len + len(self.in_flight)
        page_end = page_span(page_index(committed - 1, self.page_size), self.page_size).end
        last = len(self.origin_input_ids) + self.sampling_params.max_new_tokens - 1  # position
        suspected = track.finish_suspected or tokens > last
        due = tokens >= page_end or suspected or certified
        if self._due_since is None and due:
            self._due_since = self._steps
        # A step writes the row of the last known token; up to `last - 1` they are the request's.
        owned_end = page_span(page_index(last - 1, self.page_size), self.page_size).end
        ahead = max(0, tokens - page_end)
        return Outlook(due, ahead, self.waited, suspected, at_limit=tokens > owned_end)

    @property
    def waited(self) -> int:
        """Decode steps since the page became due."""
        return 0 if self._due_since is None else self._steps - self._due_since

    def next_input(self, run: Sequence[int]) -> int:
        """The token that the next step goes on from, after `run` was committed."""
        return [0, *run, *self.track.candidates][-1]

    def next_output_finishes_by_length(self) -> bool:
        """SGLang stops decoding if so. Of candidates nobody knows before a pass has judged them."""
        return self.settled and super().next_output_finishes_by_length()

    @property
    def known_tokens(self) -> list[int]:
        """The prompt, committed output and candidates, from position 0."""
        return [*self.origin_input_ids, *self.output_ids, *self.track.candidates]

    @property
    def all_committed(self) -> bool:
        """Whether every token of the output is. A track may be ahead of the output, if the request
        ended inside a run."""
        known = len(self.origin_input_ids) + len(self.output_ids)
        return self._track is not None and self._track.committed_len >= known

    @property
    def refused(self) -> bool:
        """Whether an error ended the request. The client gets it instead of an answer."""
        return getattr(self.finished_reason, "status_code", None) is not None

    def set_finish_with_abort(self, *args: Any, **kwargs: Any) -> None:
        """SGLang has a request that it refuses run a prompt of one placeholder token. What is drawn
        after it is no output. Only for a request without KV, whose prompt SGLang forgets."""
        assert not self.kv.holds_kv
        super().set_finish_with_abort(*args, **kwargs)
        self.finished_len = len(self.output_ids)

    def withdraw(self, problem: str) -> None:
        """End the request with an error. problem: why deterministic service is off."""
        self.withdrawn = True
        status = HTTPStatus.SERVICE_UNAVAILABLE
        if self._track is None and self.grammar is None:  # its prompt need not run
            self.set_finish_with_abort(problem, status, "ServiceUnavailableError")
        else:
            self.to_finish = FINISH_ABORT(problem, status, "ServiceUnavailableError")
            if self.finished_len is None:
                self.finished_len = len(self.output_ids)  # what comes now is no output

    # -- Finishing: suspected in candidates, decided on committed tokens --

    @cached_property
    def _stop_tokens(self) -> frozenset[int]:
        return stop_tokens(self)

    def accept(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that SGLang may see. Where no token was left to choose there are none, and the
        request ends."""
        if NO_TOKEN in tokens:
            self.to_finish = self.to_finish or nothing_left()
            return []
        return list(tokens)

    def update_finish_state(self, new_accepted_len: int = 1) -> None:
        """As SGLang's, but it knows no step without a token. Only an abort can finish a request
        then."""
        if not new_accepted_len and not self.to_finish:
            return
        super().update_finish_state(new_accepted_len)
        if new_accepted_len:
            self._follow_grammar(self.output_ids[-1])
        if self.finished() and self.finished_len is None:
            self.finished_len = len(self.output_ids)

    def _follow_grammar(self, token: int) -> None:
        grammar = self.chooser.grammar
        if grammar is None or self.finished():
            return
        if grammar.complete:  # since the token before
            self.finished_reason = FINISH_MATCHED_TOKEN(matched=token)
            return
        try:
            grammar.commit(token)
        except ValueError as error:  # never with a token we chose: the mask allows no other
            self.finished_reason = FINISH_ABORT(f"llm42: {error}")

    def follow_weights(self, fingerprint: str) -> None:
        """Go on under other weights. The request was retracted: it has no KV and no candidates."""
        self.lineage.follow(fingerprint, len(self.output_ids))
        self.extra_key = self.lineage.cache_key
        if not self.output_ids and self.logprobs is not None:
            self.logprobs.forget_prompt()  # no token depends on it yet

    # -- Methods of SGLang that would take a candidate for a token --

    @property
    def skip_radix_cache_insert(self) -> bool:
        """Whether provisional KV rows could enter the tree: then nothing enters.

        SGLang (`release_kv_cache`, `checkpoint_kv_cache`) inserts whole pages. Of a finished
        request it takes all KV that the request owns, of another one the KV of its prefill. With
        overlap, a decode step may have been launched since.
        """
        if self._track is None:
            return self._skip_radix_cache_insert
        upto = self.owned_kv_len() if self.finished() else self.extend_end
        dirty = upto - upto % self.page_size > self.track.canonical_len
        return dirty or self._skip_radix_cache_insert

    @skip_radix_cache_insert.setter
    def skip_radix_cache_insert(self, value: bool) -> None:
        self._skip_radix_cache_insert = value

    def reset_for_retract(self) -> None:
        """As SGLang's. Candidates go with their KV, committed tokens stay."""
        super().reset_for_retract()
        if self._track is not None:
            self.apply(Retracted(len(self.origin_input_ids) + len(self.output_ids)))
            self._reader.forget()
        self._due_since = None

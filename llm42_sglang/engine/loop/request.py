"""A request whose tokens exist for SGLang only once a canonical pass has confirmed them.

Candidates live in `track`, never in `output_ids`: streaming, finish checks, stop logic, retraction
and the radix cache read `output_ids` and so see committed tokens only, without being hooked.
"""

from collections import deque
from collections.abc import Sequence
from functools import cached_property
from http import HTTPStatus
from typing import NamedTuple

import torch
from sglang.srt.constrained.base_grammar_backend import BaseGrammarObject
from sglang.srt.managers.schedule_batch import FINISH_ABORT, FINISH_MATCHED_TOKEN, Req
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.core.pages import page_index, page_span
from llm42_sglang.core.receipts import Receipt, output_digest
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
from llm42_sglang.engine.loop.chooser import Chooser, plain_copy, sampling_of
from llm42_sglang.engine.loop.grammar import Grammar
from llm42_sglang.engine.loop.logprobs import LogprobReader
from llm42_sglang.engine.names import AUDIT_FAILED, NAMESPACE
from llm42_sglang.frontend.patterns import error, search
from llm42_sglang.sampling import NO_TOKEN

NOTHING_LEFT = (
    "no token is left to choose: what regex, json_schema, ebnf or structural_tag allows, "
    "logit_bias or min_new_tokens forbids; relax one of them"
)


class Outlook(NamedTuple):
    """How a decoding request stands to the canonical lane."""

    due: bool
    ahead: int  # candidates past the end of its page
    waited: int  # decode steps since it became due
    suspected: bool  # a candidate may end it
    at_limit: bool  # another decode step would need KV that the request may never own


class DeterministicReq(Req):
    """SGLang's request, with the protocol's state beside it."""

    sampling_params: SamplingParams
    grammar: BaseGrammarObject | None
    to_finish: FINISH_ABORT | None
    finished_len: int | None

    def __init__(
        self, *args, page_size: int, fingerprint: str, extra_key: str | None = None, **kwargs
    ):
        # The fingerprint salts the key: pages of other weights or shapes can never match.
        self.page_size = page_size
        self.fingerprint = fingerprint
        self._track: Track | None = None
        self._steps = 0  # decode steps launched
        self._due_since: int | None = None  # the same number, when its page became due
        # Decode steps launched and not seen yet, in order: whether each is canonical.
        self.in_flight: deque[bool] = deque()
        self.audited_len: int | None = None  # up to here pages were audited, or not picked
        self.stepped = False  # the step that was seen last was canonical
        self.withdrawn = False
        super().__init__(*args, extra_key=f"{NAMESPACE}{fingerprint}:{extra_key or ''}", **kwargs)
        self._asked = self.sampling_params
        self.sampling_params = plain_copy(self._asked)
        self._reader = LogprobReader(self.logprob)

    @property
    def track(self) -> Track:
        """The protocol's state; there is none before the first prefill begins."""
        assert self._track is not None, "no prefill has begun"
        return self._track

    @track.setter
    def track(self, track: Track) -> None:
        self._track = track

    @cached_property
    def chooser(self) -> Chooser:
        """Made when first needed: the scheduler gives the tokenizer after construction."""
        return Chooser(self._asked, len(self.origin_input_ids), self._stop_tokens)

    @property
    def logprobs(self) -> LogprobReader | None:
        """None unless asked for; SGLang withdraws that from a request it aborts."""
        return self._reader if self.return_logprob else None

    def apply(self, event: Event) -> Action:
        """Move the track by one event."""
        self.track, action = step(self.track, event)
        return action

    def take_grammar(self) -> None:
        """At admission, when it is compiled: from now on it follows committed tokens only."""
        if self.grammar is not None:
            self.chooser.grammar, self.grammar = Grammar(self.grammar), None

    # -- Rows of canonical passes, and what they decide --

    def begin_prefill(self) -> None:
        """Before each chunk: what the radix cache or an earlier chunk holds is canonical."""
        if self._track is None:
            known = len(self.origin_input_ids) + len(self.output_ids)
            self.track = Track(page_size=self.page_size, committed_len=known)
        self.apply(Prefilled(self.prefix_len))

    def read_prompt(self, rows: torch.Tensor, start: int) -> None:
        """Score the prompt, if asked to; rows: [n, vocab] of positions from `start` on."""
        if self.logprobs is not None:
            self.logprobs.read_prompt(rows, start, self.origin_input_ids, self.logprob_start_len)

    def reads_page(self, page: int, tokens: int) -> bool:
        """Whether a prefilled page needs logits: its last row gives the first token, or its rows
        score the prompt."""
        end = page * self.page_size + tokens
        scores = self.logprobs is not None and 0 <= self.logprob_start_len < end
        return end == self.track.committed_len or scores

    def prefilled(self, upto: int, last_row: torch.Tensor | None) -> int:
        """Rows [0, upto) are canonical; returns the next token, a placeholder inside the prompt.

        last_row: [vocab]; None only inside the prompt.
        """
        self.apply(Prefilled(upto))
        if upto < self.track.committed_len:
            return 0
        assert last_row is not None, "the prompt's last page ran without logits"
        token = self.chooser.follow(last_row, self.output_ids, ())
        if token == NO_TOKEN:
            self.to_finish = self.to_finish or _nothing_left()
            return 0
        self.apply(Born(token))
        if self.logprobs is not None:
            self.logprobs.read(last_row.unsqueeze(0), [token])
        return token

    # -- Decode steps --

    @property
    def settled(self) -> bool:
        """No candidates, and none will come of what is in flight."""
        return self._track is not None and self._track.settled and all(self.in_flight)

    def launch(self, certified: bool) -> None:
        """A decode step with this request is launched; certified: its size."""
        self._steps += 1
        self.in_flight.append(certified and self.settled)

    def draw(self, row: torch.Tensor) -> int:
        """The token of the step that was launched last; row: [vocab], its logits.

        Earlier steps in flight count for the position; a request that looks back at tokens is
        never decoded past them.
        """
        *unseen, canonical = self.in_flight
        assert not unseen or not self.chooser.looks_back
        token = self.chooser.propose(
            row, self.output_ids, self.track.candidates, self.track.known_len + len(unseen)
        )
        return self.drawn(row, token) if canonical else max(token, 0)

    def drawn(self, row: torch.Tensor, token: int) -> int:
        """`token` was drawn from a canonical row; row: [vocab]. Returns the next step's input.

        A row that allows no token proposes token 0, for the next step must have some input: a pass
        will find none allowed either, disagree, and end the request.
        """
        if token == NO_TOKEN:
            self.in_flight[-1] = False
        elif self.logprobs is not None:
            self.logprobs.read(row.unsqueeze(0), [token])
        return max(token, 0)

    def seen(self, token: int) -> list[int]:
        """The oldest step in flight has given `token`: what that commits, in order."""
        self.stepped = self.in_flight.popleft()
        if self.finished() or self.is_retracted:
            return []
        if self.stepped:
            return list(self.apply(Stepped(token)).commit)
        self.apply(Proposed(token, self._may_finish(token)))
        return []

    def verified(self, rows: torch.Tensor) -> Action:
        """The canonical rows of positions [n-1, due_span.end); rows: [n, vocab]."""
        tokens = self.chooser.follow_all(rows, self.output_ids, self.track.candidates)
        action = self.apply(Verified(tokens))
        self._due_since = None
        if self.logprobs is not None:
            self.logprobs.read(rows, action.commit)
        return action

    def outlook(self, certified: bool) -> Outlook | None:
        """Where the request stands for the lane, once the steps in flight have been seen; None
        unless it decodes and has candidates then. certified: the size of the next step, so that
        only the candidates keep it from committing."""
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
        """Decode steps since its page became due."""
        return 0 if self._due_since is None else self._steps - self._due_since

    def next_input(self, run: Sequence[int]) -> int:
        """The token that the fast path goes on from, after `run` was committed."""
        return [0, *run, *self.track.candidates][-1]

    def next_output_finishes_by_length(self) -> bool:
        """Of candidates it is not known before a pass has confirmed them (SGLang would stop
        decoding)."""
        return self.settled and super().next_output_finishes_by_length()

    @property
    def known_tokens(self) -> list[int]:
        """Prompt, committed output and candidates, from position 0."""
        return [*self.origin_input_ids, *self.output_ids, *self.track.candidates]

    @property
    def refused(self) -> bool:
        """Ended by an error, which the client gets instead of an answer."""
        return getattr(self.finished_reason, "status_code", None) is not None

    def withdraw(self) -> None:
        """An audit has failed: end with an error, and vouch for nothing."""
        self.withdrawn = True
        status = HTTPStatus.SERVICE_UNAVAILABLE
        if self._track is None and self.grammar is None:  # its prompt need not run
            self.set_finish_with_abort(AUDIT_FAILED, status, "ServiceUnavailableError")
        else:
            self.to_finish = FINISH_ABORT(AUDIT_FAILED, status, "ServiceUnavailableError")

    def revoke(self) -> None:
        """An audit has failed as it ended: an error in place of the answer."""
        self.withdraw()
        self.finished_reason = self.to_finish

    def receipt(self) -> Receipt:
        """What the response carries. Call when the request is finished."""
        outputs = self.output_ids_through_stop
        known = len(self.origin_input_ids) + len(self.output_ids)  # less, if it ended inside a run
        values = self.logprob.output_token_logprobs_val if self.return_logprob else []
        track, plan = self._track, self.chooser.plan
        return Receipt(
            verified=not self.withdrawn and track is not None and track.committed_len >= known,
            fingerprint=self.fingerprint,
            output_digest=output_digest(self.origin_input_ids, outputs, values[: len(outputs)]),
            seed=None if plan.greedy else plan.seed,
            sampling=sampling_of(self._asked),
            canonical_steps=track.canonical_steps if track else 0,
            verify_passes=track.verify_passes if track else 0,
            rollbacks=track.rollbacks if track else 0,
            tokens_rolled_back=track.tokens_rolled_back if track else 0,
        )

    # -- Finishing: suspected in candidates, decided on committed tokens --

    @cached_property
    def _stop_tokens(self) -> frozenset[int]:
        """Tokens that end the request."""
        stops = set(self.sampling_params.stop_token_ids or ()) | set(self.eos_token_ids or ())
        if self.tokenizer is not None:
            stops.add(self.tokenizer.eos_token_id)
            stops.update(getattr(self.tokenizer, "additional_stop_token_ids", None) or ())
        return frozenset(stops - {None})

    def _may_finish(self, token: int) -> bool:
        """Whether `token`, as the next candidate, could end the request. Only a hint."""
        params, candidates = self.sampling_params, self.track.candidates
        if len(self.output_ids) + len(candidates) + 1 >= params.max_new_tokens:
            return True
        if not params.ignore_eos and token in self._stop_tokens:
            return True
        if not params.stop_strs and not params.stop_regex_strs:
            return False
        length = max(params.stop_str_max_len, params.stop_regex_max_len) + 1
        before = [*self.output_ids[-length:], *candidates, token]
        tail = self.tokenizer.decode(before[-length:])
        return any(stop in tail for stop in params.stop_strs) or any(
            _matches(stop, tail) for stop in params.stop_regex_strs
        )

    def accept(self, tokens: Sequence[int]) -> list[int]:
        """The next committed token, if there is one, as SGLang may see it: where no token was left
        to choose there is none, and the request ends."""
        if NO_TOKEN in tokens:
            self.to_finish = self.to_finish or _nothing_left()
            return []
        return list(tokens)

    def update_finish_state(self, new_accepted_len: int = 1) -> None:
        """As SGLang's, which knows nothing of steps that commit nothing (0 tokens): only an abort
        can finish the request then."""
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

    # -- SGLang's own methods, where a candidate would otherwise be taken for a token --

    @property
    def skip_radix_cache_insert(self) -> bool:
        """Nothing enters the tree while provisional KV rows could go with it.

        SGLang (`release_kv_cache`, `checkpoint_kv_cache`) inserts whole pages: of a finished
        request those of the KV it owns, of another one those of its prefill; with overlap, a
        decode step may have been launched since.
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
        """Candidates go with the KV they were computed on; committed tokens stay."""
        super().reset_for_retract()
        if self._track is not None:
            self.apply(Retracted(len(self.origin_input_ids) + len(self.output_ids)))
            self._reader.forget()
        self._due_since = None


def _nothing_left() -> FINISH_ABORT:
    return FINISH_ABORT(f"llm42: {NOTHING_LEFT}", HTTPStatus.BAD_REQUEST, "BadRequestError")


def _matches(pattern: str, text: str) -> bool:
    try:
        return search(pattern, text) is not None
    except error:
        return True  # SGLang will say so, on the committed tokens

"""A request whose tokens exist for SGLang only once a canonical pass has confirmed them.

Candidates live in `track`, never in `output_ids`: streaming, finish checks, stop logic, retraction
and the radix cache read `output_ids` and so see committed tokens only, without being hooked.
"""

from functools import cached_property

from sglang.srt.managers.schedule_batch import Req

from llm42_sglang.core.receipts import Receipt, output_digest
from llm42_sglang.core.track import Action, Event, Prefilled, Retracted, Track, step
from llm42_sglang.engine.names import NAMESPACE


class DeterministicReq(Req):
    """SGLang's request, with the protocol's state beside it."""

    def __init__(
        self, *args, page_size: int, fingerprint: str, extra_key: str | None = None, **kwargs
    ):
        # The fingerprint salts the key: pages of other weights or shapes can never match.
        self.page_size = page_size
        self.fingerprint = fingerprint
        self.track: Track | None = None
        super().__init__(*args, extra_key=f"{NAMESPACE}{fingerprint}:{extra_key or ''}", **kwargs)

    def apply(self, event: Event) -> Action:
        """Move the track by one event."""
        self.track, action = step(self.track, event)
        return action

    def begin_prefill(self) -> None:
        """Before each chunk: what the radix cache or an earlier chunk holds is canonical."""
        if self.track is None:
            known = len(self.origin_input_ids) + len(self.output_ids)
            self.track = Track(page_size=self.page_size, committed_len=known)
        self.apply(Prefilled(self.prefix_len))

    @property
    def due(self) -> bool:
        """A canonical pass must run before this request can decode again."""
        return self.track is not None and self.track.due and not self.finished()

    @property
    def known_tokens(self) -> list[int]:
        """Prompt, committed output and candidates, from position 0."""
        return [*self.origin_input_ids, *self.output_ids, *self.track.candidates]

    @cached_property
    def _stop_tokens(self) -> frozenset[int]:
        """Tokens that end the request; only a hint when to verify, never a decision."""
        stops = set(self.sampling_params.stop_token_ids or ()) | set(self.eos_token_ids or ())
        if self.tokenizer is not None:
            stops.add(self.tokenizer.eos_token_id)
            stops.update(getattr(self.tokenizer, "additional_stop_token_ids", None) or ())
        return frozenset(stops)

    def may_finish(self, token: int) -> bool:
        """Whether `token`, as the next candidate, could end the request."""
        outputs = len(self.output_ids) + len(self.track.candidates) + 1
        if outputs >= self.sampling_params.max_new_tokens:
            return True
        return not self.sampling_params.ignore_eos and token in self._stop_tokens

    def receipt(self) -> Receipt:
        """What the response carries. Call when the request is finished."""
        outputs = self.output_ids_through_stop
        known = len(self.origin_input_ids) + len(self.output_ids)
        track = self.track
        return Receipt(
            verified=track is not None and track.committed_len == known,
            fingerprint=self.fingerprint,
            output_digest=output_digest(self.origin_input_ids, outputs),
            verify_passes=track.verify_passes if track else 0,
            rollbacks=track.rollbacks if track else 0,
            tokens_rolled_back=track.tokens_rolled_back if track else 0,
        )

    # -- SGLang's own methods, where a candidate would otherwise be taken for a token --

    @property
    def skip_radix_cache_insert(self) -> bool:
        """Nothing enters the tree while provisional KV rows could go with it."""
        dirty = self.track is not None and self.kv.kv_committed_len > self.track.canonical_len
        return dirty or self._skip_radix_cache_insert

    @skip_radix_cache_insert.setter
    def skip_radix_cache_insert(self, value: bool) -> None:
        self._skip_radix_cache_insert = value

    def update_finish_state(self, new_accepted_len: int = 1) -> None:
        """A decode step commits nothing (0 tokens): only an abort can finish the request then."""
        if new_accepted_len > 0 or self.to_finish:
            super().update_finish_state(new_accepted_len)

    def reset_for_retract(self) -> None:
        """Candidates go with the KV they were computed on; committed tokens stay."""
        super().reset_for_retract()
        if self.track is not None:
            self.apply(Retracted())

"""Results of decode steps: which tokens are committed, and which become candidates.

Tokens of ordinary rows and of canonical steps go SGLang's way. Other tokens of deterministic
requests become candidates. What a pass commits comes back through the same method, one token at a
time. So finishing, streaming, release of KV and metrics are SGLang's for all of them. How many
tokens a pass commits follows from the load, and nobody behind this file can see it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.managers.scheduler_components.batch_result_processor import (
    SchedulerBatchResultProcessor,
)
from sglang.srt.managers.utils import GenerationBatchResult
from sglang.srt.model_executor.forward_batch_info import ForwardMode
from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

from llm42_sglang.engine.hooks import stand_in
from llm42_sglang.engine.loop.claim import ClaimReq
from llm42_sglang.engine.loop.lane import CanonicalLane
from llm42_sglang.engine.loop.request import DeterministicReq


class PrefillResult(GenerationBatchResult):
    """The first tokens of a deterministic prefill batch. Logits stay with the requests."""

    def copy_to_cpu(self, return_logprob: bool, return_hidden_states: bool = True) -> None:
        """Called in the overlap loop. There are tokens only."""
        super().copy_to_cpu(return_logprob=False, return_hidden_states=False)


@dataclass
class CommitResult(GenerationBatchResult):
    """One committed token per request, as the result of a decode step."""

    tokens: list[list[int]] = field(default_factory=list)  # [token], or [] for none

    def get_num_generated_tokens(self, batch_size: int) -> int:
        """Committed tokens: what the throughput metric should count."""
        return sum(map(len, self.tokens))


class _NoPasses:
    """The metrics of a commit, which runs no forward."""

    def increment_decode_cuda_graph_pass(self, value: bool) -> None:
        """Nothing to count."""


@stand_in("divert deterministic rows into candidates, and commit verified tokens")
@dataclass(kw_only=True, frozen=True)
class DeterministicResultProcessor(SchedulerBatchResultProcessor):
    """SGLang's processor, which makes candidates of tokens that are not canonical."""

    lane: CanonicalLane | None = None  # SGLang makes this object before there is one

    def _normalize_decode_outputs(self, *, batch, result, logits_output, next_token_ids):
        """Per request, the tokens that this step adds to the output."""
        if isinstance(result, CommitResult):
            return result.tokens, None
        tokens, logprobs = super()._normalize_decode_outputs(
            batch=batch,
            result=result,
            logits_output=logits_output,
            next_token_ids=next_token_ids,
        )
        for i, req in enumerate(batch.reqs):
            if isinstance(req, DeterministicReq):
                # With overlap, a step may come in of a request that has ended or lost its KV since.
                tokens[i] = req.seen(*tokens[i])
                # SGLang counts one token a row, plus this: a candidate is counted when committed.
                result.num_correct_drafts -= not tokens[i]
        return tokens, logprobs

    def commit(self, reqs: Sequence[DeterministicReq], runs: Sequence[Sequence[int]]) -> None:
        """Hand verified runs to SGLang, one token a request at a time, as after a decode step.

        Tokens after the end of a request are never handed over. An empty run is a step without a
        token, in which an abort can end the request.
        """
        reporter = self.metrics_reporter
        forwards = reporter.forward_ct_decode
        changes: dict[str, Any] = {"metrics_collector": _NoPasses()}  # a field that SGLang declares
        processor = replace(self, **changes)
        rows = list(zip(reqs, runs, strict=True))
        at = 0  # tokens of each run that are handed over
        while rows:
            # SGLang would count a forward, and log at multiples of its interval.
            reporter.forward_ct_decode = 0
            processor._commit_step([(req, run[at : at + 1]) for req, run in rows])
            at += 1
            rows = [(req, run) for req, run in rows if at < len(run) and not req.finished()]
        reporter.forward_ct_decode = forwards

    def _commit_step(self, rows: Sequence[tuple[DeterministicReq, Sequence[int]]]) -> None:
        reqs = [req for req, _ in rows]
        batch = ScheduleBatch(
            reqs=reqs,
            forward_mode=ForwardMode.DECODE,
            spec_algorithm=SpeculativeAlgorithm.NONE,
            return_logprob=any(req.return_logprob for req in reqs),
        )
        tokens = [req.accept(run) for req, run in rows]
        self.process_batch_result_decode(batch, CommitResult(tokens=tokens))

    def _handle_finish_state_updated_req(self, req, batch, result, *args, **kwargs) -> None:
        """Called when the output has grown and SGLang knows whether it ends. It releases KV."""
        if isinstance(req, DeterministicReq):
            stepped = batch.forward_mode.is_decode() and not isinstance(result, CommitResult)
            assert self.lane is not None, "no request comes before the lane is ready"
            busy = req.finished() and any(not other.finished() for other in batch.reqs)
            self.lane.committed(req, stepped and req.stepped, busy)
        super()._handle_finish_state_updated_req(req, batch, result, *args, **kwargs)

    def process_batch_result_prefill(self, batch: ScheduleBatch, result: Any) -> None:
        """As SGLang's. A claim ends here, without a token of its own."""
        assert self.lane is not None, "no request comes before the lane is ready"
        for req in batch.reqs:
            if isinstance(req, ClaimReq) and req.conclude():
                self.lane.forward.ranks.agree(req.rid, *req.output_ids)
        super().process_batch_result_prefill(batch, result)

    # -- Logprobs of deterministic requests come from canonical rows, not from the batch --

    def move_logprobs_to_cpu(self, *, batch, logits_output) -> None:
        """A canonical prefill has no logits output to move."""
        if logits_output is not None:
            super().move_logprobs_to_cpu(batch=batch, logits_output=logits_output)

    def _apply_prefill_logprobs(self, *, req: Req, logprob_pt: int, **kwargs) -> int:
        """Called when the prompt is complete and its first token committed."""
        if not isinstance(req, DeterministicReq):
            return super()._apply_prefill_logprobs(req=req, logprob_pt=logprob_pt, **kwargs)
        if req.logprobs is not None:
            req.logprobs.hand_over_prompt(req.origin_input_ids, req.logprob_start_len)
            # Of more than one token only a claim: a step may be under way, and may be for nothing.
            req.logprobs.hand_over(len(req.output_ids) if isinstance(req, ClaimReq) else 1)
        return logprob_pt

    def _apply_chunked_prefill_logprobs(self, *, req: Req, logprob_pt: int, **kwargs) -> int:
        """Nothing is handed over before the prompt is complete."""
        if isinstance(req, DeterministicReq):
            return logprob_pt
        return super()._apply_chunked_prefill_logprobs(req=req, logprob_pt=logprob_pt, **kwargs)

    def _apply_decode_logprobs(self, *, req: Req, next_token_id: list[int], **kwargs) -> None:
        """A commit hands its token's logprobs over. A step that gave a candidate has none."""
        if not isinstance(req, DeterministicReq):
            super()._apply_decode_logprobs(req=req, next_token_id=next_token_id, **kwargs)
        elif req.logprobs is not None:
            req.logprobs.hand_over(len(next_token_id))

"""The receipt of a finished request."""

from llm42_sglang.core.receipts import Receipt, output_digest, request_digest
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.parameters import sampling_of
from llm42_sglang.frontend.nonce import nonce_of


def receipt_of(req: DeterministicReq) -> Receipt:
    """The receipt that the response carries. The request must be finished."""
    outputs = req.output_ids_through_stop
    track, plan = req.track if req.begun else None, req.chooser.plan
    segments = req.lineage.segments(len(outputs))
    seed = None if plan.greedy else plan.seed
    sampling = sampling_of(
        req.asked, req.sampling_params.max_new_tokens, req.require_reasoning, req.return_logprob
    )
    return Receipt(
        verified=not req.withdrawn and req.all_committed,
        fingerprint=segments[-1].fingerprint if segments else req.lineage.fingerprint,
        segments=segments,
        request_digest=request_digest(req.origin_input_ids, sampling, seed),
        output_digest=_output_digest(req),
        seed=seed,
        sampling=sampling,
        nonce=nonce_of(req.asked.custom_params),
        canonical_steps=track.canonical_steps if track else 0,
        verify_passes=track.verify_passes if track else 0,
        rollbacks=track.rollbacks if track else 0,
        tokens_rolled_back=track.tokens_rolled_back if track else 0,
    )


def _output_digest(req: DeterministicReq) -> str:
    outputs, reason = req.output_ids_through_stop, req.finished_reason.to_json()
    values = req.logprob.output_token_logprobs_val if req.return_logprob else None
    logprobs = None if values is None else values[: len(outputs)]
    return output_digest(outputs, reason["type"], reason.get("matched"), logprobs)

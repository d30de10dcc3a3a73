"""What SGLang's sampling parameters mean for a deterministic request."""

from hashlib import sha256

from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.core.seeds import DEFAULT_SEED
from llm42_sglang.frontend.nonce import others_in
from llm42_sglang.frontend.options import CONSTRAINTS
from llm42_sglang.sampling import Adjustments, Plan, bias_pairs

_WHOLE_VOCABULARY = SamplingParams().top_k

# What SGLang itself sees of a deterministic request: greedy and unadjusted. So its sampler is as
# fast for the rest of the batch as without that request.
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


def plan_of(params: SamplingParams) -> Plan:
    """How the request samples. Without a seed, given or drawn, it has the documented default."""
    seed = params.sampling_seed
    return Plan(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        seed=DEFAULT_SEED if seed is None else seed,
    )


def sampling_of(
    params: SamplingParams, most: int, reasoning: bool, logprobs: bool
) -> dict[str, object]:
    """All that a request asks of an answer besides prompt and seed, in JSON types.

    The server's defaults are filled in. Greedy is temperature 0, however it was asked for. A top_k
    of -1 is the whole vocabulary.

    most: tokens that it may generate; SGLang has cut what was asked for to what there is room for.
    reasoning: whether its grammar begins behind the reasoning. logprobs: whether they were asked
    for.
    """
    return {
        "temperature": 0.0 if plan_of(params).greedy else params.temperature,
        "top_p": params.top_p,
        "top_k": -1 if params.top_k == _WHOLE_VOCABULARY else params.top_k,
        "min_p": params.min_p,
        "frequency_penalty": params.frequency_penalty,
        "presence_penalty": params.presence_penalty,
        "repetition_penalty": params.repetition_penalty,
        "logit_bias": {str(int(token)): bias for token, bias in (params.logit_bias or {}).items()},
        "max_new_tokens": most,
        "min_new_tokens": params.min_new_tokens,
        "ignore_eos": params.ignore_eos,
        "stop": list(params.stop_strs or ()),
        "stop_token_ids": sorted(params.stop_token_ids or ()),
        "stop_regex": list(params.stop_regex_strs or ()),
        "no_stop_trim": params.no_stop_trim,
        "grammar": grammar_of(params),
        "require_reasoning": reasoning,
        "custom_params": others_in(params.custom_params),
        "logprobs": logprobs,
    }


def grammar_of(params: SamplingParams) -> dict[str, str] | None:
    """The grammar's kind, and SHA-256 of its text, which may be long; None without a grammar."""
    for kind in CONSTRAINTS:
        if text := getattr(params, kind):
            digest = sha256(text.encode("utf-8", "surrogatepass"))
            return {"kind": kind, "sha256": digest.hexdigest()}
    return None


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

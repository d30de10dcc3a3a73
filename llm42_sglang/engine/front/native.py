"""Our fields in the sampling parameters of /generate, SGLang's native API."""

from typing import Any

from sglang.srt.managers.io_struct import GenerateReqInput

from llm42_sglang.engine.hooks import around
from llm42_sglang.frontend import seeds
from llm42_sglang.frontend.nonce import NONCE, with_nonce
from llm42_sglang.frontend.options import FIELD, Refused
from llm42_sglang.frontend.seeds import with_word_moved

_OURS = frozenset({FIELD, NONCE})


def fold_native_field(obj: GenerateReqInput) -> None:
    """Move what SGLang does not know in `sampling_params` into custom_params, which it passes on.

    A caller of `Engine` may use its parameters again, so they are not changed.
    """
    raw = obj.sampling_params
    obj.sampling_params = [*map(_folded, raw)] if isinstance(raw, list) else _folded(raw)


def _folded(params: Any) -> Any:
    if not isinstance(params, dict):
        return params
    folded = with_word_moved(params)
    if folded.get("n", 1) is None:
        folded["n"] = 1  # the default, as for any null; but SGLang reads this field before
    if not _OURS & params.keys():
        return folded
    custom = folded.get("custom_params") or {}
    if not isinstance(custom, dict):
        raise Refused(f"custom_params must be an object, got {custom!r}")
    custom = with_nonce(custom, folded.pop(NONCE, None))
    if FIELD in params:
        value = folded.pop(FIELD)
        if not isinstance(value, bool | None):  # None: the request does not say
            raise Refused(f"{FIELD} must be true or false, got {value!r}")
        if custom.get(FIELD, value) != value:
            raise Refused(f"{FIELD} contradicts custom_params.{FIELD}; send only one of them")
        custom = {**custom, FIELD: value}
    return {**folded, "custom_params": custom}


@around(
    "sglang.srt.entrypoints.http_server.generate_contract_error",
    "let the native field pass SGLang's schema",
)
def check_contract(original, body: Any) -> str | None:
    """SGLang's schema of a /generate body is compiled. It knows neither our fields nor the seed
    "fresh"; the rest of the body is checked as ever."""
    if not isinstance(body, dict):
        return original(body)
    # SGLang would drop these without a word.
    for name in sorted({*_OURS, "custom_params"} & body.keys()):
        return f"{name} belongs in sampling_params"
    raw = body.get("sampling_params")
    if raw is None:
        return original(body)
    try:
        known = [*map(_without_ours, raw)] if isinstance(raw, list) else _without_ours(raw)
    except Refused as error:
        return str(error)
    return original({**body, "sampling_params": known})


def _without_ours(params: Any) -> Any:
    """Sampling parameters as the schema knows them. Raises Refused for a seed that is none."""
    if not isinstance(params, dict):
        return params
    seeds.refuse_no_seed(params.get(seeds.SEED))
    return {name: value for name, value in with_word_moved(params).items() if name not in _OURS}

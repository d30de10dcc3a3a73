"""An Engine on trial: is the model certified here, and how often does verification replace a token?

    python -m llm42_sglang.engine.trial OUT JOB

`llm42 certify` runs this in a process of its own, because SGLang ends a program whose scheduler
fails while it serves. JOB is JSON, with the arguments of `on_trial`. What comes out is written to
OUT, as JSON. If the model cannot be loaded, nothing is written, and the log says why.

Some prompts are answered one by one, and then all at once beside ordinary requests. Both answers
must be the same, bit for bit.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm42_sglang.core.config import Config
from llm42_sglang.engine.offline import Engine
from llm42_sglang.engine.start import launch
from llm42_sglang.files import write_whole

NEW_TOKENS = 48  # of an answer
SHORTEST = 12  # tokens of the first ordinary answer; steps grow smaller as such answers end
GREEDY = {"temperature": 0, "ignore_eos": True}
ASKING = {**GREEDY, "max_new_tokens": NEW_TOKENS, "deterministic": True}

Answer = Mapping[str, Any]


class EngineOfFlags(Engine):
    """As `Engine`, with the flags of `llm42 serve`; what is raised names them as flags."""

    def __init__(self, config: Config, flags: Sequence[str]):
        self._serve(config, {"server_args": launch.prepare(config, [*flags])})


def main(arguments: Sequence[str]) -> None:
    """Put a model on trial, and write what comes out. arguments: OUT and JOB."""
    out, job = arguments
    write_whole(Path(out), json.dumps(on_trial(**json.loads(job))))


def on_trial(
    config: Mapping[str, Any], flags: Sequence[str], prompts: Sequence[str], others: Sequence[str]
) -> dict[str, Any]:
    """Return the verdict, its reason, and what was measured, as JSON types.

    config: of `Config`. flags: of SGLang. prompts: are answered deterministically. others: as many,
    are answered beside them.
    Raises RuntimeError if a process fails for a reason that is not ours.
    """
    try:
        with EngineOfFlags(Config(**config), flags) as engine:
            return _known_of(engine) | _asked(engine, prompts, others)
    except (launch.LaunchError, launch.RefusedInScheduler) as error:
        return {"verdict": "refused", "reason": str(error)}


def _known_of(engine: Engine) -> dict[str, Any]:
    model = engine.tokenizer_manager.model_config
    return {
        "architecture": model.hf_config.architectures[0],
        "fingerprint": engine.fingerprint,
        "certificate": dict(engine.certificate),
    }


def _asked(engine: Engine, prompts: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    """Ask the prompts alone and in load, and compare the answers."""
    alone = [engine.generate(prompt, ASKING, return_logprob=True) for prompt in prompts]
    step = (NEW_TOKENS - SHORTEST) // len(others)
    ordinary = [{**GREEDY, "max_new_tokens": SHORTEST + i * step} for i in range(len(others))]
    together = engine.generate(
        [text for pair in zip(prompts, others, strict=True) for text in pair],
        [params for other in ordinary for params in (ASKING, other)],
        return_logprob=True,
    )
    in_load = together[::2]
    return {
        "verdict": "fails" if (reason := difference(alone, in_load)) else "holds",
        "reason": reason,
        "flips": {"alone": flips(alone), "in_load": flips(in_load)},
    }


def difference(alone: Sequence[Answer], in_load: Sequence[Answer]) -> str | None:
    """Return in one line how the answers differ, or None. An answer without a receipt differs."""
    pairs = [tuple(map(_digest, pair)) for pair in zip(alone, in_load, strict=True)]
    differ = sum(None in pair or pair[0] != pair[1] for pair in pairs)
    if not differ:
        return None
    ended = [answer["meta_info"]["finish_reason"].get("message") for answer in (*alone, *in_load)]
    why = next(filter(None, ended), None)
    said = f"{differ} of {len(pairs)} answers in load differ from those alone"
    return f"{said}: {why}" if why else said


def flips(answers: Sequence[Answer]) -> dict[str, int]:
    """Return how many tokens verification committed, and how many of them replaced a candidate.

    A rollback is one such flip: it commits the canonical row's token in place of the first
    candidate that disagrees. The first token of an answer is the prompt's, and is never verified.
    Answers without a receipt do not count.
    """
    metas = [answer["meta_info"] for answer in answers if _digest(answer)]
    receipts = [meta["llm42"] for meta in metas]
    tokens = sum(meta["completion_tokens"] - 1 for meta in metas)
    return {
        "verified": tokens - sum(receipt["canonical_steps"] for receipt in receipts),
        "flips": sum(receipt["rollbacks"] for receipt in receipts),
        "rolled_back": sum(receipt["tokens_rolled_back"] for receipt in receipts),
    }


def _digest(answer: Answer) -> str | None:
    """Of prompt, tokens and logprobs. An answer has none if it ended with the service."""
    return answer["meta_info"].get("llm42", {}).get("output_digest")


if __name__ == "__main__":
    main(sys.argv[1:])

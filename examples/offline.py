"""Deterministic answers in this program, without a server.

    scripts/run python examples/offline.py "$(scripts/run llm42 model)"

SGLang starts processes that import this file, so what starts an Engine stands under `__main__`.
"""

import sys
from typing import Any

from llm42_sglang import Engine

PROMPTS = ["The moon is", "Once upon a time", "Three colours are"]
ASKING = {"temperature": 0.8, "sampling_seed": 7, "max_new_tokens": 40, "deterministic": True}


def digests(answers: list[dict[str, Any]]) -> list[str]:
    """A hash of each answer's tokens and logprobs, from its receipt."""
    return [answer["meta_info"]["llm42"]["output_digest"] for answer in answers]


def ask(engine: Engine) -> None:
    """Ask one by one, and all at once: the answers are the same, bit for bit."""
    alone = [engine.generate(prompt, ASKING, return_logprob=True) for prompt in PROMPTS]
    together = engine.generate(PROMPTS, ASKING, return_logprob=True)
    assert digests(alone) == digests(together)
    for prompt, answer in zip(PROMPTS, together, strict=True):
        print(f"{prompt}{answer['text']}\n")


if __name__ == "__main__":
    with Engine(model_path=sys.argv[1], max_total_tokens=20000) as engine:
        print(f"fingerprint {engine.fingerprint}")
        ask(engine)

"""Programs that use an Engine, and write down what they see, as JSON. See `test_offline`."""

import asyncio
import json
import runpy
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.engine import client, tiny_models

EXAMPLE = Path(__file__).parents[2] / "examples" / "offline.py"
# The flags of the server "tiny".
POOL = {"max_total_tokens": 8000, "chunked_prefill_size": 128, "max_running_requests": 24}
TOOLS = {"constrained_json_disable_any_whitespace": True, "tool_call_parser": "qwen25"}
TINY = {"llm42_page": 16, "llm42_group": 4, **POOL, **TOOLS}

GREEDY = {"temperature": 0, "max_new_tokens": client.NEW_TOKENS, "ignore_eos": True}
SAMPLED = {**GREEDY, "temperature": 0.9}
ASKS = {"deterministic": True}
STREAMED = 4  # index of the prompt that is streamed

BAD_STARTS = {
    "another page": {"llm42_page": 24},
    "an argument that is not ours": {"llm42_pages": 32},
    "one that is not SGLang's": {"max_token": 10},
    "SGLang's page": {"page_size": 64},
    "a refused feature": {"pp_size": 2},
    "no model": {"model_path": "/no/such/model"},
}
BAD_REQUESTS: dict[str, dict[str, Any]] = {
    "an option that is not kept": {"return_hidden_states": True, "sampling_params": ASKS},
    "no boolean": {"sampling_params": {"deterministic": "yes"}},
    "two that contradict": {
        "sampling_params": {"deterministic": True, "custom_params": {"deterministic": False}}
    },
    "misspelt": {"sampling_params": {"custom_params": {"determinstic": True}}},
    "misspelt beside others": {"sampling_params": {"determinism": True}},
    "too many samples": {"sampling_params": {**ASKS, "n": 65}},
    "a token past the vocabulary": {"input_ids": [1, 10**6], "sampling_params": ASKS},
}


def deterministic(arguments: Sequence[str]) -> None:
    """Start Engines of ours, one after the other: some that must not start, then two that serve."""
    model, out = arguments
    changed = str(tiny_models.make("qwen3, one weight changed", Path(model).parent))
    from llm42_sglang import Engine

    seen: dict[str, Any] = {}
    seen["bad starts"] = {
        name: complaint(lambda bad=bad: Engine(**{"model_path": model, **TINY, **bad}))
        for name, bad in BAD_STARTS.items()
    }
    why = complaint(lambda: Engine(model_path=without_weights(Path(model)), **TINY))
    seen["no weights"] = [why, *children()]
    with Engine(model_path=model, **TINY) as engine:
        seen["second"] = complaint(lambda: Engine(model_path=model, **TINY))
        seen |= answers(engine) | {"proof": proof(engine)}
        seen["weights"] = [ask(engine, ASKS)["meta_info"]["llm42"]["fingerprint"]]
        for path in (changed, model):
            engine.update_weights_from_disk(path)
            fingerprint = ask(engine, ASKS)["meta_info"]["llm42"]["fingerprint"]
            assert fingerprint == engine.fingerprint
            seen["weights"].append(fingerprint)
        seen["bad requests"] = {
            name: complaint(lambda bad=bad: engine.generate(**{"input_ids": [5, 6, 7], **bad}))
            for name, bad in BAD_REQUESTS.items()
        }
    seen["shut down"] = [complaint(lambda: engine.fingerprint), *children()]
    with Engine(model_path=model, **TINY | {"llm42_page": 32, "llm42_default": True}) as other:
        seen["other"] = {"proof": proof(other), "answer": ask(other, {})}
        runpy.run_path(str(EXAMPLE))["ask"](other)
    Path(out).write_text(json.dumps(seen))


def stock(arguments: Sequence[str]) -> None:
    """Negative control: SGLang's own Engine, and then ours in the same program."""
    model, out = arguments
    from sglang.srt.entrypoints.engine import Engine as StockEngine

    from llm42_sglang import Engine

    with StockEngine(model_path=model, **POOL) as engine:
        seen = {"ordinary": ask(engine, {}), "asked": complaint(lambda: ask(engine, ASKS))}
    seen["ours"] = complaint(lambda: Engine(model_path=model, **TINY))
    Path(out).write_text(json.dumps(seen))


def stock_fails(arguments: Sequence[str]) -> None:
    """Negative control: SGLang's own Engine, whose scheduler fails."""
    from sglang.srt.entrypoints.engine import Engine as StockEngine

    StockEngine(model_path=without_weights(Path(arguments[0])), **POOL)


def never_ends(arguments: Sequence[str]) -> None:
    """Wait for what does not come."""
    threading.Event().wait()


def answers(engine: Any) -> dict[str, Any]:
    """Of an Engine: the prompts one by one, in a batch, streamed, at once, sampled."""
    prompts = list(map(list, client.prompts()))
    asking = GREEDY | ASKS
    batch = engine.generate(
        input_ids=[ids for ids in prompts for _ in range(2)],
        sampling_params=[params for _ in prompts for params in (asking, GREEDY)],
        return_logprob=True,
    )
    one = {"input_ids": prompts[STREAMED], "sampling_params": asking, "return_logprob": True}
    seen = {
        "alone": [ask(engine, ASKS, ids) for ids in prompts],
        "batch": batch[::2],
        "ordinary in the batch": batch[1::2],
        "stream": list(engine.generate(**one, stream=True)),
        "default": ask(engine, {}),
        "at once": engine.loop.run_until_complete(at_once(engine, one)),
        "samples": engine.generate(
            input_ids=prompts[STREAMED],
            sampling_params=SAMPLED | ASKS | {"n": 2, "sampling_seed": 5},
            return_logprob=True,
        ),
        "seeds": [ask(engine, SAMPLED | ASKS | {"sampling_seed": seed}) for seed in (5, 6)],
    }
    return seen | {"the caller's": asking}


async def at_once(engine: Any, one: dict[str, Any]) -> list[Any]:
    """An answer, another one, and the last event of a stream."""

    async def streamed() -> Any:
        async for event in await engine.async_generate(**one, stream=True):
            last = event
        return last

    return await asyncio.gather(
        engine.async_generate(**one), engine.async_generate(**one), streamed()
    )


def ask(engine: Any, params: dict[str, Any], ids: Sequence[int] = ()) -> Any:
    """An answer, greedy unless `params` says otherwise."""
    prompt = list(ids or client.prompts()[STREAMED])
    return engine.generate(input_ids=prompt, sampling_params=GREEDY | params, return_logprob=True)


def proof(engine: Any) -> dict[str, Any]:
    """What GET /llm42/fingerprint has."""
    names = ("fingerprint", "facts", "certificate")
    return {name: getattr(engine, name) for name in names}


def complaint(call: Callable[[], object]) -> list[str]:
    """What is raised: the names of its classes, most special first, and its message."""
    try:
        call()
    except Exception as error:
        return [" ".join(cls.__name__ for cls in type(error).__mro__), str(error)]
    return ["", "nothing is raised"]


def without_weights(model: Path) -> str:
    """A copy of the model that only a scheduler finds incomplete."""
    copy = model.with_name("without weights")
    shutil.copytree(model, copy, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    return str(copy)


def children() -> list[str]:
    """The commands of this process's children that run."""
    gone = psutil.STATUS_ZOMBIE
    return [" ".join(p.cmdline()) for p in psutil.Process().children() if p.status() != gone]

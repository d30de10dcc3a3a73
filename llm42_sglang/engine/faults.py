"""Faults that tests inject through LLM42_FAULT, to prove that each guard really guards.

    a1, a2, a3    falsify one assumption about canonical passes; a1-kv only in the KV
    width         makes narrower passes differ; that is allowed, and they are not used
    stray         gives other tokens once the server serves
    kv-later      falsifies A1, in the KV only, once the server serves
    rank1         makes the faults above happen on rank 1 only
    step          falsifies A4, in the KV of steps with an odd number of rows; that is allowed, and
                  these steps are not canonical
    step-later    does the same in all steps, once the server serves
    decode        perturbs the tokens of every 7th decode step
    no-scheduler  keeps the scheduler's hooks from going live
    unbounded     lets every request pass to the scheduler as it is

Several are named with commas in between. Nothing here runs unless it is named.
"""

import logging
import os
from collections.abc import Callable

import torch
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.model_executor.forward_batch_info import ForwardBatch

from llm42_sglang.core.config import ConfigError
from llm42_sglang.engine.hooks import around, before

logger = logging.getLogger(__name__)

VARIABLE = "LLM42_FAULT"
STRAY_AFTER = 75  # passes; certification takes up to 65 with G <= 16
DECODE_PERIOD = 7  # steps; every 7th decode step proposes wrong tokens

# (logits [G*T, vocab], the pass) -> logits
PassFault = Callable[[torch.Tensor, ScheduleBatch], torch.Tensor]


def active(name: str) -> bool:
    """Whether the fault `name` is injected. Raises ConfigError on an unknown fault."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen:
        logger.warning("llm42: %s=%s is set: this server is broken on purpose", VARIABLE, chosen)
    names = chosen.split(",") if chosen else []
    if not {*names} <= {*_PASS_FAULTS, *HOOKS, *_OTHERS}:
        raise ConfigError(f"{VARIABLE}={chosen} is not a known fault; unset it")
    return name in names


def pass_fault(rank: int = 0) -> PassFault | None:
    """The fault to apply to every canonical pass of this rank, if one is injected."""
    if active("rank1") and rank != 1:
        return None
    return next((make() for name, make in _PASS_FAULTS.items() if active(name)), None)


def _not_repeatable() -> PassFault:
    """A1 is false: the second run of the same pass differs."""
    runs = 0

    def fault(logits: torch.Tensor, batch: ScheduleBatch) -> torch.Tensor:
        nonlocal runs
        runs += 1
        return logits + runs * 1e-3

    return fault


def _kv_not_repeatable() -> PassFault:
    """A1 is false, and no logits of this pass show it."""
    runs = 0

    def fault(logits: torch.Tensor, batch: ScheduleBatch) -> torch.Tensor:
        nonlocal runs
        runs += 1
        pool = batch.token_to_kv_pool_allocator.get_kvcache()
        pool.get_value_buffer(pool.start_layer)[batch.out_cache_loc] += runs
        return logits

    return fault


def _strays() -> PassFault:
    """Every token becomes its neighbour in the vocabulary after STRAY_AFTER passes."""
    return _later(lambda logits, batch: logits.roll(1, dims=-1))


def _later(broken: PassFault) -> PassFault:
    runs = 0

    def fault(logits: torch.Tensor, batch: ScheduleBatch) -> torch.Tensor:
        nonlocal runs
        runs += 1
        return broken(logits, batch) if runs > STRAY_AFTER else logits

    return fault


def _slot_dependent() -> PassFault:
    """A2 is false: the slot's index shows in its logits."""

    def fault(logits: torch.Tensor, batch: ScheduleBatch) -> torch.Tensor:
        return logits + torch.arange(len(logits), device=logits.device)[:, None] * 1e-3

    return fault


def _looks_ahead() -> PassFault:
    """A3 is false: a row depends on the token after it."""

    def fault(logits: torch.Tensor, batch: ScheduleBatch) -> torch.Tensor:
        return logits + batch.input_ids.roll(-1)[:, None] * 1e-3

    return fault


def _width_dependent() -> PassFault:
    """The number of slots shows in the logits, unless it is the largest that was seen: G, which
    certification runs first."""
    widest = 0

    def fault(logits: torch.Tensor, batch: ScheduleBatch) -> torch.Tensor:
        nonlocal widest
        rows = len(batch.input_ids)
        widest = max(widest, rows)
        return logits * (1 + (widest - rows) * 1e-4)

    return fault


_PASS_FAULTS = {
    "a1": _not_repeatable,
    "a1-kv": _kv_not_repeatable,
    "stray": _strays,
    "kv-later": lambda: _later(_kv_not_repeatable()),
    "a2": _slot_dependent,
    "a3": _looks_ahead,
    "width": _width_dependent,
}

_OTHERS = {"no-scheduler", "rank1", "unbounded"}

_RUNNER = "sglang.srt.model_executor.model_runner.ModelRunner"


@around(f"{_RUNNER}.forward", "inject step faults in tests")
def perturb_odd_steps(original, runner, forward_batch: ForwardBatch, *args, **kwargs):
    """Steps of an odd number of rows write other KV."""
    output = original(runner, forward_batch, *args, **kwargs)
    if len(forward_batch.input_ids) % 2:
        _perturb_kv(runner, forward_batch)
    return output


@around(f"{_RUNNER}.forward", "inject step faults in tests")
def perturb_served_steps(original, runner, forward_batch: ForwardBatch, *args, **kwargs):
    """Steps write other KV; not those of certification, which are nobody's."""
    output = original(runner, forward_batch, *args, **kwargs)
    if forward_batch.rids:
        _perturb_kv(runner, forward_batch)
    return output


def _perturb_kv(runner, forward_batch: ForwardBatch) -> None:
    if forward_batch.forward_mode.is_decode():
        pool = runner.token_to_kv_pool
        pool.get_value_buffer(pool.start_layer)[forward_batch.out_cache_loc] += 1


_decode_steps = 0


@before(f"{_RUNNER}.sample", "inject the decode fault in tests")
def perturb_decode(runner, logits_output, forward_batch) -> None:
    """Every 7th decode step proposes wrong tokens."""
    global _decode_steps
    if forward_batch.forward_mode.is_decode():
        _decode_steps += 1
        if _decode_steps % DECODE_PERIOD == 0:
            logits = logits_output.next_token_logits
            logits.copy_(logits.roll(1, dims=-1))


HOOKS = {"step": perturb_odd_steps, "step-later": perturb_served_steps, "decode": perturb_decode}

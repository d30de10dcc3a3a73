"""Entry point of `sglang.srt.plugins`: runs in every SGLang process, before it does anything.

SGLang's loader logs exceptions and goes on without the plugin. A deterministic server must not, so
every failure here leaves the process instead.
"""

import sys

from sglang.srt.plugins.hook_registry import HookType
from sglang.srt.sampling import sampling_params

from llm42_sglang.core.config import ConfigError
from llm42_sglang.engine import faults, seams, settings
from llm42_sglang.engine.errors import EngineError
from llm42_sglang.engine.front.dead_ends import collect, keep_result
from llm42_sglang.engine.front.gatekeeper import Gatekeeper, check_contract
from llm42_sglang.engine.front.openai_api import OpenAIHooks
from llm42_sglang.engine.front.parsers import parse_in_time
from llm42_sglang.engine.front.replicas import hand_on_infos, watch_schedulers
from llm42_sglang.engine.front.stream import send_batch, stream_one_by_one
from llm42_sglang.engine.front.texts import convert_aside, tokenize_aside
from llm42_sglang.engine.hooks import hook
from llm42_sglang.engine.loop import profiling
from llm42_sglang.engine.loop.aborts import abort_named
from llm42_sglang.engine.loop.drawable import draw_from_something
from llm42_sglang.engine.loop.fastpath import sample_own_rows
from llm42_sglang.engine.loop.results import DeterministicResultProcessor
from llm42_sglang.engine.loop.stop_regex import match_in_linear_time
from llm42_sglang.engine.passes.canonical import fixed_shape_experts, keep_head_rows
from llm42_sglang.engine.scheduler import DeterministicScheduler

_SRT = "sglang.srt."


def activate() -> None:
    """Check every seam, then register the hooks. Raises SystemExit when anything is amiss."""
    try:
        config = settings.load()
        seams.check(seams.SEAMS)
        _claim_field()
        _register_front(Gatekeeper(config), serving=config is not None)
        if config is not None:
            _register_controller()
            if not faults.active("no-scheduler"):
                _register_scheduler()
    except (ConfigError, EngineError) as error:
        sys.exit(f"llm42: {error}")


def _claim_field() -> None:
    """With patches/01: SGLang refuses the native `deterministic` field if nobody claims it."""
    if hasattr(sampling_params, "DETERMINISM_PROVIDER"):
        sampling_params.DETERMINISM_PROVIDER = "llm42"


def _register_front(gate: Gatekeeper, serving: bool) -> None:
    """Tokenizer and HTTP process. Without a configuration: refuse deterministic requests."""
    tokenizer = f"{_SRT}managers.tokenizer_manager.TokenizerManager."
    http = f"{_SRT}entrypoints.http_server."
    hook(f"{tokenizer}_create_tokenized_object", gate.admit, HookType.AROUND)
    hook(f"{http}generate_contract_error", check_contract, HookType.AROUND)
    hook(f"{http}serve_generate_request", gate.refuse_early, HookType.AROUND)
    hook(f"{http}_setup_and_run_http_server", gate.gate_app, HookType.BEFORE)
    hook(f"{tokenizer}_tokenize_texts", tokenize_aside, HookType.AROUND)
    hook(f"{tokenizer}abort_request", abort_named, HookType.AROUND)
    hook(f"{tokenizer}_collect_batch_responses", collect, HookType.AROUND)
    hook(f"{tokenizer}_handle_abort_finish_reason", keep_result, HookType.AROUND)
    _register_openai(OpenAIHooks(gate))
    _register_texts()
    if serving:
        hook(f"{tokenizer}_send_one_request", gate.number_samples, HookType.AROUND)
        hook(f"{tokenizer}_send_batch_request", send_batch, HookType.AROUND)
        hook(f"{tokenizer}_stream_one_response", stream_one_by_one, HookType.AROUND)
        hook(f"{tokenizer}update_request_meta_info", gate.add_receipt, HookType.AROUND)
        launch = f"{_SRT}entrypoints.engine.Engine._launch_subprocesses"
        hook(launch, gate.check_schedulers, HookType.AFTER)


def _register_openai(api: OpenAIHooks) -> None:
    """Chat completions, completions and responses."""
    openai = f"{_SRT}entrypoints.openai."
    responses = f"{openai}serving_responses.OpenAIServingResponses."
    for handler in (
        f"{openai}serving_chat.OpenAIServingChat.handle_request",
        f"{openai}serving_completions.OpenAIServingCompletion.handle_request",
        f"{responses}create_responses",
    ):
        hook(handler, api.answer, HookType.AROUND)
    hook(f"{responses}_generate_with_builtin_tools", api.refuse_response, HookType.AROUND)
    manager = f"{_SRT}managers.tokenizer_manager.TokenizerManager"
    hook(f"{manager}.generate_request", api.generate, HookType.AROUND)


def _register_texts() -> None:
    """What reads or writes long texts, and would keep the event loop from others."""
    openai = f"{_SRT}entrypoints.openai.serving_tokenize."
    for converter in ("OpenAIServingTokenize", "OpenAIServingDetokenize"):
        hook(f"{openai}{converter}._handle_non_streaming_request", convert_aside, HookType.AROUND)
    for parser, more in (
        ("function_call.function_call_parser.FunctionCallParser", "has_tool_call"),
        ("parser.reasoning_parser.ReasoningParser", "parse_non_stream_blocks"),
    ):
        for method in ("parse_non_stream", "parse_stream_chunk", "parse_stream_end", more):
            hook(f"{_SRT}{parser}.{method}", parse_in_time, HookType.AROUND)


def _register_controller() -> None:
    """The process between front and schedulers, with data parallelism."""
    controller = f"{_SRT}managers.data_parallel_controller.DataParallelController."
    hook(f"{controller}get_init_info", hand_on_infos, HookType.AROUND)
    hook(f"{controller}launch_dp_schedulers", watch_schedulers, HookType.BEFORE)


def _register_scheduler() -> None:
    """Scheduler process: two classes stood in for, and the rows of a canonical pass."""
    match_in_linear_time()
    components = f"{_SRT}managers.scheduler_components."
    results = f"{components}batch_result_processor.SchedulerBatchResultProcessor"
    hook(f"{_SRT}managers.scheduler.Scheduler", DeterministicScheduler, HookType.REPLACE)
    hook(results, DeterministicResultProcessor, HookType.REPLACE)
    rows = f"{_SRT}layers.logits_processor.LogitsProcessor._get_pruned_states"
    hook(rows, keep_head_rows, HookType.AROUND)
    experts = f"{_SRT}layers.moe.fused_moe_native.moe_forward_native"
    if not faults.active("experts"):
        hook(experts, fixed_shape_experts, HookType.AROUND)
    runner = f"{_SRT}model_executor.model_runner.ModelRunner."
    for fault, perturb in faults.STEP_FAULTS.items():
        if faults.active(fault):
            hook(f"{runner}forward", perturb, HookType.AROUND)
    profiler = f"{components}profiler_manager.SchedulerProfilerManager."
    hook(f"{profiler}_profile", profiling.answer, HookType.AROUND)
    hook(f"{profiler}_profile_batch_predicate", profiling.step, HookType.AROUND)
    draw = f"{_SRT}layers.sampler.Sampler._sample_from_probs"
    hook(draw, draw_from_something, HookType.AROUND)
    sample = f"{runner}sample"
    hook(sample, sample_own_rows, HookType.AROUND)
    if faults.active("decode"):  # registered last: outermost, so that every row is perturbed
        hook(sample, faults.perturb_decode, HookType.BEFORE)

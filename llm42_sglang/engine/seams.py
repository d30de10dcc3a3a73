"""Every SGLang symbol the engine relies on, with the signature it was written against and why.

SGLang's hook registry fails open: a hook on a name that is gone is logged and forgotten. So the
whole table is checked before anything is hooked; one missing or changed seam ends the process.

`python -m llm42_sglang.engine.seams` prints the table with the fingerprints of the installed
wheel: a person reads the difference, then re-stamps.
"""

import hashlib
import inspect
import pkgutil
import re
from dataclasses import dataclass
from enum import Enum

_SRT = "sglang.srt."


class SeamError(RuntimeError):
    """The installed SGLang is not the one this plugin was written against."""


@dataclass(frozen=True, slots=True)
class Seam:
    """One symbol: dotted path, fingerprint of its signature, and what it is used for.

    A symbol that `llm42 patch` gives another signature fits with either fingerprint.
    """

    path: str
    signature: str
    why: str
    patched: str | None = None


def fingerprint(symbol: object) -> str:
    """Short hash of a signature, or of an enum's members; the type's name for anything else."""
    if isinstance(symbol, type) and issubclass(symbol, Enum):
        text = " ".join(symbol.__members__)
    elif callable(symbol):
        # Defaults that are functions print their address.
        text = re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(symbol)))
    else:
        return type(symbol).__name__
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check(seams: tuple[Seam, ...]) -> None:
    """Raise SeamError naming the first seam that is gone or has another signature."""
    for seam in seams:
        try:
            symbol = pkgutil.resolve_name(seam.path)
        except (ImportError, AttributeError) as error:
            raise SeamError(
                f"seam {seam.path} is gone ({error}); it is needed to {seam.why}. "
                "Install the pinned SGLang: pip install sglang==0.5.23"
            ) from None
        if fingerprint(symbol) not in (seam.signature, seam.patched):
            raise SeamError(
                f"seam {seam.path} has changed its signature; it is needed to {seam.why}. "
                "Install the pinned SGLang: pip install sglang==0.5.23"
            )


def _seam(path: str, signature: str, why: str, patched: str | None = None) -> Seam:
    return Seam(_SRT + path, signature, why, patched)


SEAMS: tuple[Seam, ...] = (
    _seam("managers.scheduler.Scheduler", "86a9d694", "replace it by DeterministicScheduler"),
    _seam(
        "managers.scheduler.Scheduler._create_generation_req",
        "f585c563",
        "make deterministic requests DeterministicReq",
    ),
    _seam(
        "managers.scheduler.Scheduler.get_prefill_adder_class",
        "1de39e09",
        "keep prefill batches homogeneous",
    ),
    _seam(
        "managers.scheduler.Scheduler.get_output_streamer_class",
        "a9666046",
        "stream committed tokens only, add receipts",
    ),
    _seam(
        "managers.scheduler.Scheduler.init_tp_model_worker",
        "f4ca892d",
        "send deterministic prefill to the canonical lane",
    ),
    _seam(
        "managers.scheduler.Scheduler.get_next_batch_to_run",
        "98138ca5",
        "verify between decode steps",
    ),
    _seam(
        "managers.scheduler.Scheduler.get_init_info", "702bce92", "prove that the hooks are live"
    ),
    _seam("managers.schedule_batch.Req", "47bbe67b", "keep candidates beside output_ids"),
    _seam(
        "managers.schedule_batch.Req.update_finish_state",
        "f3f9c088",
        "finish on committed tokens only",
    ),
    _seam(
        "managers.schedule_batch.Req.reset_for_retract", "f4ca892d", "drop candidates on retraction"
    ),
    _seam("managers.schedule_batch.Req.finished", "a6632a57", "skip finished requests"),
    _seam("managers.schedule_batch.ReqKvInfo", "45294e04", "rewind the KV length after a rollback"),
    _seam(
        "managers.schedule_batch.NextBatchPlan", "0734f51b", "return type of get_next_batch_to_run"
    ),
    _seam(
        "managers.schedule_batch.ScheduleBatch",
        "958b29b9",
        "describe a canonical pass, and a commit",
    ),
    _seam(
        "managers.schedule_policy.AddReqResult", "4238df50", "end a batch where the kinds would mix"
    ),
    _seam(
        "managers.schedule_policy.PrefillAdder.add_one_req",
        "5fbe8529",
        "keep prefill batches homogeneous",
    ),
    _seam(
        "managers.utils.GenerationBatchResult",
        "35fad02c",
        "return the tokens of a deterministic prefill",
    ),
    _seam(
        "managers.utils.GenerationBatchResult.get_num_generated_tokens",
        "7bac0852",
        "count committed tokens only",
    ),
    _seam(
        "managers.overlap_utils.FutureMap.stash",
        "6b0c5951",
        "set the next decode input after a rollback",
    ),
    _seam(
        "managers.overlap_utils.RelayPayload",
        "7a98a54f",
        "set the next decode input after a rollback",
    ),
    _seam(
        "managers.overlap_utils.resolve_forward_inputs",
        "c0abb941",
        "rely on decode inputs coming from the future map",
    ),
    _seam(
        "managers.tp_worker.TpModelWorker.forward_batch_generation",
        "7cc9d237",
        "stand in for the forward of deterministic prefill",
    ),
    _seam(
        "managers.scheduler_components.batch_result_processor.SchedulerBatchResultProcessor",
        "a445d2ee",
        "replace it by DeterministicResultProcessor",
    ),
    _seam(
        "managers.scheduler_components.batch_result_processor.SchedulerBatchResultProcessor._normalize_decode_outputs",
        "6d922b4f",
        "divert deterministic rows into candidates",
    ),
    _seam(
        "managers.scheduler_components.batch_result_processor.SchedulerBatchResultProcessor.process_batch_result_decode",
        "21b196f4",
        "commit verified runs",
    ),
    _seam(
        "managers.scheduler_components.output_streamer.SchedulerOutputStreamer",
        "ecda8481",
        "subclass it",
    ),
    _seam(
        "managers.scheduler_components.output_streamer.SchedulerOutputStreamer._stream_output_generation",
        "05fa24f8",
        "say nothing for steps that committed nothing",
    ),
    _seam(
        "managers.scheduler_components.output_streamer.SchedulerOutputStreamer.build_additional_customized_info",
        "fe1ccc2a",
        "add receipts",
    ),
    _seam(
        "managers.scheduler_components.output_streamer.SchedulerOutputStreamer.is_request_level_customized_info_key",
        "1eda252b",
        "send one receipt, not one per token",
    ),
    _seam(
        "mem_cache.common.release_kv_cache",
        "78f658ad",
        "rely on skip_radix_cache_insert keeping provisional KV out of the tree",
    ),
    _seam(
        "mem_cache.common.checkpoint_kv_cache",
        "7b7ef267",
        "rely on skip_radix_cache_insert keeping provisional KV out of the tree",
    ),
    _seam("mem_cache.memory_pool.ReqToTokenPool", "4e1d69c2", "use padding row 0 for dummy slots"),
    _seam(
        "mem_cache.allocator.paged.PagedTokenToKVPoolAllocator",
        "c7652106",
        "rely on whole pages and on page 0 being padding",
    ),
    _seam(
        "model_executor.forward_batch_info.ForwardBatch.init_new",
        "ddc84c2e",
        "build a canonical pass",
    ),
    _seam(
        "model_executor.forward_batch_info.ForwardMode",
        "bf57b421",
        "run canonical passes in EXTEND mode",
    ),
    _seam("model_executor.model_runner.ModelRunner", "ea2e677e", "run canonical passes"),
    _seam("model_executor.model_runner.ModelRunner.forward", "438ce8e7", "run canonical passes"),
    _seam(
        "model_executor.model_runner.ModelRunner.sample",
        "dd03f88d",
        "propose for rows that sample, and inject the decode fault in tests",
    ),
    _seam(
        "layers.logits_processor.LogitsProcessor._get_pruned_states",
        "56248010",
        "get the logits of every row of a pass",
    ),
    _seam(
        "speculative.spec_info.SpeculativeAlgorithm",
        "0faa018c",
        "name the absence of a draft model",
    ),
    _seam(
        "sampling.sampling_params.SamplingParams",
        "82348f06",
        "read a request's sampling parameters",
        patched="9d34a4ba",
    ),
    _seam(
        "sampling.sampling_params.CustomParamValue",
        "312d003d",
        "refuse custom parameters that do not survive the way to the scheduler",
    ),
    _seam(
        "managers.scheduler.Scheduler._should_defer_prefill",
        "e69881a3",
        "give a decode step between canonical prefill passes",
    ),
    _seam(
        "managers.scheduler.Scheduler.run_batch",
        "2ef0ac34",
        "settle due pages that rode in prefill passes",
    ),
    _seam(
        "managers.scheduler.Scheduler.process_batch_result",
        "67aaf766",
        "drain the overlap loop before a pass",
    ),
    _seam(
        "managers.scheduler.Scheduler.event_loop_overlap",
        "f4ca892d",
        "rely on result_queue and last_batch telling what is in flight",
    ),
    _seam(
        "managers.schedule_batch.Req.next_output_finishes_by_length",
        "a6632a57",
        "decode on until a canonical pass has confirmed the length",
    ),
    _seam(
        "managers.schedule_policy.PrefillAdder.preempt_to_schedule",
        "59295100",
        "evict nobody for a request that the batch cannot take",
    ),
    _seam(
        "managers.scheduler_components.batch_result_processor.SchedulerBatchResultProcessor._maybe_update_reasoning_tokens",
        "ec6b63b7",
        "count the reasoning tokens that a client sees",
    ),
    _seam(
        "managers.io_struct.GenerateReqInput", "883862f9", "read a request before it is tokenized"
    ),
    _seam(
        "managers.io_struct.TokenizedGenerateReqInput",
        "707a58ca",
        "read a request after it is tokenized",
    ),
    _seam(
        "managers.tokenizer_manager.TokenizerManager._create_tokenized_object",
        "279d3612",
        "refuse or mark requests",
    ),
    _seam(
        "managers.tokenizer_manager.TokenizerManager.update_request_meta_info",
        "d694f944",
        "put the receipt into meta_info",
    ),
    _seam(
        "managers.tokenizer_manager.TokenizerManager.generate_request",
        "6ed75cb1",
        "check OpenAI requests and collect their receipts",
    ),
    _seam(
        "entrypoints.openai.serving_chat.OpenAIServingChat.handle_request",
        "20eaab63",
        "stamp /v1/chat/completions",
    ),
    _seam(
        "entrypoints.openai.serving_completions.OpenAIServingCompletion.handle_request",
        "20eaab63",
        "stamp /v1/completions",
    ),
    _seam(
        "entrypoints.openai.serving_responses.OpenAIServingResponses.create_responses",
        "f968a3e2",
        "stamp /v1/responses",
    ),
    _seam(
        "entrypoints.openai.serving_responses.OpenAIServingResponses._generate_with_builtin_tools",
        "a3963ba7",
        "refuse before /v1/responses opens a stream",
    ),
    _seam(
        "entrypoints.engine.Engine._launch_subprocesses",
        "fff0a78a",
        "check that the scheduler's hooks are live",
    ),
    _seam(
        "entrypoints.engine.SchedulerInitResult",
        "7e7f08c4",
        "check that the scheduler's hooks are live",
    ),
    _seam(
        "entrypoints.http_server.serve_generate_request",
        "daad781f",
        "refuse before SGLang looks at the request",
    ),
    _seam(
        "entrypoints.http_server.generate_contract_error",
        "e81d5322",
        "let the native field pass SGLang's schema of /generate",
    ),
    _seam(
        "entrypoints.http_server._create_error_response",
        "82386a7f",
        "refuse before SGLang looks at the request",
    ),
    _seam(
        "entrypoints.http_server._setup_and_run_http_server",
        "f779cf80",
        "gate /health, and fields that nobody reads",
    ),
    _seam("entrypoints.http_server.app", "0472bfbd", "gate /health, and fields that nobody reads"),
    _seam("server_args.ServerArgs", "42ad16c5", "read the server's flags"),
    _seam("arg_groups.overrides.resolving_view", "1a6c1b39", "read the server's flags"),
    _seam("plugins.hook_registry.HookRegistry.register", "43ce9178", "hook"),
    _seam("plugins.hook_registry.HookRegistry._patched", "set", "check that hooks were applied"),
    _seam("plugins.hook_registry.HookType", "11189b33", "hook"),
    Seam("sglang.launch_server.run_server", "87875d98", "serve"),
    _seam(
        "layers.attention.attention_registry.register_attention_backend",
        "8870d0c6",
        "name the CPU attention backend",
    ),
    _seam(
        "layers.attention.torch_native_backend.TorchNativeAttnBackend",
        "a2159e27",
        "build the CPU attention backend on it",
    ),
    _seam(
        "layers.attention.torch_native_backend.TorchNativeAttnBackend.forward_extend",
        "75974d04",
        "attend in O(new rows * context)",
    ),
    _seam(
        "layers.attention.torch_native_backend.TorchNativeAttnBackend.forward_decode",
        "75974d04",
        "attend without a loop over requests",
    ),
    _seam(
        "layers.attention.torch_native_backend.TorchNativeAttnBackend.init_forward_metadata",
        "a5e6055b",
        "plan once per forward",
    ),
    _seam(
        "layers.quantization.unquant.UnquantizedEmbeddingMethod",
        "2e38e77b",
        "compute the language-model head in fp32",
    ),
    _seam(
        "layers.quantization.unquant.UnquantizedLinearMethod",
        "2e38e77b",
        "compute linears in mixed precision",
    ),
    _seam(
        "layers.radix_attention.AttentionType",
        "49a59231",
        "tell plain causal attention from the rest",
    ),
    _seam("layers.radix_attention.RadixAttention", "c3fc5486", "read a layer's heads and scale"),
    _seam("mem_cache.memory_pool.KVWriteLoc", "0e29328a", "write KV before attending"),
    _seam(
        "mem_cache.swa_memory_pool.SWAKVPool.translate_loc_from_full_to_swa",
        "c3bd4ab6",
        "find a windowed layer's KV slots",
    ),
    _seam("platforms.cpu.CpuDeviceMixin", "2e38e77b", "describe the CPU"),
    _seam("platforms.device_mixin.PlatformEnum", "733f97e3", "declare an out-of-tree platform"),
    _seam("platforms.interface.SRTPlatform", "2e38e77b", "declare an out-of-tree platform"),
    _seam("plugins.load_plugins", "2e38e77b", "load the plugin before the flags are parsed"),
    _seam("server_args.prepare_server_args", "10a3fbd1", "parse the server's flags"),
    _seam("utils.kill_process_tree", "e22c7afd", "leave no child process behind"),
    Seam("sglang.version.__version__", "str", "fingerprint"),
    _seam(
        "model_executor.model_runner_components.weight_updater.WeightUpdater",
        "76ece541",
        "refuse weight updates",
    ),
    _seam(
        "model_executor.model_runner_components.weight_updater.WeightUpdater.update_weights_from_disk",
        "59623f76",
        "refuse weight updates",
    ),
    _seam(
        "model_executor.model_runner_components.weight_updater.WeightUpdater.update_weights_from_tensor",
        "9f089e95",
        "refuse weight updates",
    ),
    _seam(
        "model_executor.model_runner_components.weight_updater.WeightUpdater.update_weights_from_ipc",
        "1a211715",
        "refuse weight updates",
    ),
    _seam(
        "model_executor.model_runner_components.weight_updater.WeightUpdater.load_weights_from_distributed",
        "5921ee58",
        "refuse weight updates",
    ),
    _seam(
        "model_executor.model_runner.ModelRunner.check_weights",
        "18cdd389",
        "keep /weights_checker from overwriting weights",
    ),
    _seam(
        "managers.schedule_batch.Req.set_finish_with_abort",
        "a3e1c395",
        "refuse what came in past the tokenizer process",
    ),
    _seam(
        "managers.schedule_batch.Req.owned_kv_len",
        "fa6cfecd",
        "rely on releases stopping at a stop token inside a run",
    ),
    _seam(
        "managers.schedule_batch.Req.output_ids_through_stop",
        "property",
        "digest what the client sees",
    ),
    _seam(
        "managers.schedule_batch.Req.get_fill_ids",
        "750b4479",
        "rely on fill ids being prompt and committed output",
    ),
    _seam(
        "managers.schedule_policy.PrefillAdder.add_chunked_req",
        "a042445e",
        "rely on a chunk keeping its kind of batch",
    ),
    _seam(
        "managers.scheduler_components.batch_result_processor.SchedulerBatchResultProcessor.move_logprobs_to_cpu",
        "47955add",
        "a canonical prefill has no logits output to move",
    ),
    _seam(
        "managers.scheduler_components.batch_result_processor.SchedulerBatchResultProcessor._apply_prefill_logprobs",
        "5206a383",
        "hand over logprobs of canonical rows",
    ),
    _seam(
        "managers.scheduler_components.batch_result_processor.SchedulerBatchResultProcessor._apply_chunked_prefill_logprobs",
        "cac212d9",
        "hand over logprobs of canonical rows",
    ),
    _seam(
        "managers.scheduler_components.batch_result_processor.SchedulerBatchResultProcessor._apply_decode_logprobs",
        "b86cfe93",
        "hand over logprobs of canonical rows",
    ),
    _seam("managers.schedule_batch.ReqLogprob", "1b1e093d", "fill in logprobs of canonical rows"),
    _seam(
        "managers.schedule_batch.FINISH_MATCHED_TOKEN",
        "d22494de",
        "finish when the grammar is complete",
    ),
    _seam("managers.schedule_batch.FINISH_ABORT", "7b5f2ab7", "end a request whose grammar broke"),
    _seam(
        "constrained.base_grammar_backend.BaseGrammarObject.accept_token",
        "5d58dc56",
        "advance a grammar by committed tokens",
    ),
    _seam(
        "constrained.base_grammar_backend.BaseGrammarObject.rollback",
        "c13b8daa",
        "take candidates back from a grammar",
    ),
    _seam(
        "constrained.base_grammar_backend.BaseGrammarObject.is_terminated",
        "f4ca892d",
        "see that a grammar is complete",
    ),
    _seam(
        "constrained.base_grammar_backend.BaseGrammarObject.allocate_vocab_mask",
        "c41b2251",
        "mask one row",
    ),
    _seam(
        "constrained.base_grammar_backend.BaseGrammarObject.fill_vocab_mask",
        "19d2d310",
        "mask one row",
    ),
    _seam(
        "constrained.base_grammar_backend.BaseGrammarObject.move_vocab_mask",
        "2e106390",
        "mask one row",
    ),
    _seam(
        "constrained.base_grammar_backend.BaseGrammarObject.apply_vocab_mask",
        "c8fc996f",
        "mask one row",
    ),
    _seam(
        "managers.tokenizer_manager.TokenizerManager._send_one_request",
        "84ab4ade",
        "give each of n samples its seed",
    ),
)


if __name__ == "__main__":
    for row in SEAMS:
        print(f"{fingerprint(pkgutil.resolve_name(row.path)):>10}  {row.path}")

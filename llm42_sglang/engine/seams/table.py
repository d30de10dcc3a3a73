"""What is relied upon and not hooked: by module, the symbols and what they are needed to do.

    symbol  why

`Class{a,b}` is a class and two of its members, `Class.{a,b}` these members without the class. All
that is said of a class and its members is one row: one place to look at when SGLang changes.
GPU_TABLE has what only an attention backend on a GPU touches. Most of it cannot be imported without
one, so it has no signatures in signatures.txt, and only `llm42 doctor` and the tests look for it.
How to move to another SGLang: docs/bump.md.
"""
# ruff: noqa: E501

from llm42_sglang.engine.seam import Seam, seams_of

READ_FOR = "0.5.23"  # the SGLang whose code behind every row a person has read

TABLE = """\
sglang.srt.managers.scheduler
  Scheduler.event_loop_overlap  rely on result_queue and last_batch telling what is in flight
  Scheduler._get_new_batch_prefill_raw  rely on CONTINUE without adding passing over a request
  Scheduler.process_batch_result  drain the overlap loop before a pass
  Scheduler.collect_inflight_reqs  find the namesakes that run
sglang.srt.managers.data_parallel_controller
  DataParallelController  follow the replicas' schedulers
sglang.srt.managers.schedule_batch
  Req{next_output_finishes_by_length,reset_for_retract}  keep candidates beside output_ids
  Req.{update_finish_state,finished}  finish on committed tokens only
  Req.set_finish_with_abort  refuse what came in past the tokenizer process, and send no token of it
  Req.owned_kv_len  rely on releases stopping at a stop token, when more is verified
  Req.output_ids_through_stop  digest what the client sees
  Req.{get_fill_ids,refresh_fill_ids}  rely on fill ids being prompt and committed output, and make them prompt and claim
  Req._compute_max_prefix_len  draw from the prompt's last row, where a claim begins
  Req.{_check_str_based_finish,_locate_str_stop_finished_len}  rely on re.search being all that matches stop_regex
  ReqKvInfo  rewind the KV length after a rollback
  NextBatchPlan  return type of get_next_batch_to_run
  ScheduleBatch  describe a canonical pass, and a commit
  ReqLogprob  fill in logprobs of canonical rows
  FINISH_MATCHED_TOKEN  finish when the grammar is complete
  FINISH_ABORT  end a request whose grammar broke
sglang.srt.runtime_context
  get_observability  count for /metrics only where somebody reads it
  get_model  name the load format that nodes cannot compare
  get_parallel  find this scheduler's ranks
  get_serving  label metrics with the model
  SpawnRanks  load a model without a server, to measure passes
  publish  load a model without a server, to measure passes
sglang.benchmark.one_batch
  load_model  load a model without a server, to measure passes
sglang.srt.managers.schedule_policy
  AddReqResult  end a batch, or pass over a request, where the kinds would mix
  PrefillAdder.{add_one_req,add_chunked_req}  keep prefill batches homogeneous
  PrefillAdder.preempt_to_schedule  evict nobody for a request that the batch cannot take
sglang.srt.managers.utils
  GenerationBatchResult{copy_to_cpu}  return the tokens of a deterministic prefill, which has nothing else
  validate_input_length  refuse prompts for which the pool has no room, by Scheduler.max_req_input_len
  GenerationBatchResult.get_num_generated_tokens  count committed tokens only
sglang.srt.managers.overlap_utils
  FutureMap.stash  set the next decode input after a rollback
  RelayPayload  set the next decode input after a rollback
  resolve_forward_inputs  rely on decode inputs coming from the future map
sglang.srt.managers.tp_worker
  TpModelWorker.forward_batch_generation  stand in for the forward of deterministic prefill
sglang.srt.managers.scheduler_components.batch_result_processor
  SchedulerBatchResultProcessor.process_batch_result_decode  commit verified tokens
sglang.srt.managers.scheduler_components.output_streamer
  SchedulerOutputStreamer{_stream_output_generation}  say nothing for steps that committed nothing
  SchedulerOutputStreamer.{build_additional_customized_info,has_additional_customized_info}  add receipts
  SchedulerOutputStreamer.is_request_level_customized_info_key  send one receipt, not one per token
sglang.srt.mem_cache.common
  release_kv_cache  rely on skip_radix_cache_insert keeping provisional KV out of the tree
  checkpoint_kv_cache  rely on skip_radix_cache_insert keeping provisional KV out of the tree
sglang.srt.mem_cache.memory_pool
  ReqToTokenPool  use padding row 0 for dummy slots
  KVWriteLoc  write KV before attending
sglang.srt.mem_cache.allocator.paged
  PagedTokenToKVPoolAllocator  rely on whole pages and on page 0 being padding
sglang.srt.model_executor.forward_batch_info
  ForwardBatch.init_new  build a canonical pass
  ForwardMode  run canonical passes in EXTEND mode
sglang.srt.model_executor.model_runner
  ModelRunner{forward}  run canonical passes
  ModelRunner._forward_raw  rely on a prefill being eager where there is no graph runner
  ModelRunner.check_weights  keep /weights_checker from overwriting weights
  ModelRunnerOutput  give the logits of a pass, and whether it was replayed
sglang.srt.speculative.spec_info
  SpeculativeAlgorithm.NONE  name the absence of a draft model
sglang.srt.sampling.sampling_params
  SamplingParams  read a request's sampling parameters
sglang.srt.managers.io_struct
  GenerateReqInput  read a request before it is tokenized
  AbortReq  end the request that an abort names, and no namesake
  TokenizedGenerateReqInput  read a request after it is tokenized
  ProfileReqOutput  refuse a profile that cannot be made
  PauseGenerationReqInput  retract requests before weights change
  ContinueGenerationReqInput  let them go on
  UpdateWeightVersionReqInput  show the weight version among the facts
  UpdateWeightVersionReqOutput  answer that the version has changed
  UpdateWeightFromDiskReqInput  tell the kinds of updates apart
  UpdateWeightsFromTensorReqInput  tell the kinds of updates apart
  UpdateWeightsFromDistributedReqInput  tell the kinds of updates apart
  UpdateWeightsFromIPCReqInput  tell the kinds of updates apart
  BeginWeightUpdateReqInput  tell the kinds of updates apart
  EndWeightUpdateReqInput  tell the kinds of updates apart
  UpdateWeightFromDiskReqOutput  answer that an update has failed
  UpdateWeightsFromTensorReqOutput  answer that an update has failed
  UpdateWeightsFromDistributedReqOutput  answer that an update has failed
  UpdateWeightsFromIPCReqOutput  answer that an update has failed
  BeginWeightUpdateReqOutput  answer that an update has failed
  EndWeightUpdateReqOutput  answer that an update has failed
sglang.srt.mem_cache.base_prefix_cache
  BasePrefixCache.{evict,evictable_size}  free the pages of old weights
  EvictParams  free the pages of old weights
sglang.srt.managers.tokenizer_manager
  ReqState  keep the messages of a deterministic stream apart
  ServerStatus.Starting  tell a server that starts from one that is busy
sglang.srt.entrypoints.engine
  SchedulerInitResult  check that the scheduler's hooks are live
  SchedulerInitResult.block_until_scheduler_exits  fail with a scheduler of a node without a front
  Engine{shutdown}  serve the program that starts it, one Engine at a time
  Engine.server_args_class  check the arguments before anything starts
  Engine._launch_scheduler_processes  outlive a process that fails at the start
sglang.srt.entrypoints.http_server
  app  gate /health, and fields that nobody reads
sglang.srt.configs.model_config
  ModelConfig.get_default_sampling_params  fingerprint what a request draws with where it does not say
sglang.srt.server_args
  ServerArgs  read the server's flags
  prepare_server_args  parse the server's flags
  PortArgs  load a model without a server, to measure passes
sglang.srt.arg_groups.overrides
  attention_backends_of  read the server's flags
  resolving_view  read the server's flags
sglang.srt.plugins
  load_plugins  load the plugin before the flags are parsed
sglang.srt.plugins.hook_registry
  HookRegistry.register  hook
  HookRegistry._patched  check that hooks were applied
  HookType  hook
sglang.srt.utils.network
  NetworkAddress  find the address where nodes meet
sglang.srt.utils
  kill_process_tree  leave no child process behind
sglang.launch_server
  run_server  serve
sglang.version
  __version__  fingerprint
sglang.srt.layers.attention.attention_registry
  register_attention_backend  name the CPU attention backend
sglang.srt.layers.attention.hybrid_attn_backend
  HybridAttnBackend  find the backend of extends
sglang.srt.layers.attention.torch_native_backend
  TorchNativeAttnBackend{init_forward_metadata}  build the CPU attention backend on it, plan once per forward
  TorchNativeAttnBackend.{forward_extend,forward_decode}  attend in O(new rows * context), without a loop over requests
sglang.srt.layers.radix_attention
  AttentionType  tell plain causal attention from the rest
  RadixAttention  read a layer's heads and scale
  RadixAttention._eager_attention  rely on attention running outside of a graph
sglang.srt.mem_cache.swa_memory_pool
  SWAKVPool.translate_loc_from_full_to_swa  find a windowed layer's KV slots
sglang.srt.model_executor.runner.prefill_cuda_graph_runner
  PrefillCudaGraphRunner  know which numbers of rows it has captured
  PrefillCudaGraphRunner._execute_body_capture  rely on the head staying outside of a graph
  PrefillCudaGraphRunner._next_token_logits_buffer  give a replayed pass logits of its own
  PrefillCudaGraphRunner._prepare_forward_metadata_for_replay  rely on attention being planned for each replay
sglang.srt.model_executor.runner_backend.breakable_cuda_graph_backend
  BreakableCudaGraphBackend  tell graphs that leave attention outside
sglang.srt.layers.moe.token_dispatcher
  StandardCombineInput  compute experts in mixed precision
  StandardDispatchOutput  compute experts in mixed precision
sglang.srt.layers.moe.topk
  StandardTopKOutput  read a row's experts
sglang.srt.layers.quantization.unquant
  UnquantizedEmbeddingMethod.embedding  keep embeddings in the model's precision
  UnquantizedEmbeddingMethod.apply  compute the language-model head in fp32
  UnquantizedLinearMethod.apply  compute linears in mixed precision
  UnquantizedLinearMethod.process_weights_after_loading  rely on writes by PyTorch's operators only
  UnquantizedFusedMoEMethod.process_weights_after_loading  rely on writes by PyTorch's operators only
  UnquantizedFusedMoEMethod{apply}  compute experts in mixed precision
sglang.srt.layers.moe.fused_moe_triton.layer
  FusedMoE  tell models with experts
sglang.srt.layers.logits_processor
  fused_softcap  cap logits without Triton
sglang.srt.models.qwen2_moe
  fused_gate_sigmoid_mul_add  gate the shared expert without Triton
sglang.srt.platforms.cpu
  CpuDeviceMixin.get_device  describe the CPU
sglang.srt.platforms.device_mixin
  PlatformEnum.OOT  declare an out-of-tree platform
sglang.srt.platforms.interface
  SRTPlatform.{apply_server_args_defaults,get_default_attention_backend}  choose the CPU attention backend
  SRTPlatform.init_backend  register the CPU attention backend
  SRTPlatform.post_load_model  replace linears and experts of a loaded model
sglang.srt.constrained.base_grammar_backend
  BaseGrammarObject.accept_token  advance a grammar by committed tokens
  BaseGrammarObject.rollback  take candidates back from a grammar
  BaseGrammarObject.is_terminated  see that a grammar is complete
  BaseGrammarObject.{allocate_vocab_mask,fill_vocab_mask,move_vocab_mask,apply_vocab_mask}  mask one row
"""

GPU_TABLE = """\
sglang.srt.layers.attention.flashinfer_backend
  FlashInferAttnBackend  replace its paged prefill wrappers during a canonical pass
  FlashInferAttnBackend.init_forward_metadata  rely on use_paged leaving the ragged kernel out
  FlashInferAttnBackend.forward_extend  rely on KV being written before the paged kernel attends
  FlashInferIndicesUpdaterPrefill.call_begin_forward  rely on plans being made by begin_forward
sglang.srt.layers.attention.flashattention_backend
  FlashAttentionBackend.forward_extend  rely on num_splits being read at every call
sglang.srt.layers.attention.triton_backend
  TritonAttnBackend.forward_extend  rely on extend attention never splitting a context
sglang.kernels.ops.attention.extend_attention
  extend_attention_fwd  rely on extend attention never splitting a context
  _fwd_kernel  rely on extend attention never splitting a context
"""


def parse(table: str) -> tuple[Seam, ...]:
    """The symbols of a table."""
    seams: list[Seam] = []
    module = ""
    for line in table.splitlines():
        if not line.startswith(" "):
            module = line
            continue
        notation, why = line.split(maxsplit=1)
        seams += seams_of(f"{module}.{notation}", why)
    return tuple(seams)


RELIED_UPON = parse(TABLE)
GPU_SEAMS = parse(GPU_TABLE)

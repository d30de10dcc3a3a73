"""The table: by module, one row a symbol.

    signature  symbol  what it is needed to do

A second signature after a bar is that of the symbol as `llm42 patch` changes it. GPU_TABLE has what
only an attention backend on a GPU touches. Most of it cannot be imported without one, so its rows
have no signature, and only `llm42 doctor` and the tests look for them. How to move the table to
another SGLang: docs/bump.md.
"""
# ruff: noqa: E501

from llm42_sglang.engine.seams.seam import Seam

READ_FOR = "0.5.23"  # the SGLang whose code behind every row a person has read

TABLE = """\
sglang.srt.managers.scheduler
  86a9d694  Scheduler  replace it by DeterministicScheduler
  f585c563  Scheduler._create_generation_req  make deterministic requests DeterministicReq
  1de39e09  Scheduler.get_prefill_adder_class  keep prefill batches homogeneous
  a9666046  Scheduler.get_output_streamer_class  stream committed tokens only, add receipts
  f4ca892d  Scheduler.init_tp_model_worker  send deterministic prefill to the canonical lane
  98138ca5  Scheduler.get_next_batch_to_run  verify between decode steps
  702bce92  Scheduler.get_init_info  prove that the hooks are live
  e69881a3  Scheduler._should_defer_prefill  give a decode step between prompts of which one is deterministic
  e2b03b38  Scheduler._get_new_batch_prefill_raw  rely on CONTINUE without adding passing over a request
  a066db4d  Scheduler.run_batch  settle due pages that rode in prefill passes, release streams
  016c3880  Scheduler.process_batch_result  drain the overlap loop before a pass
  f4ca892d  Scheduler.event_loop_overlap  rely on result_queue and last_batch telling what is in flight
  2dabf34c  Scheduler.abort_request  end the request that an abort names, and no namesake
  50939637  Scheduler.collect_inflight_reqs  find the namesakes that run
  c3b6ad8b  Scheduler.run_event_loop  end the server when its ranks disagree
sglang.srt.managers.data_parallel_controller
  6f34c22a  DataParallelController  follow the replicas' schedulers
  21fe5610  DataParallelController.get_init_info  prove that the hooks are live in every replica
  31a94ed7  DataParallelController.launch_dp_schedulers  leave with a replica that fails
sglang.srt.managers.schedule_batch
  47bbe67b  Req  keep candidates beside output_ids
  f3f9c088  Req.update_finish_state  finish on committed tokens only
  f4ca892d  Req.reset_for_retract  drop candidates on retraction
  a6632a57  Req.finished  skip finished requests
  45294e04  ReqKvInfo  rewind the KV length after a rollback
  0734f51b  NextBatchPlan  return type of get_next_batch_to_run
  958b29b9  ScheduleBatch  describe a canonical pass, and a commit
  a6632a57  Req.next_output_finishes_by_length  decode on until a canonical pass has confirmed the length
  a3e1c395  Req.set_finish_with_abort  refuse what came in past the tokenizer process
  fa6cfecd  Req.owned_kv_len  rely on releases stopping at a stop token, when more is verified
  property  Req.output_ids_through_stop  digest what the client sees
  750b4479  Req.get_fill_ids  rely on fill ids being prompt and committed output
  f3f9c088  Req._check_str_based_finish  rely on re.search being all that matches stop_regex
  d87431a7  Req._locate_str_stop_finished_len  rely on re.search being all that matches stop_regex
  1b1e093d  ReqLogprob  fill in logprobs of canonical rows
  15624dcf  FINISH_MATCHED_TOKEN  finish when the grammar is complete
  7b5f2ab7  FINISH_ABORT  end a request whose grammar broke
sglang.srt.runtime_context
  20468c83  get_observability  count for /metrics only where somebody reads it
  d4466233  get_parallel  find this scheduler's ranks
  20468c83  get_serving  label metrics with the model
  f9598df9  SpawnRanks  load a model without a server, to measure passes
  7f3f3356  publish  load a model without a server, to measure passes
sglang.benchmark.one_batch
  6dc399a4  load_model  load a model without a server, to measure passes
sglang.srt.managers.schedule_policy
  4238df50  AddReqResult  end a batch, or pass over a request, where the kinds would mix
  5fbe8529  PrefillAdder.add_one_req  keep prefill batches homogeneous
  59295100  PrefillAdder.preempt_to_schedule  evict nobody for a request that the batch cannot take
  a042445e  PrefillAdder.add_chunked_req  rely on a chunk keeping its kind of batch
sglang.srt.managers.utils
  3af99a54  GenerationBatchResult  return the tokens of a deterministic prefill
  7bac0852  GenerationBatchResult.get_num_generated_tokens  count committed tokens only
  5e86b1ce  GenerationBatchResult.copy_to_cpu  copy the tokens of a deterministic prefill, which has nothing else
sglang.srt.managers.overlap_utils
  6b0c5951  FutureMap.stash  set the next decode input after a rollback
  7a98a54f  RelayPayload  set the next decode input after a rollback
  c0abb941  resolve_forward_inputs  rely on decode inputs coming from the future map
sglang.srt.managers.tp_worker
  7cc9d237  TpModelWorker.forward_batch_generation  stand in for the forward of deterministic prefill
sglang.srt.managers.scheduler_components.batch_result_processor
  a445d2ee  SchedulerBatchResultProcessor  replace it by DeterministicResultProcessor
  fdb46246  SchedulerBatchResultProcessor._normalize_decode_outputs  divert deterministic rows into candidates
  21b196f4  SchedulerBatchResultProcessor.process_batch_result_decode  commit verified tokens
  00452945  SchedulerBatchResultProcessor._handle_finish_state_updated_req  audit pages while their request holds them
  47955add  SchedulerBatchResultProcessor.move_logprobs_to_cpu  a canonical prefill has no logits output to move
  5206a383  SchedulerBatchResultProcessor._apply_prefill_logprobs  hand over logprobs of canonical rows
  cac212d9  SchedulerBatchResultProcessor._apply_chunked_prefill_logprobs  hand over logprobs of canonical rows
  3ceb881d  SchedulerBatchResultProcessor._apply_decode_logprobs  hand over logprobs of canonical rows
sglang.srt.managers.scheduler_components.output_streamer
  ecda8481  SchedulerOutputStreamer  subclass it
  05fa24f8  SchedulerOutputStreamer._stream_output_generation  say nothing for steps that committed nothing; hold streams for a forward
  fe1ccc2a  SchedulerOutputStreamer.build_additional_customized_info  add receipts
  bool  SchedulerOutputStreamer.has_additional_customized_info  add receipts
  1eda252b  SchedulerOutputStreamer.is_request_level_customized_info_key  send one receipt, not one per token
sglang.srt.managers.scheduler_components.profiler_manager
  0ffe8ec4  SchedulerProfilerManager._profile  refuse a profile that cannot be made
  bcf6e47c  SchedulerProfilerManager._profile_batch_predicate  give up a profile that cannot be made
sglang.srt.mem_cache.common
  78f658ad  release_kv_cache  rely on skip_radix_cache_insert keeping provisional KV out of the tree
  7b7ef267  checkpoint_kv_cache  rely on skip_radix_cache_insert keeping provisional KV out of the tree
sglang.srt.mem_cache.memory_pool
  4e1d69c2  ReqToTokenPool  use padding row 0 for dummy slots
  0e29328a  KVWriteLoc  write KV before attending
sglang.srt.mem_cache.allocator.paged
  c7652106  PagedTokenToKVPoolAllocator  rely on whole pages and on page 0 being padding
sglang.srt.model_executor.forward_batch_info
  ddc84c2e  ForwardBatch.init_new  build a canonical pass
  bf57b421  ForwardMode  run canonical passes in EXTEND mode
sglang.srt.model_executor.model_runner
  ea2e677e  ModelRunner  run canonical passes
  438ce8e7  ModelRunner.forward  run canonical passes, and decode steps that carry pages; inject step faults in tests
  851ee1d5  ModelRunnerOutput  give the output of a decode step that carries pages
  77fde65d  ModelRunner._forward_raw  rely on a prefill being eager where there is no graph runner
  dd03f88d  ModelRunner.sample  propose for rows that sample, and inject the decode fault in tests
  18cdd389  ModelRunner.check_weights  keep /weights_checker from overwriting weights
sglang.srt.layers.logits_processor
  8d1ece16  LogitsProcessor._get_pruned_states  get the logits of every row of a pass
sglang.srt.layers.sampler
  23a8c59f  Sampler._sample_from_probs  draw from a row that has no token left
sglang.srt.speculative.spec_info
  0faa018c  SpeculativeAlgorithm  name the absence of a draft model
sglang.srt.sampling.sampling_params
  aa91d8ff|590ed2b0  SamplingParams  read a request's sampling parameters
  312d003d           CustomParamValue  refuse custom parameters that do not survive the way to the scheduler
  int                TOP_K_ALL  tell a top_k that was not asked for
sglang.srt.managers.io_struct
  4fec8516  GenerateReqInput  read a request before it is tokenized
  89f5af36  AbortReq  end the request that an abort names, and no namesake
  7496c552  TokenizedGenerateReqInput  read a request after it is tokenized
  9945498d  ProfileReqOutput  refuse a profile that cannot be made
sglang.srt.managers.tokenizer_manager
  d0549527  TokenizerManager._create_tokenized_object  refuse or mark requests
  2a2b5e1f  TokenizerManager._tokenize_texts  make tokens of a long text in a thread
  d694f944  TokenizerManager.update_request_meta_info  put the receipt into meta_info
  f227a69c  TokenizerManager.generate_request  check OpenAI requests and collect their receipts
  583fc4d8  TokenizerManager.abort_request  end all whose names begin so, where a star asks for that
  337b513d  TokenizerManager._collect_batch_responses  let one of several results be an error
  a8a8d9e9  TokenizerManager._handle_abort_finish_reason  let one of several results be an error
  c57ad525  TokenizerManager._send_one_request  give each of n samples its seed
  c55a603a  TokenizerManager._send_batch_request  keep the messages of a deterministic stream apart
  ca2dbf3a  TokenizerManager._stream_one_response  read a deterministic stream message by message
  de201380  ReqState  keep the messages of a deterministic stream apart
  986e381a  ServerStatus  tell a server that starts from one that is busy
sglang.srt.entrypoints.openai.serving_chat
  3c868afe  OpenAIServingChat.handle_request  stamp /v1/chat/completions
sglang.srt.entrypoints.openai.serving_completions
  3c868afe  OpenAIServingCompletion.handle_request  stamp /v1/completions
sglang.srt.entrypoints.openai.serving_responses
  c7cadc03  OpenAIServingResponses.create_responses  stamp /v1/responses
  a3963ba7  OpenAIServingResponses._generate_with_builtin_tools  refuse before /v1/responses opens a stream
sglang.srt.entrypoints.openai.serving_tokenize
  86901025  OpenAIServingTokenize._handle_non_streaming_request  make tokens of a long text in a thread
  0325376e  OpenAIServingDetokenize._handle_non_streaming_request  make a text of many tokens in a thread
sglang.srt.function_call.function_call_parser
  0dcdfab6  FunctionCallParser.parse_non_stream  end a parse that takes too long
  56e8a2b8  FunctionCallParser.parse_stream_chunk  end a parse that takes too long
  881b8cf0  FunctionCallParser.parse_stream_end  end a parse that takes too long
  c7d96d53  FunctionCallParser.has_tool_call  end a parse that takes too long
sglang.srt.parser.reasoning_parser
  6e5ba6ed  ReasoningParser.parse_non_stream  end a parse that takes too long
  3977f816  ReasoningParser.parse_non_stream_blocks  end a parse that takes too long
  2542aa23  ReasoningParser.parse_stream_chunk  end a parse that takes too long
  81a47444  ReasoningParser.parse_stream_end  end a parse that takes too long
sglang.srt.entrypoints.engine
  fff0a78a  Engine._launch_subprocesses  check that the scheduler's hooks are live
  7e7f08c4  SchedulerInitResult  check that the scheduler's hooks are live
sglang.srt.entrypoints.http_server
  daad781f  serve_generate_request  refuse before SGLang looks at the request
  e81d5322  generate_contract_error  let the native field pass SGLang's schema of /generate
  82386a7f  _create_error_response  refuse before SGLang looks at the request
  f779cf80  _setup_and_run_http_server  gate /health, and fields that nobody reads
  0472bfbd  app  gate /health, and fields that nobody reads
sglang.srt.configs.model_config
  07870b31  ModelConfig.get_default_sampling_params  fingerprint what a request draws with where it does not say
sglang.srt.server_args
  45a41d60  ServerArgs  read the server's flags
  10a3fbd1  prepare_server_args  parse the server's flags
  7beed5f4  PortArgs  load a model without a server, to measure passes
sglang.srt.arg_groups.overrides
  8c1bb88e  attention_backends_of  read the server's flags
  1a6c1b39  resolving_view  read the server's flags
sglang.srt.plugins.hook_registry
  43ce9178  HookRegistry.register  hook
  set       HookRegistry._patched  check that hooks were applied
  11189b33  HookType  hook
sglang.launch_server
  87875d98  run_server  serve
sglang.srt.layers.attention.attention_registry
  8870d0c6  register_attention_backend  name the CPU attention backend
sglang.srt.layers.attention.base_attn_backend
  2e38e77b  AttentionBackend  run it in canonical mode
sglang.srt.layers.attention.hybrid_attn_backend
  71310cb4  HybridAttnBackend  find the backend of extends
sglang.srt.layers.attention.torch_native_backend
  a2159e27  TorchNativeAttnBackend  build the CPU attention backend on it
  75974d04  TorchNativeAttnBackend.forward_extend  attend in O(new rows * context)
  75974d04  TorchNativeAttnBackend.forward_decode  attend without a loop over requests
  a5e6055b  TorchNativeAttnBackend.init_forward_metadata  plan once per forward
sglang.srt.model_executor.runner.prefill_cuda_graph_runner
  a2159e27  PrefillCudaGraphRunner  know which numbers of rows it has captured
  8dcc1aa2  PrefillCudaGraphRunner._execute_body_capture  rely on the head staying outside of a graph
  ecf82b63  PrefillCudaGraphRunner._next_token_logits_buffer  give a replayed pass logits of its own
  4ca3cb6c  PrefillCudaGraphRunner._prepare_forward_metadata_for_replay  rely on attention being planned for each replay
sglang.srt.model_executor.runner_backend.breakable_cuda_graph_backend
  80ba5fe8  BreakableCudaGraphBackend  tell graphs that leave attention outside
sglang.srt.layers.moe
  0c531a58  MoeRunnerConfig  read a layer's activation
sglang.srt.layers.moe.fused_moe_native
  1177218a  moe_forward_native  give every expert a fixed number of rows in canonical passes
sglang.srt.layers.moe.token_dispatcher
  33915489  StandardCombineInput  compute experts in mixed precision
  ccd63263  StandardDispatchOutput  compute experts in mixed precision
sglang.srt.layers.moe.topk
  6a36e2c3  StandardTopKOutput  read a row's experts
sglang.srt.layers.quantization.unquant
  2e38e77b  UnquantizedEmbeddingMethod  compute the language-model head in fp32
  ffd614e8  UnquantizedEmbeddingMethod.embedding  keep embeddings in the model's precision
  49bdb924  UnquantizedEmbeddingMethod.apply  compute the language-model head in fp32
  2e38e77b  UnquantizedLinearMethod  compute linears in mixed precision
  49bdb924  UnquantizedLinearMethod.apply  compute linears in mixed precision
  bdc51dcf  UnquantizedFusedMoEMethod  compute experts in mixed precision
  aac07a86  UnquantizedFusedMoEMethod.apply  compute experts in mixed precision
sglang.srt.layers.radix_attention
  49a59231  AttentionType  tell plain causal attention from the rest
  c3fc5486  RadixAttention  read a layer's heads and scale
  e0eeef3f  RadixAttention._eager_attention  rely on attention running outside of a graph
sglang.srt.mem_cache.swa_memory_pool
  c3bd4ab6  SWAKVPool.translate_loc_from_full_to_swa  find a windowed layer's KV slots
sglang.srt.platforms.cpu
  2e38e77b  CpuDeviceMixin  describe the CPU
  8e806653  CpuDeviceMixin.get_device  describe the CPU
sglang.srt.platforms.device_mixin
  733f97e3  PlatformEnum  declare an out-of-tree platform
sglang.srt.platforms.interface
  2e38e77b  SRTPlatform  declare an out-of-tree platform
  c3db51b2  SRTPlatform.apply_server_args_defaults  choose the CPU attention backend
  bb418bb7  SRTPlatform.get_default_attention_backend  choose the CPU attention backend
  b60c5fea  SRTPlatform.init_backend  register the CPU attention backend
  7d8992aa  SRTPlatform.post_load_model  replace linears and experts of a loaded model
sglang.srt.plugins
  2e38e77b  load_plugins  load the plugin before the flags are parsed
sglang.srt.utils
  e22c7afd  kill_process_tree  leave no child process behind
sglang.version
  str  __version__  fingerprint
sglang.srt.model_executor.model_runner_components.weight_updater
  76ece541  WeightUpdater  refuse weight updates
  59623f76  WeightUpdater.update_weights_from_disk  refuse weight updates
  090dd9ac  WeightUpdater.update_weights_from_tensor  refuse weight updates
  1a211715  WeightUpdater.update_weights_from_ipc  refuse weight updates
  5921ee58  WeightUpdater.load_weights_from_distributed  refuse weight updates
  13bef4ac  WeightUpdater.begin_weight_update  refuse weight updates
  082e4d87  WeightUpdater.end_weight_update  refuse weight updates
sglang.srt.constrained.base_grammar_backend
  5d58dc56  BaseGrammarObject.accept_token  advance a grammar by committed tokens
  c13b8daa  BaseGrammarObject.rollback  take candidates back from a grammar
  f4ca892d  BaseGrammarObject.is_terminated  see that a grammar is complete
  c41b2251  BaseGrammarObject.allocate_vocab_mask  mask one row
  19d2d310  BaseGrammarObject.fill_vocab_mask  mask one row
  2e106390  BaseGrammarObject.move_vocab_mask  mask one row
  c8fc996f  BaseGrammarObject.apply_vocab_mask  mask one row
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


def parse(table: str, signed: bool = True) -> tuple[Seam, ...]:
    """The rows of a table, whose first column is the signature if it is `signed`."""
    seams = []
    module = ""
    for line in table.splitlines():
        if not line.startswith(" "):
            module = line
            continue
        signatures, name, why = (line if signed else f"- {line}").split(maxsplit=2)
        signature, _, patched = signatures.partition("|")
        seams.append(Seam(f"{module}.{name}", signature, why, patched or None))
    return tuple(seams)


SEAMS: tuple[Seam, ...] = parse(TABLE)
GPU_SEAMS: tuple[Seam, ...] = parse(GPU_TABLE, signed=False)

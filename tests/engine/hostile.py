"""Requests that nobody should send: each must be answered, by 200 or by a 4xx of one line.

Tables of what is wrong, times the endpoints and the two kinds of request. V is the vocabulary of
the test models.
"""

from typing import Any, NamedTuple

V = 49152
HUGE = 10**9
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "Hi"}]
# json.dumps writes them as NaN and Infinity, as many clients do.
NAN, INFINITY = float("nan"), float("inf")


class Hostile(NamedTuple):
    """One request."""

    path: str
    body: Any
    method: str = "POST"


SAMPLING: dict[str, list] = {
    "n": [0, -1, 65, 600, 20000, HUGE, 2**70, True, "2", 1.5],
    "max_new_tokens": [-1, HUGE, 2**70, "6", 1.5, True],
    "min_new_tokens": [-1, HUGE, "6", 1.5],
    "temperature": [NAN, INFINITY, -1, "hot", True],
    "top_p": [0, 2, NAN, "most"],
    "top_k": [0, -2, 2**70, 1.5, "few"],
    "min_p": [-1, 2, NAN],
    "frequency_penalty": [NAN, INFINITY, 3],
    "presence_penalty": [NAN, -3],
    "repetition_penalty": [NAN, 0, INFINITY, 1e-46],
    "stop": ["x" * 100_000, ["x"] * 1000, [1], 5, ""],
    "stop_token_ids": [[-1], [V], [2**70], ["a"], [1] * 100_000, 7],
    "stop_regex": [
        "(a+)+b",
        "(a|a)*b",
        "(",
        "(?=a)b",
        r"(a)\1",
        "(a{1000}){1000}",
        ["a"] * 1000,
        "x" * 100_000,
        5,
    ],
    "regex": [
        "(?<x>a)" + "(a?)" * 300,
        "(.?)" * 20,
        "(a{1000}){1000}",
        "(a?)" * 300,
        "([a-z]{0,100}){0,100}",
        "(" * 500,
        "(",
        "*",
        5,
    ],
    "json_schema": [
        '{"a":' * 5000 + "1" + "}" * 5000,
        "{",
        "[]",
        '{"pattern": "' + "(a?)" * 200 + '"}',
    ],
    "ebnf": [
        "root ::= " + '"a"? ' * 300,
        "root ::= root",
        "root ::=",
        '("a"{1000}){1000}',
        "root ::= " + "(" * 500,
    ],
    "structural_tag": ["{", "[]", '{"type": "structural_tag"}'],
    "logit_bias": [
        {"-1": 1},
        {str(V): 1},
        {"a": 1},
        {"5": NAN},
        {"5": 1e299},
        {f"{i:0{width}}": 1 for i in range(10_000) for width in range(5, 15)},
        {"5": "much"},
        [1],
    ],
    "sampling_seed": [2**70, "seed", 1.5],
    "ignore_eos": ["yes", 3],
    "beam_width": [0, -1, HUGE],
    "stream_interval": [-1, "often"],
    "custom_params": [5, [1], {"a": [[1]]}],
    "unheard_of": [1],
}
# Ordinary ones, one by one in a batch with a stream: no token is left, and torch would raise.
NOTHING_LEFT = [
    {"ebnf": "root ::= root", "temperature": 1, "ignore_eos": True},
    {"ebnf": "root ::= root", "temperature": 1, "top_k": 5},
    {"ebnf": "root ::= root", "temperature": 1, "top_p": 0.5, "min_p": 0.1},
    {"regex": "(ab)", "temperature": 1, "min_new_tokens": 8, "max_new_tokens": 8},
    {"regex": "(a)", "temperature": 1, "logit_bias": {"81": -1e39}},
]
GENERATE: list[dict] = [
    {},
    {"text": ""},
    {"text": []},
    {"text": ["", "Hi"]},
    {"text": 5},
    {"text": [5]},
    {"text": "Hi", "input_ids": []},
    {"text": "a " * 500_000},
    {"text": ["Hi"] * 2000},
    {"input_ids": []},
    {"input_ids": [[]]},
    {"input_ids": [[1], []]},
    {"input_ids": [-1]},
    {"input_ids": [V]},
    {"input_ids": [2**40]},
    {"input_ids": [2**70]},
    {"input_ids": [True]},
    {"input_ids": [1.5]},
    {"input_ids": ["a"]},
    {"input_ids": [5, [6]]},
    {"input_ids": [[[5]]]},
    {"input_ids": [5] * 100_000},
    {"input_embeds": []},
    {"input_embeds": [[0.5]]},
    {"text": "Hi", "sampling_params": []},
    {"text": "Hi", "sampling_params": 5},
    {"text": ["a", "b"], "sampling_params": [{}]},
    {"text": "Hi", "rid": ""},
    {"text": "Hi", "rid": "x" * 100_000},
    {"text": "Hi", "rid": 5},
    {"text": "Hi", "rid": "\0"},
    {"text": "Hi", "rid": ["a"] * 100_000},
    {"text": "Hi", "x": {f"k{i}": 1 for i in range(300_000)}},
    {"text": ["a"] * 300_000},
    {"text": "Hi", "rid": "HEALTH_CHECK_mine"},
    {"text": ["a", "b"], "rid": ["one", "one"]},
    {"text": "Hi", "priority": 2**70},
    {"text": "Hi", "priority": "first"},
    {"text": "Hi", "lora_path": "none"},
    {"text": "Hi", "session_params": {"id": "none"}},
    {"text": "Hi", "session_params": {"id": 5, "offset": "x"}},
    {"text": "Hi", "routed_dp_rank": 7},
    {"text": "Hi", "bootstrap_room": 2**70},
    {"text": "Hi", "image_data": "nowhere"},
    {"text": "Hi", "multi_item_delimiter_indices": [[99999]]},
    {"text": "Hi", "token_indices_to_pool": [99999]},
    {"text": "Hi", "positional_embed_overrides": {"a": 1}},
    {"text": "Hi", "custom_logit_processor": "{}"},
]
LOGPROBS: list[dict] = [
    {"top_logprobs_num": 60000},
    {"top_logprobs_num": -1},
    {"top_logprobs_num": 2**70},
    {"top_logprobs_num": True},
    {"top_logprobs_num": [1, 2]},
    {"token_ids_logprob": [-1]},
    {"token_ids_logprob": [V]},
    {"token_ids_logprob": [5] * 100_000},
    {"token_ids_logprob": ["a"]},
    {"token_ids_logprob": [None] * 300_000},
    {"top_logprobs_num": 20, "sampling_params": {"n": 64, "max_new_tokens": 8000}},
    {"logprob_start_len": -2},
    {"logprob_start_len": HUGE},
    {"logprob_start_len": 2**70},
]
CHATS: list[dict] = [
    {"messages": []},
    {"messages": "Hi"},
    {"messages": [{"role": "nobody", "content": "Hi"}]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": 5}]},
    {"logprobs": True, "top_logprobs": 60000},
    {"logprobs": True, "top_logprobs": -1},
    {"n": 600},
    {"n": 0},
    {"max_tokens": -1},
    {"stop": ["x"] * 1000},
    {"logit_bias": {str(V): 1}},
    {"response_format": {"type": "json_schema"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 5}}},
    {"tools": [{"type": "function"}]},
    {"tools": [], "tool_choice": "required"},
    {"tool_choice": {"type": "function", "function": {"name": "none"}}},
    {"stop_regex": "(a+)+b"},
    {"stop_regex": "("},
    {"chat_template_kwargs": 5},
]
PROMPTS: list[dict] = [
    {"prompt": [-1]},
    {"prompt": [V]},
    {"prompt": [[V]]},
    {"prompt": ""},
    {"prompt": []},
    {"prompt": [""]},
    {"prompt": [[]]},
    {"prompt": ["Hi"] * 2000},
    {"prompt": "Hi", "logprobs": 60000},
    {"prompt": "Hi", "logprobs": -1},
    {"prompt": "Hi", "n": 20000},
    {"prompt": "Hi", "best_of": 20000},
    {"prompt": "Hi", "suffix": 5},
    {"prompt": "Hi", "echo": True, "logprobs": 60000},
]
MORE = ", ".join(f"a{i}=1" for i in range(26))
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
# No body, or one that is well; in every state that a profile can be in.
PROFILES: list[tuple] = [
    ("/start_profile", None, "GET"),
    ("/start_profile", None),
    ("/start_profile", {}),
    ("/start_profile", {"start_step": 1, "num_steps": 1}),
    ("/start_profile", {"profile_by_stage": True, "num_steps": 1}),
    ("/generate", {"text": "Hi", "sampling_params": {"max_new_tokens": 4}}),
    ("/start_profile", {"activities": ["CPU"]}),
    ("/start_profile", {"profile_by_stage": True, "num_steps": 2}),
    ("/stop_profile", None),
    ("/stop_profile", None, "GET"),
]
OTHERS: list[tuple] = [
    ("/release_memory_occupation", {}),
    ("/resume_memory_occupation", {}),
    ("/resume_memory_occupation", {"tags": ["none"]}),
    ("/stop_profile", {}),
    ("/start_profile", {"activities": ["RPD"]}),
    ("/start_profile", {"output_dir": "/nowhere/at/all"}),
    ("/start_profile", {"num_steps": -1}),
    ("/start_profile", {"profile_prefix": "../../x"}),
    ("/start_profile", [1]),
    ("/start_expert_distribution_record", {}),
    ("/stop_expert_distribution_record", {}),
    ("/dump_expert_distribution_record", {}),
    ("/update_weights_from_disk", {}),
    ("/update_weights_from_disk", {"model_path": "/nowhere"}),
    ("/update_weights_from_tensor", {"serialized_named_tensors": ["x"]}),
    ("/update_weights_from_distributed", {"names": [], "dtypes": [], "shapes": []}),
    ("/update_weights_from_ipc", {"zmq_handles": {}}),
    ("/init_weights_update_group", {"master_address": "nowhere", "master_port": 1}),
    ("/destroy_weights_update_group", {"group_name": "none"}),
    ("/begin_weight_update", {}),
    ("/end_weight_update", {}),
    ("/send_weights_to_remote_instance", {}),
    ("/get_weights_by_name", {"name": ""}),
    ("/get_weights_by_name", {"name": "none", "truncate_size": -5}),
    ("/get_weights_by_name", {"name": "model.norm.weight", "truncate_size": HUGE}),
    ("/weights_checker", {"action": "none"}),
    ("/load_lora_adapter", {"lora_name": "a", "lora_path": "/nowhere"}),
    ("/unload_lora_adapter", {"lora_name": "a"}),
    ("/load_lora_adapter_from_tensors", {}),
    ("/open_session", {"capacity_of_str_len": -1}),
    ("/close_session", {"session_id": "none"}),
    ("/slow_down", {"forward_sleep_time": -1}),
    ("/slow_down", {"forward_sleep_time": HUGE}),
    ("/slow_down", {"forward_sleep_time": "long"}),
    ("/set_internal_state", {"server_args": {"none": 1}}),
    ("/set_internal_state", {"server_args": {"pp_max_micro_batch_size": -1}}),
    ("/configure_logging", {"log_requests_level": 99}),
    ("/configure_logging", {"dump_requests_folder": 5}),
    ("/abort_request", {}),
    ("/abort_request", {"rid": ""}),
    ("/abort_request", {"rid": 5}),
    ("/abort_request", {"rid": "nobody"}),
    ("/pause_generation", {"mode": "none"}),
    ("/hicache/storage-backend/clear", {}),
    ("/add_external_corpus", [1]),
    ("/add_external_corpus", {"documents": ["a"]}),
    ("/remove_external_corpus", [1]),
    ("/pd_role_switch", {"new_role": "none"}),
    ("/scale_elastic_ep", {"new_ep_size": -1}),
    ("/freeze_gc", {}),
    ("/set_trace_level?level=-1", {}),
    ("/flush_cache?timeout=-1", {}),
    ("/parse_function_call", {"text": "", "tools": [], "tool_call_parser": "none"}),
    ("/separate_reasoning", {"text": "", "reasoning_parser": "none"}),
    ("/encode", {"text": "Hi"}),
    ("/encode", {"input_ids": [V]}),
    ("/classify", {"text": ""}),
    ("/v1/embeddings", {"model": "default", "input": ""}),
    ("/v1/embeddings", {"model": "default", "input": [V]}),
    ("/v1/classify", {"model": "default", "input": "Hi"}),
    ("/v1/rerank", {"query": "", "documents": []}),
    ("/v1/score", {"query": "a", "items": ["b"], "label_token_ids": [V], "model": "default"}),
    ("/v1/score", {"query": "", "items": [], "label_token_ids": [], "model": "default"}),
    ("/tokenize", {"model": "default", "prompt": 5}),
    ("/detokenize", {"model": "default", "tokens": [-1]}),
    ("/detokenize", {"model": "default", "tokens": [2**70]}),
    ("/v1/responses", {"model": "default", "input": ""}),
    ("/v1/responses", {"model": "default", "input": "Hi", "top_logprobs": 60000}),
    ("/v1/messages", {"model": "default", "max_tokens": -1, "messages": MESSAGES}),
    ("/api/chat", {"model": "default", "messages": []}),
    ("/api/generate", {"model": "default", "prompt": "", "options": {"num_predict": -9}}),
    ("/v1/decisions", {}),
    ("/v1/systemone", {}),
    ("/invocations", {}),
    ("/vertex_generate", {"instances": []}),
    *PROFILES,
    # Patterns that backtrack; MORE is a list of arguments.
    (
        "/parse_function_call",
        {"text": f"[f({MORE}", "tools": TOOLS, "tool_call_parser": "pythonic"},
    ),
    (
        "/parse_function_call",
        {"text": f"[f({MORE})]", "tools": TOOLS, "tool_call_parser": "pythonic"},
    ),
    (
        "/parse_function_call",
        {"text": "<tool_call>" * 20_000, "tools": TOOLS, "tool_call_parser": "glm45"},
    ),
    ("/separate_reasoning", {"text": "<think>" * 20_000, "reasoning_parser": "qwen3"}),
    # Long for a converter.
    ("/tokenize", {"model": "default", "prompt": "a b " * 500_000}),
    ("/tokenize", {"model": "default", "prompt": ["a b " * 10_000] * 20}),
    ("/tokenize", {"model": "default", "messages": MESSAGES * 5000}),
    ("/detokenize", {"model": "default", "tokens": [5] * 200_000}),
    ("/detokenize", {"model": "default", "tokens": [[5] * 1000] * 200}),
    # Names that take room, or look like places.
    ("/generate", {"x" * 100_000: {f"k{i}": {} for i in range(8000)}, "text": "\u00e9"}),
    (CHAT, {"messages": MESSAGES, "response_format.json_schema": {"schema": {"deterministic": 1}}}),
    *(
        ("/generate", {"text": "Hi", "session_params": params})
        for params in (
            {"id": [1]},
            {"id": "s", "rid": ["x"]},
            {"id": "s", "offset": "x"},
            {"id": "s", "offset": 2**70},
            {"id": "s", "replace": "x"},
        )
    ),
]


def requests() -> list[Hostile]:
    """All of them; whether a request is deterministic alternates."""
    bodies = [
        {"text": "Hi", "sampling_params": {name: value}}
        for name, values in SAMPLING.items()
        for value in values
    ]
    scored = [{"text": "Hi", "return_logprob": True} | fields for fields in LOGPROBS]
    bodies += [{"text": "Hi", "sampling_params": params} for params in NOTHING_LEFT]
    listed = [
        Hostile("/generate", _marked(body, i))
        for i, body in enumerate([*bodies, *GENERATE, *scored])
    ]
    chats = [
        Hostile(CHAT, {"model": "default", "messages": MESSAGES, "max_tokens": 2} | fields)
        for fields in CHATS
    ]
    completions = [
        Hostile(COMPLETIONS, {"model": "default", "max_tokens": 2} | fields) for fields in PROMPTS
    ]
    return [*listed, *chats, *completions, *(Hostile(*other) for other in OTHERS)]


def _marked(body: dict, index: int) -> dict:
    params = body.get("sampling_params", {})
    if not isinstance(params, dict):
        return body | {"stream": index % 3 == 0}
    few = {"max_new_tokens": 4, "custom_params": {"deterministic": index % 2 == 0}}
    return body | {"sampling_params": few | params, "stream": index % 3 == 0}

"""Requests that nobody should send: each must be answered, by 200 or by a 4xx of one line.

Tables of what is wrong, times the endpoints and the two kinds of request.
"""

from typing import Any, NamedTuple

from tests.engine.hostile_others import CHAT, HUGE, MESSAGES, OTHERS, V

COMPLETIONS = "/v1/completions"
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
    {"text": "Hi", "return_logprob": [True]},
    {"text": "Hi", "return_logprob": []},
    {"text": ["a", "b"], "return_logprob": [True]},
    {"text": "Hi", "return_sampling_mask": [False]},
    {"text": "Hi", "return_hidden_states": [False]},
    {"text": "Hi", "custom_logit_processor": [None]},
    {"text": "Hi", "bootstrap_port": [1]},
    {"text": "Hi", "extra_key": ["a"]},
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

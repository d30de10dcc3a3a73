"""The bounds of request options, without a server: what is refused by its name, what passes."""

import json
import runpy
import sys
from array import array
from types import SimpleNamespace

import numpy as np
import pytest

from llm42_sglang.frontend import patterns
from llm42_sglang.frontend.bounds import PER_PROMPT, Bounds, refuse_sampling, refuse_unbounded
from llm42_sglang.frontend.options import Refused
from llm42_sglang.frontend.patterns import refuse_large_grammar, refuse_stop_regexes, search
from tests.engine import hostile

BOUNDS = Bounds(vocab_size=hostile.V, max_n=64, context=131_072, max_prompt_chars=1000)
FIELD = r'[ ]?"f{}"[ ]?:[ ]?(0|[1-9][0-9]*)[ ]?'  # as outlines writes it
JSON_GRAMMAR = r"""
root ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
value ::= root | string | number | ("true" | "false" | "null") ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
# What SGLang refuses by itself, or serves.
SGLANGS = {"top_p", "min_p", "temperature", "frequency_penalty", "presence_penalty", "top_k"} | {
    "repetition_penalty",
    "max_new_tokens",
    "min_new_tokens",
    "custom_params",
    "unheard_of",
    "structural_tag",
    "ebnf",
    "regex",
    "json_schema",
    "stop",
    "stop_regex",
}


def request(**fields) -> SimpleNamespace:
    given = {"text": "Hi", "input_ids": None, "input_embeds": None, "sampling_params": {}}
    return SimpleNamespace(**given | fields)


@pytest.mark.parametrize("name", sorted(set(hostile.SAMPLING) - SGLANGS))
def test_each_is_refused_by_name(name):
    for value in hostile.SAMPLING[name]:
        with pytest.raises(Refused, match=name):
            refuse_sampling({name: value}, BOUNDS)


@pytest.mark.parametrize(
    "params",
    [
        {"n": 64, "temperature": 0, "top_p": 1, "stop": ["a", "b"], "stop_token_ids": [5]},
        {"regex": "a{26}", "logit_bias": {"81": -1e39}, "stop_regex": "(a+)+b", "top_k": -1},
        {"json_schema": '{"description": "' + "([{" * 200 + '", "maxItems": 100000}'},
        {"regex": r"([0-9]{1,3}\.){3}[0-9]{1,3}" + r"\(" * 100, "max_new_tokens": None},
    ],
)
def test_what_is_within_bounds_passes(params):
    refuse_unbounded(request(sampling_params=params), BOUNDS, over_http=True)


LISTED = {"return_logprob": True, "top_logprobs_num": 20}


@pytest.mark.parametrize(
    "fields",
    [
        {"input_ids": [list(range(4000))] * 256, "text": None, "return_logprob": True},
        {"input_ids": [5] * 131_072, "text": None},
        {"input_ids": array("q", [5, 6]), "text": None},
        {"input_embeds": [[[0.5]], [[0.5]]], "text": None, "sampling_params": [{}, {}]},
        {"input_embeds": [[[0.5]]] * 2, "text": None, "logprob_start_len": [0, 0]},
        LISTED | {"sampling_params": {"max_new_tokens": 30_000}},
        LISTED | {"sampling_params": {"max_new_tokens": None}},
        LISTED | {"text": ["a"] * 256, "top_logprobs_num": 5},
        {"sampling_params": {"temperature": np.float64(0.7), "max_new_tokens": np.int64(7)}},
        {"sampling_params": {"stop_token_ids": [1, None]}},
        {"token_ids_logprob": [[1], [2]], "text": ["a", "b"]},
    ],
)
def test_what_users_send_passes(fields):
    refuse_unbounded(request(**fields), BOUNDS, over_http=True)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"text": "x" * 1001}, "text"),
        ({"text": None, "input_ids": [hostile.V]}, "input_ids"),
        ({"text": ["a"] * 17, "sampling_params": {"n": 64}}, "n times prompts"),
        ({"top_logprobs_num": 60000}, "top_logprobs_num"),
        ({"top_logprobs_num": [1, 2]}, "top_logprobs_num"),
        ({"rid": ""}, "rid"),
        ({"text": "\ud800"}, "text"),
        ({"rid": "\0job"}, "rid"),
        ({"rid": ["a"] * 100_000}, "rid"),
        ({"token_indices_to_pool": [0] * 200_000}, "token_indices_to_pool"),
        (LISTED | {"sampling_params": {"n": 64, "max_new_tokens": 20_000}}, "top_logprobs_num"),
        (LISTED | {"sampling_params": {"n": 2, "max_new_tokens": None}}, "top_logprobs_num"),
        (LISTED | {"logprob_start_len": 0, "sampling_params": {"n": 2}}, "top_logprobs_num"),
    ],
)
def test_fields_are_refused_by_name(fields, named):
    with pytest.raises(Refused, match=named):
        refuse_unbounded(request(**fields), BOUNDS, over_http=True)


@pytest.mark.parametrize("name", PER_PROMPT)
def test_a_list_has_a_value_for_each_of_several_prompts(name):
    one, several = {"text": "Hi"}, {"text": ["a", "b"]}
    for fields in (one | {name: []}, one | {name: [1]}, several | {name: [1]}):
        with pytest.raises(Refused, match=f"^{name}: a list must have"):
            refuse_unbounded(request(**fields), BOUNDS, over_http=True)
    for fields in (one | {name: 1}, several | {name: 1}, several | {name: [1, 0]}):
        refuse_unbounded(request(**fields), BOUNDS, over_http=True)


def test_offline_batches_may_be_as_large_as_memory():
    refuse_unbounded(request(text=["a"] * 5000), BOUNDS, over_http=False)


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"(a)\1", "(a{1000}){1000}", r"\pL"])
def test_a_stop_regex_that_re2_or_sglang_cannot_read_is_refused(pattern):
    with pytest.raises(Refused, match="stop_regex"):
        refuse_stop_regexes([pattern])


def test_backtracking_takes_no_time():
    """`re` would take longer than the universe is old."""
    assert search("(a+)+b", "a" * 100_000) is None


@pytest.mark.parametrize(
    ("name", "grammar"),
    [
        ("regex", r"\{" + ",".join(FIELD.format(i) for i in range(20)) + r"\}"),
        ("regex", "([a-z]{1,20} ){1,100}"),
        ("regex", r"(?<year>[0-9]{4})-\p{L}+: .{0,1000}END"),
        ("regex", r"[\w.+-]+@[\w-]+\.[\w.-]+"),
        ("regex", "(" + "|".join(f"choice {i}" for i in range(3000)) + ")"),
        ("json_schema", json.dumps({"anyOf": [{"pattern": "^.*@.*[.].*$"}] * 20})),
        ("ebnf", JSON_GRAMMAR),
    ],
)
def test_grammars_that_users_send_pass(name, grammar):
    refuse_large_grammar(name, grammar)


@pytest.mark.parametrize(
    ("name", "grammar"),
    [
        ("regex", "(?<x>a)" + "(a?)" * 300),
        ("regex", r"\p{L}" + "(a?)" * 300),
        ("regex", "(.?)" * 20),
        ("regex", "([a-z]{1,100} ?){1,100}"),
        ("regex", "(" + "|".join(f"(?:.|\\n){{0,900}}{i}" for i in range(60)) + ")"),
        ("json_schema", json.dumps({"anyOf": [{"pattern": "a?" * 60 + "b"}] * 300})),
        ("structural_tag", json.dumps({"grammar": "root ::= " + '"a"? ' * 300})),
        ("ebnf", "root ::= " + '"a"? ' * 300),
        ("ebnf", "root ::= " + '("a" "b")? ' * 300),
        ("ebnf", "root ::= " + "a " * 300 + '\na ::= "" | [a-z]'),
        ("ebnf", 'root ::= "a ::=" # "\n b | ' + '"a"? ' * 300),
        ("regex", "(a?)" * 300),
        ("regex", "([a-z]{0,100}){0,100}"),
        ("regex", "(" * 500),
        ("json_schema", '{"a":' * 5000 + "1" + "}" * 5000),
        ("json_schema", '{"a":' * 100 + "1" + "}" * 100),
        ("json_schema", '{"pattern": "' + "(a?)" * 200 + '"}'),
        ("ebnf", 'root ::= ("a"{1000}){1000}'),
        ("regex", "[" * 60_000 + "(" * 70),
        ("regex", "x" * 70_000),
    ],
)
def test_large_grammars_are_refused_at_once(name, grammar):
    with pytest.raises(Refused, match=name):
        refuse_large_grammar(name, grammar)


def test_without_re2_the_process_ends_with_what_to_do(monkeypatch):
    """SGLang's loader swallows an ImportError, and would serve without the plugin."""
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(SystemExit, match="pip install google-re2"):
        runpy.run_path(patterns.__file__)

"""Bounds without a server: what is refused, by name, and what passes."""

import runpy
import sys
import time
from types import SimpleNamespace

import pytest

from llm42_sglang.frontend import patterns
from llm42_sglang.frontend.bounds import Bounds, refuse_sampling, refuse_unbounded
from llm42_sglang.frontend.options import Refused
from llm42_sglang.frontend.patterns import refuse_large_grammar, refuse_stop_regex, search
from tests.engine import hostile

BOUNDS = Bounds(vocab_size=hostile.V, max_n=64, max_prompt_chars=1000)
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
    ],
)
def test_fields_are_refused_by_name(fields, named):
    with pytest.raises(Refused, match=named):
        refuse_unbounded(request(**fields), BOUNDS, over_http=True)


def test_offline_batches_may_be_as_large_as_memory():
    refuse_unbounded(request(text=["a"] * 5000), BOUNDS, over_http=False)


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"(a)\1", "(a{1000}){1000}", r"\pL"])
def test_a_stop_regex_that_re2_or_sglang_cannot_read_is_refused(pattern):
    with pytest.raises(Refused, match="stop_regex"):
        refuse_stop_regex(pattern)


def test_backtracking_takes_no_time():
    began = time.process_time()
    assert search("(a+)+b", "a" * 100_000) is None
    assert time.process_time() - began < 1  # `re` would take longer than the universe is old


@pytest.mark.parametrize(
    ("name", "grammar"),
    [
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

"""Every option is either kept deterministic or refused by its name."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm42_sglang.frontend.options import (
    Refused,
    asks_for_determinism,
    refuse_reserved_key,
    refuse_unsupported,
)

GREEDY = {
    "top_k": 1,
    "temperature": 1.0,  # what SGLang makes of temperature 0
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
    "min_new_tokens": 0,
    "n": 1,
    "beam_width": None,
    "stop_strs": [],
    "stop_regex_strs": [],
    "json_schema": None,
    "regex": None,
    "ebnf": None,
    "structural_tag": None,
    "logit_bias": None,
    "watermark": None,
}
SAMPLING = {
    "temperature": {"top_k": 1 << 30, "temperature": 0.7},
    "frequency_penalty": {"frequency_penalty": 0.1},
    "presence_penalty": {"presence_penalty": -0.1},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "min_new_tokens": {"min_new_tokens": 1},
    "n": {"n": 2},
    "beam_width": {"beam_width": 2},
    "stop": {"stop_strs": ["x"]},
    "stop_regex": {"stop_regex_strs": ["x"]},
    "json_schema": {"json_schema": "{}"},
    "regex": {"regex": "a"},
    "ebnf": {"ebnf": "a"},
    "structural_tag": {"structural_tag": "a"},
    "logit_bias": {"logit_bias": {"1": 1.0}},
    "watermark": {"watermark": object()},
}
FIELDS = {
    "return_logprob": True,
    "top_logprobs_num": 3,
    "token_ids_logprob": [1],
    "return_hidden_states": "last",
    "custom_logit_processor": "x",
    "lora_path": "x",
    "input_embeds": [[0.5]],
    "image_data": ["x"],
    "session_params": {"id": "x"},
    "session_id": "x",
}


def refusal(sampling: dict, fields: dict) -> str | None:
    try:
        refuse_unsupported(SimpleNamespace(**GREEDY | sampling), SimpleNamespace(**fields))
    except Refused as error:
        assert error.status_code == 400
        return str(error)
    return None


def test_a_greedy_request_passes():
    assert refusal({}, {}) is None
    assert refusal({"top_k": 1, "temperature": 0.7}, {}) is None  # top_k 1 is greedy as well
    assert refusal({"top_k": 1 << 30, "temperature": 0.0}, {}) is None  # not normalized yet


@given(
    st.sets(st.sampled_from(sorted(SAMPLING)), max_size=4),
    st.sets(st.sampled_from(sorted(FIELDS)), max_size=4),
)
def test_whatever_is_set_is_named(sampling, fields):
    params = {k: v for name in sampling for k, v in SAMPLING[name].items()}
    message = refusal(params, {name: FIELDS[name] for name in fields})
    assert (message is None) == (not sampling and not fields)
    named = set((message or "").partition(":")[0].split(", ")) - {""}
    assert named == sampling | fields


@pytest.mark.parametrize("batch", [[True, False], [False, True]])
def test_one_element_of_a_batch_is_enough(batch):
    assert "return_logprob" in refusal({}, {"return_logprob": batch})
    assert refusal({}, {"return_logprob": [False, False]}) is None


@pytest.mark.parametrize(
    ("params", "default", "expected"),
    [
        (None, False, False),
        (None, True, True),
        ({}, True, True),
        ({"deterministic": False}, True, False),
        ({"deterministic": True}, False, True),
        ({"other": 1}, False, False),
    ],
)
def test_the_request_has_the_last_word(params, default, expected):
    assert asks_for_determinism(params, default) is expected


@pytest.mark.parametrize("value", ["yes", "true", 1, 0, [], {}])
def test_only_true_and_false_are_understood(value):
    with pytest.raises(Refused, match="true or false"):
        asks_for_determinism({"deterministic": value})


@pytest.mark.parametrize("params", [["deterministic"], "deterministic", 1])
def test_custom_params_must_be_an_object(params):
    with pytest.raises(Refused, match="must be an object"):
        asks_for_determinism(params)


@pytest.mark.parametrize("key", ["llm42:", "llm42:abc:x", ["fine", "llm42:x"]])
def test_the_namespace_is_reserved(key):
    with pytest.raises(Refused, match="extra_key"):
        refuse_reserved_key(key, "llm42:")
    refuse_reserved_key("mine", "llm42:")
    refuse_reserved_key(None, "llm42:")

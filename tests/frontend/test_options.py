"""Every option is either kept deterministic or refused by its name."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm42_sglang.frontend.options import (
    Refused,
    asks_for_determinism,
    refuse_reserved_key,
    refuse_unsupported,
    table,
)

PLAIN = {"beam_width": None, "watermark": None}
KEPT = {  # once refused, kept deterministic now
    "top_k": 1 << 30,
    "temperature": 0.7,
    "frequency_penalty": 0.1,
    "presence_penalty": -0.1,
    "repetition_penalty": 1.1,
    "min_new_tokens": 1,
    "n": 2,
    "stop_strs": ["x"],
    "stop_regex_strs": ["x"],
    "json_schema": "{}",
    "logit_bias": {"1": 1.0},
}
SAMPLING = {
    "beam_width": {"beam_width": 2},
    "watermark": {"watermark": object()},
}
FIELDS = {
    "return_hidden_states": "last",
    "return_flat_raw_top_logprobs": True,
    "custom_logit_processor": "x",
    "lora_path": "x",
    "input_embeds": [[0.5]],
    "image_data": ["x"],
    "session_params": {"id": "x"},
    "session_id": "x",
}


def refusal(sampling: dict, fields: dict) -> str | None:
    try:
        refuse_unsupported(SimpleNamespace(**PLAIN | sampling), SimpleNamespace(**fields))
    except Refused as error:
        assert error.status_code == 400
        return str(error)
    return None


def test_what_is_kept_deterministic_passes():
    assert refusal({}, {}) is None
    assert refusal(KEPT, {"return_logprob": True, "top_logprobs_num": 3}) is None


@settings(deadline=None)
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
    assert "return_entropy" in refusal({}, {"return_entropy": batch})
    assert refusal({}, {"return_entropy": [False, False]}) is None


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


def test_the_readme_shows_what_the_code_refuses():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert table() in readme, "run: python -m llm42_sglang.frontend.options"

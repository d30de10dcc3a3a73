"""Every option is either served deterministically, or refused by its name."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm42_sglang.frontend.options import (
    REFUSED,
    Refused,
    asks_for_determinism,
    refuse_reserved_key,
    refuse_unsupported,
)

PLAIN = {"beam_width": None, "watermark": None}
PENALTIES = {"frequency_penalty": 0.1, "presence_penalty": -0.1, "repetition_penalty": 1.1}
STOPS = {"stop_strs": ["x"], "stop_regex_strs": ["x"], "min_new_tokens": 1}
KEPT = {"top_k": 1 << 30, "temperature": 0.7, "n": 2, "json_schema": "{}", "logit_bias": {"1": 1}}
SAMPLING = {"beam_width": 2, "watermark": object()}
VALUES = {"input_embeds": [[0.5]], "image_data": [None, "x"], "session_params": {"id": "x"}}
FIELDS = {name: VALUES.get(name, "x") for name in REFUSED if name not in SAMPLING}


def refusal(sampling: dict, fields: dict) -> str | None:
    try:
        refuse_unsupported(SimpleNamespace(**PLAIN | sampling), SimpleNamespace(**fields))
    except Refused as error:
        assert error.status_code == 400
        return str(error)
    return None


def test_what_is_kept_deterministic_passes():
    fields = {"return_entropy": [False, False], "return_logprob": True, "top_logprobs_num": 3}
    assert refusal(PENALTIES | STOPS | KEPT, fields) is None


@settings(deadline=None)
@given(
    st.sets(st.sampled_from(sorted(SAMPLING)), max_size=4),
    st.sets(st.sampled_from(sorted(FIELDS)), max_size=4),
)
def test_whatever_is_set_is_named(sampling, fields):
    given_fields = {name: FIELDS[name] for name in fields}
    message = refusal({name: SAMPLING[name] for name in sampling}, given_fields)
    assert (message is None) == (not sampling and not fields)
    named = set((message or "").partition(":")[0].split(", ")) - {""}
    assert named == sampling | fields


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("return_entropy", "return_entropy", [True, False]),  # one element of a batch is enough
        ("return_entropy", "return_entropy", [False, True]),
        ("lora_path", "lora_id", "x"),  # as the tokenized request has it
        ("image_data", "mm_inputs", object()),
    ],
)
def test_a_field_is_named_as_the_user_writes_it(name, field, value):
    assert refusal({}, {field: value}).startswith(f"{name}: not supported")


@pytest.mark.parametrize("default", [False, True])
def test_the_request_has_the_last_word(default):
    assert asks_for_determinism({"deterministic": not default}, default) is not default
    for silent in (None, {}, {"other": 1}, {"deterministic": None}):
        assert asks_for_determinism(silent, default) is default


@pytest.mark.parametrize(
    ("params", "said"),
    [
        *(({"deterministic": value}, "true or false") for value in ("yes", "true", 1, 0, [], {})),
        *((params, "must be an object") for params in (["deterministic"], "deterministic", 1)),
    ],
)
def test_what_is_not_understood_is_refused(params, said):
    with pytest.raises(Refused, match=said):
        asks_for_determinism(params)


def test_a_refusal_names_the_field_and_not_where_others_write_it():
    """By then `sampling_params.deterministic` has been moved into `custom_params`."""
    with pytest.raises(Refused, match=r"^deterministic must be true or false, got 'yes'$"):
        asks_for_determinism({"deterministic": "yes"})
    message = refusal({}, {"return_entropy": True})
    assert message is not None and "set deterministic to false" in message
    assert "custom_params" not in message


@pytest.mark.parametrize("key", ["llm42:", "llm42:abc:x", ["fine", "llm42:x"]])
def test_the_namespace_is_reserved(key):
    with pytest.raises(Refused, match="extra_key"):
        refuse_reserved_key(key, "llm42:")
    refuse_reserved_key(["mine", None], "llm42:")


def test_the_reference_shows_what_the_code_refuses():
    reference = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
    told = [line for line in reference.splitlines() if "| HTTP 400: " in line]
    assert told == [f"| `{name}` | HTTP 400: {why} |" for name, why in REFUSED.items()]

"""Any mixture of request options runs deterministically, or is a 400 that names one of them."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm42_sglang.repro.connection import GENERATE, Reply
from tests.engine import client

pytestmark = pytest.mark.server("tiny")

SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
COMMON = {  # the last value of some is one that SGLang itself refuses
    "temperature": [0, 0.7, 1.5, -1],
    "top_k": [1, 20, -1],
    "top_p": [0.5, 1.0, 0],
    "min_p": [0.1, 2],
    "n": [1, 2, 0],
    "frequency_penalty": [0.5, -2.0, 3],
    "presence_penalty": [0.5],
    "repetition_penalty": [1.2, 0],
    "logit_bias": [{"5": 2.0}, {"5": -1e30}, {"99999999": 1}],
    "stop": ["a", ["e", "."]],
    "regex": ["[a-z]+", "[0-9]{2}"],
    "ebnf": ['root ::= "yes" | "no"'],
}
COMMON_FIELDS = {"stream": [True], "return_hidden_states": [True], "lora_path": ["mine"]}
SAMPLING = COMMON | {
    "sampling_seed": [-(2**63), 2**63 - 1, 7, "fresh", "seven"],
    "min_new_tokens": [2, 50],
    "stop_token_ids": [[28, 30]],
    "stop_regex": ["[aeiou]", "("],
    "json_schema": [json.dumps({"type": "boolean"}), "{"],
    "beam_width": [2],
}
FIELDS = COMMON_FIELDS | {
    "return_logprob": [True],
    "logprob_start_len": [0, 3, 500],
    "top_logprobs_num": [2],
    "token_ids_logprob": [[1, 2]],
    "return_entropy": [True],
    "session_params": [{"id": "mine"}],
    "custom_logit_processor": ["{}"],
}
OPENAI = (
    COMMON
    | COMMON_FIELDS
    | {
        "seed": [3, "fresh", 2**63],
        "max_tokens": [1, 4, -1],
        "min_tokens": [3, 90],
        "ignore_eos": [True],
        "custom_params": [{"mine": 1}, {"deterministic": False}],
    }
)
CHAT = OPENAI | {
    "logprobs": [True],
    "top_logprobs": [2, 500],
    "response_format": [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
    ],
}
COMPLETION = OPENAI | {"logprobs": [2, -1], "echo": [True], "best_of": [1, 2], "suffix": ["!"]}
ENDPOINTS = {
    "/v1/chat/completions": (CHAT, {"messages": [{"role": "user", "content": "Hi"}]}),
    "/v1/completions": (COMPLETION, {"prompt": "The sea"}),
}
# What a message calls an option by, where it is not the option's own name.
ALIASES = {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens", "seed": "sampling_seed"}

several = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def some(options: dict[str, list]):
    """Up to four of the options, each with one of its values."""
    chosen = st.sets(st.sampled_from(sorted(options)), max_size=4)
    return chosen.flatmap(
        lambda names: st.fixed_dictionaries({n: st.sampled_from(options[n]) for n in names})
    )


def receipts_of(reply: Reply) -> list[dict] | None:
    """One for each answer, on any endpoint, whole or streamed; None where it tells an error."""
    if reply.status != 200:
        return None
    streamed = [event.data for event in reply.events]
    parts = streamed or json.loads(reply.text)
    parts = parts if isinstance(parts, list) else [parts]
    if any("error" in part for part in parts):  # some are found only when a stream has begun
        return None
    if reply.path == GENERATE:  # of a stream, the last event of each sample
        last = {part.get("index", 0) if streamed else i: part for i, part in enumerate(parts)}
        return [part["meta_info"]["llm42"] for part in last.values()]
    receipts = [part["llm42"] for part in parts if "llm42" in part]
    return receipts[0] if isinstance(receipts[0], list) else receipts


def require_verified_or_named(reply: Reply, asked: dict) -> None:
    """`asked`: the options that were asked for. An error must name one of these, and no other
    option will do."""
    assert reply.status in (200, 400), (asked, reply.text)
    receipts = receipts_of(reply)
    if receipts is not None:
        assert receipts and all(receipt["verified"] for receipt in receipts), (asked, reply.text)
        return
    text = (reply.text + json.dumps([event.data for event in reply.events])).lower()
    assert "internalservererror" not in text, (asked, text)
    message = words_of(text)
    names = [*asked, *(ALIASES[name] for name in asked if name in ALIASES), "deterministic"]
    assert any(name in message for name in names), (asked, text)


def words_of(text: str) -> set[str]:
    """The identifiers of a text, and what two or three of its words make together."""
    words = "".join(c if c.isalnum() or c == "_" else " " for c in text).split()
    runs = (words[i : i + n] for n in (1, 2, 3) for i in range(len(words)))
    return {"_".join(run) for run in runs}


@several
@given(some(SAMPLING), some(FIELDS))
def test_generate(url, sampling, fields):
    request = client.body(client.prompts()[1], **{"max_new_tokens": 3} | sampling) | fields
    require_verified_or_named(client.post(url, request), sampling | fields)


@several
@given(st.data())
@pytest.mark.parametrize("path", ENDPOINTS)
def test_openai(url, path, data):
    options, body = ENDPOINTS[path]
    chosen = data.draw(some(options))
    asked = {"model": "default", "max_tokens": 3, "deterministic": True} | body | chosen
    require_verified_or_named(client.post(url, asked, path=path), chosen)


def test_an_error_that_names_another_option_would_be_noticed():
    """The control: `n` is a letter of nearly every text, and must not pass for a name."""
    reply = Reply(GENERATE, 400, '{"error": {"message": "invalid top_p"}}', [], 0, 0)
    require_verified_or_named(reply, {"top_p": 7})
    for asked in ({"n": 2}, {"p": 1}, {"top_k": 0}, {}):
        with pytest.raises(AssertionError):
            require_verified_or_named(reply, asked)

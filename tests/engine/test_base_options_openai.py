"""The same of the OpenAI endpoints: any mixture of options is verified, or a 400 that names one."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine import client

pytestmark = pytest.mark.server

SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
BOTH = {
    "temperature": [0, 1.3, 5, -1],
    "top_p": [0.5, 2],
    "top_k": [5],
    "min_p": [0.1],
    "seed": [3, 2**63],
    "n": [2, 0],
    "max_tokens": [1, 4, -1],
    "stop": ["e", ["a", "."]],
    "frequency_penalty": [0.7, 9],
    "presence_penalty": [-0.5],
    "repetition_penalty": [1.2],
    "logit_bias": [{"28": 3.0}, {"99999999": 1.0}],
    "min_tokens": [3, 90],
    "ignore_eos": [True],
    "regex": ["[a-d]{3}"],
    "ebnf": ['root ::= "yes"'],
    "stream": [True],
    "return_hidden_states": [True],
    "lora_path": ["mine"],
    "custom_params": [{"mine": 1}, {"deterministic": False}],
}
CHAT = BOTH | {
    "logprobs": [True],
    "top_logprobs": [2, 500],
    "response_format": [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
    ],
}
COMPLETION = BOTH | {"logprobs": [2, -1], "echo": [True], "best_of": [1, 2], "suffix": ["!"]}
ENDPOINTS = {
    "/v1/chat/completions": (CHAT, {"messages": [{"role": "user", "content": "Hi"}]}),
    "/v1/completions": (COMPLETION, {"prompt": "The sea"}),
}
# What a message calls an option by, where it is not the option's own name.
ALIASES = {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens", "seed": "sampling_seed"}


def some(options: dict[str, list]):
    chosen = st.sets(st.sampled_from(sorted(options)), max_size=4)
    return chosen.flatmap(
        lambda names: st.fixed_dictionaries({n: st.sampled_from(options[n]) for n in names})
    )


def receipts(response) -> list[dict] | None:
    """Of a whole answer or of a stream; None where it tells an error."""
    if response.headers["content-type"].startswith("text/event-stream"):
        lines = [line.removeprefix("data: ") for line in response.text.splitlines()]
        chunks = [json.loads(line) for line in lines if line.startswith("{")]
        if any("error" in chunk for chunk in chunks):
            return None
        return [chunk["llm42"] for chunk in chunks if "llm42" in chunk]
    receipt = response.json()["llm42"]
    return receipt if isinstance(receipt, list) else [receipt]


@settings(
    max_examples=14,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
@pytest.mark.parametrize("path", ENDPOINTS)
def test_verified_or_named(url, path, data):
    options, body = ENDPOINTS[path]
    chosen = data.draw(some(options))
    asked = {"model": "default", "max_tokens": 3, "deterministic": True} | body | chosen
    response = client.post(url, asked, path=path)
    assert response.status_code in (200, 400), (chosen, response.text)
    found = receipts(response) if response.status_code == 200 else None
    if found:
        assert all(receipt["verified"] for receipt in found), (chosen, response.text)
        return
    names = [*chosen, *(ALIASES[name] for name in chosen if name in ALIASES), "deterministic"]
    text = response.text.lower()
    assert any(name in text or name.replace("_", " ") in text for name in names), (chosen, text)
    assert "internalservererror" not in text

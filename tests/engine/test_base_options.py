"""Any mixture of request options runs deterministically or is a 400 that names an option."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm42_sglang.frontend.options import REFUSED
from tests.engine import client

pytestmark = pytest.mark.server

SAMPLING = {
    "temperature": [0, 0.7, 1.5, -1],  # the last of some is what SGLang itself refuses
    "top_k": [1, 20, -1],
    "top_p": [0.5, 1.0, 0],
    "min_p": [0.1, 2],
    "sampling_seed": [-(2**63), 2**63 - 1, 7, "seven"],
    "n": [1, 2],
    "frequency_penalty": [0.5, -2.0, 3],
    "presence_penalty": [0.5],
    "repetition_penalty": [1.2, 0],
    "min_new_tokens": [2, 50],
    "logit_bias": [{"5": 2.0}, {"5": -1e30}, {"99999999": 1}],
    "stop": ["a", ["e", "."]],
    "stop_token_ids": [[28, 30]],
    "stop_regex": ["[aeiou]", "("],
    "regex": ["[a-z]+", "[0-9]{2}"],
    "json_schema": [json.dumps({"type": "boolean"}), "{"],
    "ebnf": ['root ::= "yes" | "no"'],
    "beam_width": [2],
}
FIELDS = {
    "return_logprob": [True],
    "logprob_start_len": [0, 3, 500],
    "top_logprobs_num": [2],
    "token_ids_logprob": [[1, 2]],
    "return_hidden_states": [True],
    "return_entropy": [True],
    "session_params": [{"id": "mine"}],
    "lora_path": ["mine"],
    "custom_logit_processor": ["{}"],
    "stream": [True],
}
NAMES = {*SAMPLING, *FIELDS} | {option.name for option in REFUSED}


def some(options: dict[str, list]):
    """Up to three of the options, each with one of its values."""
    chosen = st.sets(st.sampled_from(sorted(options)), max_size=3)
    return chosen.flatmap(
        lambda names: st.fixed_dictionaries({n: st.sampled_from(options[n]) for n in names})
    )


def outcome(url: str, request: dict) -> tuple[int, str, list[dict]]:
    """Status, text, and the answers: of a stream the last chunk of each sample."""
    response = client.post(url, request)
    if response.status_code != 200:
        return response.status_code, response.text, []
    if not request.get("stream"):
        answers = response.json()
        return 200, response.text, answers if isinstance(answers, list) else [answers]
    lines = [line.removeprefix("data: ") for line in response.text.splitlines()]
    chunks = [json.loads(line) for line in lines if line.startswith("{")]
    return 200, response.text, list({chunk.get("index", 0): chunk for chunk in chunks}.values())


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(some(SAMPLING), some(FIELDS))
def test_runs_or_names_an_option(url, sampling, fields):
    request = client.body(client.prompts()[1], **{"max_new_tokens": 3} | sampling) | fields
    status, text, answers = outcome(url, request)
    if status == 200 and all("error" not in answer for answer in answers):
        assert answers and all(a["meta_info"]["llm42"]["verified"] for a in answers), text
        return
    assert status in (200, 400), text
    if status == 200:  # SGLang finds some only when a stream has begun
        assert fields.get("stream"), text
        text = json.dumps(answers)
    assert any(name in text or name.replace("_", " ") in text.lower() for name in NAMES), text
    assert "InternalServerError" not in text

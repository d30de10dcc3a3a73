"""Stop strings, grammars, penalties: functions of the committed tokens, whatever the fast path did.

On a server whose every 7th decode step proposes wrong tokens, and in load: the answers must be
those of the undisturbed base server, asked one by one.
"""

import json
import re

import pytest

from tests.engine import client
from tests.engine.conftest import BASE, FAULTY

pytestmark = pytest.mark.server

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "people": {"type": "integer", "minimum": 1, "maximum": 99999},
        "kind": {"enum": ["town", "village"]},
    },
    "required": ["city", "people", "kind"],
}
DATE = r"(19|20)[0-9]{2}-(0[1-9]|1[0-2])-[0-3][0-9]"
SAMPLED = {"temperature": 0.8, "sampling_seed": 3}


def constrained() -> dict[str, dict]:
    """Sampling parameters, by name; every one with a prompt of its own length."""
    return {
        "json": {"json_schema": json.dumps(SCHEMA)},
        "json sampled": {"json_schema": json.dumps(SCHEMA), **SAMPLED},
        "regex": {"regex": f"({DATE} ){{4}}", **SAMPLED},
        "ebnf": {"ebnf": 'root ::= ("yes" | "no") (", " root)?', "max_new_tokens": 40, **SAMPLED},
        "frequency": {"frequency_penalty": 0.8},
        "presence": {"presence_penalty": 1.5, **SAMPLED},
        "repetition": {"repetition_penalty": 1.3},
        "bias": {"logit_bias": {"28": 6.0, "30": 4.0}, **SAMPLED},
        "min_new_tokens": {"min_new_tokens": 50, "ignore_eos": False, "stop_token_ids": [28, 30]},
        "all": {
            "frequency_penalty": 0.3,
            "repetition_penalty": 1.1,
            "logit_bias": {"28": 2.0},
            "top_k": 50,
            "top_p": 0.95,
            "min_p": 0.01,
            "regex": "[a-z ,.]{30,90}",
            **SAMPLED,
        },
    }


def requests() -> list[dict]:
    prompt = client.prompts()[8]
    defaults = {"max_new_tokens": 56, "ignore_eos": False}
    return [
        client.body(prompt[: 20 + 13 * i], **(defaults | sampling))
        for i, sampling in enumerate(constrained().values())
    ]


@pytest.fixture(scope="module")
def stops(reference) -> list[tuple[str, dict, client.Answer]]:
    """Stop strings and patterns cut out of the reference texts, where pages meet among others."""
    cases = []
    for i in (4, 8):
        answer, prompt = reference[i], client.prompts()[i]
        page_end = 32 - len(prompt) % 32  # tokens of output up to the end of its first page
        before, after = (_text(answer.ids[:n]) for n in (page_end - 2, page_end + 2))
        straddling = after.removeprefix(before)
        for sampling in (
            {"stop": [straddling]},
            {"stop_regex": [re.escape(straddling[:-1])]},
            {"stop": ["no such text", straddling], "no_stop_trim": True},
        ):
            cases.append((straddling, client.body(prompt, **sampling), answer))
    return cases


def _text(ids) -> str:
    from tokenizers import Tokenizer

    from llm42_sglang.cli.model import ensure_default_model

    tokenizer = Tokenizer.from_file(str(ensure_default_model() / "tokenizer.json"))
    return tokenizer.decode(list(ids), skip_special_tokens=False)


@pytest.fixture(scope="module")
def undisturbed(servers, stops) -> list[client.Answer]:
    url = servers.url(BASE)
    client.flush(url)
    return client.ask_all(url, [*requests(), *(request for _, request, _ in stops)], in_flight=1)


def test_grammars_are_obeyed(undisturbed):
    answers = dict(zip(constrained(), undisturbed, strict=False))
    for name in ("json", "json sampled"):
        parsed = json.loads(answers[name].text)
        assert set(parsed) == set(SCHEMA["required"]) and parsed["kind"] in ("town", "village")
    assert re.fullmatch(f"({DATE} ){{4}}", answers["regex"].text)
    # The length limit cuts it anywhere.
    assert re.fullmatch("((yes|no), )*(yes|no|ye|y|n)?,?", answers["ebnf"].text)
    assert re.fullmatch("[a-z ,.]{0,90}", answers["all"].text)
    assert len(answers["min_new_tokens"].ids) >= 50


def test_stop_strings_end_the_reference_text(undisturbed, stops):
    answers = undisturbed[len(constrained()) :]
    for (stop, request, whole), answer in zip(stops, answers, strict=True):
        assert answer.meta["finish_reason"]["type"] == "stop"
        assert answer.ids == whole.ids[: len(answer.ids)] and len(answer.ids) < len(whole.ids)
        if "stop" in request["sampling_params"]:  # SGLang does not trim what a pattern matched
            assert (stop in answer.text) == request["sampling_params"].get("no_stop_trim", False)


def test_perturbed_decode_in_load_gives_the_same_answers(servers, stops, undisturbed):
    """Grammars followed wrong candidates, stops were found in them: nothing of it remains."""
    url = servers.url(FAULTY)
    everything = [*requests(), *(request for _, request, _ in stops)]
    answers = client.ask_all(url, everything, in_flight=12, shuffle=6)
    for found, expected in zip(answers, undisturbed, strict=True):
        assert (found.ids, found.text) == (expected.ids, expected.text)
        assert found.meta["finish_reason"] == expected.meta["finish_reason"]
    assert client.total(answers, "rollbacks") > len(answers)


def test_a_stop_string_that_only_a_wrong_candidate_holds(servers, reference):
    """The perturbed candidate's text is a stop string: suspected, verified, rolled back."""
    url = servers.url(FAULTY)
    prompt, expected, stop = next(
        (prompt, right, stop)
        for prompt, right in zip(client.prompts()[3:], reference[3:], strict=True)
        if (stop := _wrong_text(url, prompt, right)) and stop not in _text(right.ids)
    )
    answer = client.generate(url, prompt, stop=[stop])
    assert answer.ids == expected.ids
    assert answer.meta["finish_reason"]["type"] == "length"


def _wrong_text(url: str, prompt, right: client.Answer) -> str:
    """The text of the first token that the perturbed fast path gets wrong."""
    perturbed = client.generate(url, prompt, deterministic=False, max_new_tokens=20)
    return _text([next(a for a, b in zip(perturbed.ids, right.ids, strict=False) if a != b)])

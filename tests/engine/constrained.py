"""Requests with grammars, penalties and stop strings, on prompts of many lengths."""

import json
import re
from collections.abc import Sequence

from tests.engine import client

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
OPTIONS = {
    "json": {"json_schema": json.dumps(SCHEMA)},
    "json sampled": {"json_schema": json.dumps(SCHEMA), **SAMPLED},
    "regex": {"regex": f"({DATE} ){{4}}", **SAMPLED},
    "ebnf": {"ebnf": 'root ::= ("yes" | "no") (", " root)?', "max_new_tokens": 40, **SAMPLED},
    "frequency": {"frequency_penalty": 0.8},
    "presence": {"presence_penalty": 1.5, **SAMPLED},
    "repetition": {"repetition_penalty": 1.3},
    "bias": {"logit_bias": {"28": 6.0, "30": 4.0}, **SAMPLED},
    # These repeat themselves, so that drafts of them are right at times.
    "one token": {"logit_bias": {"28": 50.0}},
    "two tokens": {"logit_bias": {"28": 5.0, "30": 5.0}},
    "verse": {"regex": "(abc de fgh, ){9}"},
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


def requests(reference: Sequence[client.Answer]) -> list[dict]:
    """One for each of OPTIONS, then those of `stops`."""
    prompt = client.prompts()[8]
    defaults = {"max_new_tokens": 56, "ignore_eos": False}
    constrained = [
        client.body(prompt[: 20 + 13 * i], **(defaults | sampling))
        for i, sampling in enumerate(OPTIONS.values())
    ]
    return [*constrained, *(request for _, request, _ in stops(reference))]


def stops(reference: Sequence[client.Answer]) -> list[tuple[str, dict, client.Answer]]:
    """Stop strings and patterns cut out of the reference texts where two pages meet: each with its
    request, and the answer that it ends."""
    cases = []
    for i in (4, 8):
        answer, prompt = reference[i], client.prompts()[i]
        page_end = 2 * client.T - len(prompt) % client.T  # tokens of output, up to a page's end
        before, after = (client.text_of(answer.ids[:n]) for n in (page_end - 2, page_end + 2))
        straddling = after.removeprefix(before)
        for sampling in (
            {"stop": [straddling]},
            {"stop_regex": [re.escape(straddling[:-1])]},
            {"stop": ["no such text", straddling], "no_stop_trim": True},
        ):
            cases.append((straddling, client.body(prompt, **sampling), answer))
    return cases

"""Chat as applications use it: tools, structural tags, samples. The real client."""

import json

import pytest

from tests.engine import client

pytestmark = pytest.mark.server("embedded")

ON = {"deterministic": True}  # unpatched: by hooks
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,  # else SGLang forces a call, but not its arguments
        "description": "The weather of a town on a day.",
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"type": "string", "maxLength": 10},
                "day": {"enum": ["today", "tomorrow"]},
            },
            "required": ["town", "day"],
            "additionalProperties": False,
        },
    },
}
TAG = {
    "type": "structural_tag",
    "structures": [
        {
            "begin": "<weather>",
            "schema": WEATHER["function"]["parameters"],
            "end": "</weather>",
        }
    ],
    "triggers": ["<"],
}


def chat(api, text: str, **options):
    options = {"model": "default", "temperature": 0.9, "seed": 11, "max_tokens": 60} | options
    messages = [{"role": "user", "content": text}]
    return api.chat.completions.create(messages=messages, **{"extra_body": ON} | options)


FORCED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize("choice", ["required", FORCED], ids=["required", "named"])
def test_tool_calls_repeat_themselves(api, url, choice):
    """A call that the schema forces, whole and streamed, alone and in load."""
    asked = {"text": "Will it rain in Oslo?", "tools": [WEATHER], "tool_choice": choice}
    asked |= {"seed": 12, "max_tokens": 70}  # room for white space, of which this model is fond
    whole = chat(api, **asked)
    (call,) = whole.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "weather" and arguments["day"] in ("today", "tomorrow")
    with client.ordinary_traffic(url, streams=2):
        again = chat(api, **asked)
        chunks = list(chat(api, **asked, stream=True))
    assert again.choices[0].message.tool_calls[0].function == call.function
    parts = [
        part.function.arguments or ""
        for chunk in chunks
        for choice in chunk.choices
        for part in choice.delta.tool_calls or ()
    ]
    assert json.loads("".join(parts)) == arguments
    digests = {r.llm42["output_digest"] for r in (whole, again, *chunks) if hasattr(r, "llm42")}
    assert len(digests) == 1


def test_a_structural_tag_holds_and_repeats_itself(api, url):
    """Free text until the trigger, then the schema; a bias on "<" sees to it that it comes."""
    asked = {"response_format": TAG, "max_tokens": 50, "extra_body": ON | {"logit_bias": {"44": 9}}}
    text = "Print <weather> with the town and the day."
    alone = chat(api, text, **asked)
    with client.ordinary_traffic(url, streams=2):
        crowded = chat(api, text, **asked)
    assert crowded.choices[0].message.content == alone.choices[0].message.content
    assert crowded.llm42["output_digest"] == alone.llm42["output_digest"]
    assert alone.llm42["verified"]


def test_samples_of_a_chat_are_those_of_single_requests(api):
    several = chat(api, "Name a colour.", n=2, max_tokens=10)
    assert [receipt["seed"] for receipt in several.llm42] == [11, 12]
    for i, receipt in enumerate(several.llm42):
        single = chat(api, "Name a colour.", seed=11 + i, max_tokens=10)
        assert single.llm42["output_digest"] == receipt["output_digest"]
        assert single.choices[0].message.content == several.choices[i].message.content

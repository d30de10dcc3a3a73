"""Chat as applications use it: tools, formats, samples; as a suite, and with the real client."""

import json

import pytest

from tests.engine.conftest import llm42

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


FORCED = {"type": "function", "function": {"name": "weather"}}
RAIN = [{"role": "user", "content": "Will it rain in Oslo?"}]
CALL = {"name": "weather", "arguments": '{"town": "Oslo", "day": "today"}'}
TALK = [
    *RAIN,
    {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": CALL}]},
    {"role": "tool", "tool_call_id": "1", "content": '{"rain": true}'},
]
COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "green", "blue"]}}}
COLOUR |= {"required": ["colour"], "additionalProperties": False}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "colour", "schema": COLOUR}}
CASES = [
    # 70 tokens are room for white space, of which this model is fond.
    {
        "id": "named",
        "messages": RAIN,
        "tools": [WEATHER],
        "tool_choice": FORCED,
        "sampling": {"max_tokens": 70},
    },
    {
        "id": "two",
        "messages": TALK,
        "tools": [WEATHER],
        "tool_choice": "required",
        "sampling": {"max_tokens": 70, "n": 2},
    },
    {
        "id": "tag",
        "messages": [{"role": "user", "content": "Print <weather> with the town and the day."}],
        "response_format": TAG,
        "sampling": {
            "logit_bias": {"44": 9},
            "max_tokens": 50,
        },  # of "<", which sees to it that the tag comes
    },
    {
        "id": "schema",
        "messages": [{"role": "user", "content": "A colour?"}],
        "response_format": SCHEMA,
        "sampling": {"n": 2, "temperature": 1.5},
    },
    {
        "id": "samples",
        "prompt": "The colours of the rainbow are",
        "sampling": {"n": 3, "logit_bias": {"30": 4}, "stop_token_ids": [30]},  # "."
    },
]


def test_a_suite_of_all_this_passes_in_load_and_what_is_tampered_with_fails(url, tmp_path, capsys):
    """Whole and streamed. The schema forces the calls."""
    suite, golden = tmp_path / "suite.yaml", tmp_path / "golden.json"
    sampling = {"temperature": 0.9, "seed": 12, "max_tokens": 24}
    suite.write_text(json.dumps({"sampling": sampling, "cases": CASES}))
    assert llm42("record", suite, "--url", url, "--out", golden) == 0
    how = ("--url", url, "--conditions", "load,streaming,claimed", "--in-flight", 6)
    assert llm42("check", golden, *how) == 0, capsys.readouterr().out
    content = json.loads(golden.read_text())
    outputs = content["blocks"][0]["outputs"]
    for output in (outputs["two"], *outputs["two"]["others"], outputs["named"]):
        (call,) = output["tool_calls"]
        arguments = json.loads(call["arguments"])
        assert call["name"] == "weather" and arguments["day"] in ("today", "tomorrow")
    assert "<weather>{" in "".join(outputs["tag"]["text"])
    for output in (outputs["schema"], *outputs["schema"]["others"]):
        assert json.loads("".join(output["text"])).keys() == {"colour"}
    samples = [outputs["samples"], *outputs["samples"]["others"]]
    assert len({tuple(sample["ids"]) for sample in samples}) == 3
    assert {"stop"} <= {sample["finish_reason"] for sample in samples}

    call["arguments"] = json.dumps(arguments | {"day": "never"})
    samples[2]["ids"][0] += 1
    golden.write_text(json.dumps(content))
    capsys.readouterr()
    only = ("--only", "named", "--only", "samples", "--only", "schema")
    assert llm42("check", golden, "--url", url, "--conditions", "alone", *only) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "named FAILED alone, tool call 0 (weather), argument 'day': recorded \"never\"" in said
    assert "samples FAILED alone, choice 2, token 0: recorded" in said
    assert said.endswith("FAILED: 1 of 3 cases passed")


def chat(api, text: str, **options):
    options = {"model": "default", "temperature": 0.9, "seed": 11, "max_tokens": 60} | options
    messages = [{"role": "user", "content": text}]
    return api.chat.completions.create(messages=messages, **{"extra_body": ON} | options)


def test_samples_of_a_chat_are_those_of_single_requests(api):
    several = chat(api, "Name a colour.", n=2, max_tokens=10)
    assert [receipt["seed"] for receipt in several.llm42] == [11, 12]
    for i, receipt in enumerate(several.llm42):
        single = chat(api, "Name a colour.", seed=11 + i, max_tokens=10)
        assert single.llm42["output_digest"] == receipt["output_digest"]
        assert single.choices[0].message.content == several.choices[i].message.content

"""Suites with all that a request can carry: tools, formats, several choices. On fake endpoints."""

import json

import pytest

from llm42_sglang.errors import UserError
from llm42_sglang.repro.conditions import CONDITIONS
from llm42_sglang.repro.output import Output, ToolCall, mismatch
from llm42_sglang.repro.suite import Case, Sampling
from llm42_sglang.repro.wire import CHAT, COMPLETIONS, GENERATE, answer_of, body_of

ONE = ["--conditions", "alone"]
TALK = [
    {"role": "user", "content": [{"type": "text", "text": "Will it rain?"}]},
    {
        "role": "assistant",
        "tool_calls": [
            {
                "id": "1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"town": "Oslo"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "It will."},
]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CHOICE = {"type": "function", "function": {"name": "weather"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"z": 1, "a": None}}}
SAMPLED = {"max_tokens": 12, "stop_token_ids": [5, 6], "logit_bias": {"7": -1.5}, "n": 3}
CASES = [
    {"id": "call", "messages": TALK, "tools": [TOOL], "tool_choice": CHOICE},
    {"id": "calls", "messages": TALK, "tools": [TOOL], "sampling": {"n": 2}},
    {"id": "formed", "messages": TALK, "response_format": SCHEMA},
    {"id": "three", "prompt": "The sea is", "sampling": SAMPLED},
]


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(json.dumps({"sampling": {"max_tokens": 12}, "cases": CASES}))
    return path


def recorded(llm42, suite, url, *more):
    golden = suite.with_name("golden.json")
    command = llm42("record", suite, "--url", url, "--out", golden, *more)
    assert command.status == 0, command
    return golden


@pytest.mark.parametrize("api", ["native", "openai"])
def test_all_of_it_is_sent_recorded_and_passes_under_all_conditions(fake, llm42, suite, api):
    server = fake()
    golden = recorded(llm42, suite, server.url, "--api", api)
    *chats, three = (body for _, body in server.requests if "stream" in body)
    assert [body["messages"] for body in chats] == [TALK] * 3
    assert [body.get("tools") for body in chats] == [[TOOL], [TOOL], None]
    assert [body.get("tool_choice") for body in chats] == [CHOICE, None, None]
    assert json.dumps(chats[2]["response_format"]) == json.dumps(SCHEMA)
    params = three.get("sampling_params", three)
    assert {name: params[name] for name in SAMPLED if name in params}.items() >= {
        **{"stop_token_ids": [5, 6], "logit_bias": {"7": -1.5}, "n": 3}
    }.items()
    command = llm42(
        "check", golden, "--url", server.url, "--api", api, "--conditions", ",".join(CONDITIONS)
    )
    assert command.out.splitlines()[-1] == "PASSED: 4 of 4 cases passed", command.out
    (block,) = json.loads(golden.read_text())["blocks"]
    outputs = block["outputs"]
    assert [len(outputs[case["id"]].get("others", ())) for case in CASES] == [0, 1, 0, 2]
    both = [outputs["calls"], *outputs["calls"]["others"]]
    (first,), (second,) = (output["tool_calls"] for output in both)
    assert first["name"] == second["name"] == "weather" and first != second
    assert {output["finish_reason"] for output in both} == {"tool_calls"}


TAMPERED = [
    (
        "call tool_calls 0 arguments",
        lambda text: text.replace("Oslo", "Bergen"),
        "alone, tool call 0 (weather), argument 'town': recorded \"Bergen\", got \"Oslo\"",
    ),
    (
        "calls others 0 tool_calls 0 arguments",
        lambda text: text.replace('"Oslo", ', "1, \"day\": 2, "),
        "calls FAILED alone, choice 1, tool call 0 (weather), argument 'town': recorded 1, got",
    ),
    ("call tool_calls 0 name", lambda _: "storm", "tool call 0: recorded 'storm', got 'weather'"),
    ("calls others 0 tool_calls", lambda _: [], "choice 1, tool call 0: recorded none, got 'weat"),
    ("calls others 0 finish_reason", lambda _: "stop", "choice 1, finish reason: recorded 'stop'"),
    ("three others 1 ids 4", lambda token: token + 1, "three FAILED alone, choice 2, token 4:"),
    ("three others", lambda others: others[:1], "number of choices: recorded 2, got 3"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "change", "message"), TAMPERED)
def test_what_is_tampered_with_is_failed_where_it_is(fake, llm42, suite, place, change, message):
    url = fake().url
    golden = recorded(llm42, suite, url)
    content = json.loads(golden.read_text())
    holder = content["blocks"][0]["outputs"]
    *path, last = (int(name) if name.isdigit() else name for name in place.split())
    for name in path:
        holder = holder[name]
    holder[last] = change(holder[last])
    golden.write_text(json.dumps(content))
    command = llm42("check", golden, "--url", url, *ONE)
    assert command.out.splitlines()[-1] == "FAILED: 3 of 4 cases passed"
    assert message in " ".join(command.out.split())


def test_a_last_choice_that_flips_in_load_is_failed_there(fake, llm42, suite):
    golden = recorded(llm42, suite, fake().url)
    page = golden.with_name("page.html")
    command = llm42("check", golden, "--url", fake("--flips", "load").url, "--report", page)
    assert command.out.splitlines()[-1] == "FAILED: 0 of 4 cases passed"
    said = " ".join(command.out.split())
    assert "call FAILED in load, tool call 0 (weather), argument 'ids': recorded" in said
    assert "calls FAILED in load, choice 1, tool call 0 (weather), argument 'ids': recorded" in said
    assert "three FAILED in load, choice 2, token 5: recorded" in said
    assert "<h1>FAILED</h1>" in page.read_text()
    # Negative control: without the other choices nothing is seen.
    content = json.loads(golden.read_text())
    for output in content["blocks"][0]["outputs"].values():
        output.pop("others", None)
    assert mismatch(*(Output(**content["blocks"][0]["outputs"]["three"]) for _ in "ab")) is None


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ("{}", '{"a":1}', "argument 'a': recorded nothing, got 1"),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', 'arguments: recorded {"a": 1, "b": 2}, got {"b"'),
        ('{"a": 1}', '{"a": 1.0}', "argument 'a': recorded 1, got 1.0"),
        ('{"a": true}', '{"a": 1}', "argument 'a': recorded true, got 1"),
        ('{"a', '{"a"', 'arguments: recorded {"a, got {"a"'),
        ('{"a": ' + "[" * 5000, "[1]", 'arguments: recorded {"a": [[[['),
        ('{"a": "' + "x" * 99 + '"}', '{"a":""}', f'recorded "{"x" * 59}…, got ""'),
        ('{"a":[1, 2]}', '{ "a": [1,2] }', None),
        ('{"a": NaN}', '{"a": NaN}', None),
        ('"\ud83d"', '"\ud83d"', None),
    ],
)
def test_arguments_are_compared_by_their_values(before, now, message):
    sides = [Output(text="", tool_calls=[ToolCall(name="f", arguments=x)]) for x in (before, now)]
    found = mismatch(*sides)
    assert (found is None) if message is None else (message in found.describe())


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"prompt": "x", "response_format": SCHEMA}, GENERATE, f"{COMPLETIONS} and {CHAT} have it"),
        ({"prompt": "x", "tools": [TOOL]}, GENERATE, f"only {CHAT} has it: write the prompt as"),
        ({"prompt": "x", "tools": [TOOL]}, COMPLETIONS, f"only {CHAT} has it"),
        (
            {"messages": TALK, "sampling": Sampling(json_schema="{}")},
            CHAT,
            f"{GENERATE} and {COMPLETIONS} have it: use response_format",
        ),
    ],
)
def test_a_field_that_the_api_does_not_have_is_named(fake, llm42, tmp_path, fields, path, message):
    """Before anything is asked."""
    case = Case(id="a", **fields)
    with pytest.raises(UserError, match=f"case a: {path} has no ") as raised:
        body_of(case, path, "m", True)
    assert message in str(raised.value)
    suite, server = tmp_path / "s.jsonl", fake()
    suite.write_text(case.model_dump_json(exclude_none=True))
    api = "openai" if path == COMPLETIONS else "native"
    more = ("--api", api, "--out", tmp_path / "golden.json")
    assert message in llm42("record", suite, "--url", server.url, *more).mistake
    assert not server.requests
    assert "response_format" in body_of(
        Case(id="a", prompt="x", response_format=SCHEMA), COMPLETIONS, "m", True
    )


def test_an_endpoint_that_gives_another_number_of_choices_is_a_mistake(fake, llm42, suite):
    server = fake()
    body = b'{"text": "", "output_ids": [], "meta_info": {}}'
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    server.faults["The sea is"] = head + body
    command = llm42("record", suite, "--url", server.url, "--out", suite.with_name("g"))
    assert "/generate was asked for 3 choices, and has answered 1" in command.mistake


def test_receipts_have_tool_calls_and_all_choices(fake, llm42, suite):
    url, folder = fake().url, suite.with_name("receipts")
    recorded(llm42, suite, url, "--receipts", folder)
    path, three = folder / "call.json", folder / "three.json"
    assert llm42("replay", path, "--url", url).out.startswith("AUTHENTIC: ")
    path.write_text(path.read_text().replace('Oslo\\",', 'Bergen\\",'))
    said = llm42("replay", path, "--url", url).out
    assert said.startswith("NOT AUTHENTIC: tool call 0 (weather), argument 'town': the file says")
    assert "has several choices" in llm42("replay", three, "--url", url).mistake
    assert llm42("verify", three, "--url", url).out.count("AUTHENTIC") == 3


def test_every_choice_is_claimed_by_itself(fake, llm42, suite):
    server = fake()
    golden = recorded(llm42, suite, server.url)
    content = json.loads(golden.read_text())
    outputs = content["blocks"][0]["outputs"]
    outputs["three"]["others"][0]["ids"][7] += 1
    del outputs["calls"]["others"]
    golden.write_text(json.dumps(content))
    command = llm42("check", golden, "--url", server.url, "--conditions", "claimed")
    said = " ".join(command.out.split())
    assert "three FAILED claimed, choice 1, token 7: recorded" in said
    assert "calls UNKNOWN claimed, no answer: no token ids are recorded of every choice" in said
    assert said.endswith("FAILED: 2 of 4 cases passed")


@pytest.mark.parametrize(
    "events",
    [
        [{"choices": [{"delta": {"tool_calls": [{"index": [], "function": {}}]}}]}],
        [{"choices": [{"message": {"tool_calls": [{"function": {"arguments": 3}}]}}]}],
        [{"choices": [{"message": {"tool_calls": [7]}}]}],
        [{"choices": [{"index": "x", "text": ""}, {"index": 1, "text": ""}]}],
        [{"choices": [{"text": ""}] * 2, "llm42": [None]}],
    ],
)
def test_malformed_choices_and_calls_are_mistakes(events):
    with pytest.raises(UserError, match="is malformed"):
        answer_of(CHAT, events)


def test_machines_stand_side_by_side(fake, llm42, suite):
    """Each is checked by its own block. Of others the verdict names the nearest."""
    one, two = fake("--device", "a").url, fake("--device", "b", "--weights", "2").url
    golden = recorded(llm42, suite, one)
    first = json.loads(golden.read_text())["blocks"]
    assert llm42("check", golden, "--url", two, *ONE).status == 1
    recorded(llm42, suite, two, "--add")
    blocks = json.loads(golden.read_text())["blocks"]
    assert blocks[:1] == first and len(blocks) == 2
    for url in (one, two):
        out = llm42("check", golden, "--url", url, *ONE).out
        assert out.splitlines()[-2:] == ["fingerprint: the same", "PASSED: 4 of 4 cases passed"]
    before = golden.read_bytes()
    recorded(llm42, suite, two, "--add")  # it takes the place of its own
    assert golden.read_bytes() == before

    third = fake("--device", "b", "--weights", "3", "--torch", "3")
    out = llm42("check", golden, "--url", third.url, *ONE).out
    assert out.endswith("UNKNOWN: 0 of 4 cases passed\n")
    assert "none of 2 blocks has it; the nearest: torch 2.14.1 -> 3, weights changed\n" in out
    assert "device" not in out

    # New answers of a machine replace its own old ones, and those only.
    assert llm42("check", golden, "--url", third.url, *ONE, "--update").status == 0
    assert llm42("check", golden, "--url", third.url, *ONE).status == 0
    blocks = json.loads(golden.read_text())["blocks"]
    assert len(blocks) == 2 and blocks[:1] == first


def test_what_was_recorded_of_another_suite_is_not_added_to(fake, llm42, suite):
    url = fake().url
    golden = recorded(llm42, suite, url, "--add")  # there is no file yet
    before = golden.read_bytes()
    cases = [CASES[0] | {"tool_choice": "auto"}, {"id": "new", "prompt": "x"}, *CASES[2:]]
    suite.write_text(json.dumps({"sampling": {"max_tokens": 12}, "cases": cases}))
    command = llm42("record", suite, "--url", url, "--out", golden, "--add")
    assert "(call has changed, calls is missing, new is new): record it without" in command.mistake
    cases = [case | {"tags": ["x"]} for case in reversed(CASES)]
    suite.write_text(json.dumps({"sampling": {"max_tokens": 12}, "cases": cases}))
    recorded(llm42, suite, url, "--add")
    assert golden.read_bytes() != before
    assert json.loads(golden.read_text())["cases"][0]["tags"] == ["x"]
    golden.write_text("{}")
    command = llm42("record", suite, "--url", url, "--out", golden, "--add")
    assert "Field required" in command.mistake and golden.read_text() == "{}"

"""`llm42 replay` says whether a receipt is authentic."""

import json
from functools import reduce
from operator import getitem

import pytest

from llm42_sglang.repro.output import Output
from llm42_sglang.repro.segments import request_of


@pytest.mark.parametrize("case", ["sea", "greeting", "sampled"])
def test_what_the_server_said_is_authentic(receipts, fake, llm42, case):
    """The file is one of `llm42 record`, or just a request and a response."""
    path, same, other = receipts / f"{case}.json", fake().url, fake("--weights", "2").url
    assert llm42("replay", path, "--url", same).out.startswith("AUTHENTIC: ")
    command = llm42("replay", path, "--url", other)
    assert command == (1, "UNKNOWN: made under another fingerprint: weights changed\n", "")
    command = llm42("replay", path, "--url", fake("--kind", "stock").url)
    assert command.status == 1 and "gives no receipts" in command.out
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({key: saved[key] for key in ("request", "response")}))
    assert llm42("replay", path, "--url", same).status == 0
    message = llm42("replay", path, "--url", other).out
    assert "the file does not hold that fingerprint's facts" in message
    path.write_text('{"request": {}, "response": {}}')
    assert "the response is of none of the paths" in llm42("replay", path, "--url", same).mistake
    path.write_text(json.dumps(saved["response"]))
    assert 'needs {"request": BODY, "response"' in llm42("replay", path, "--url", same).mistake


def test_every_case_has_a_file_of_its_own(fake, llm42, tmp_path):
    suite, folder = tmp_path / "suite.yaml", tmp_path / "receipts"
    suite.write_text("- {id: a/b, prompt: x}\n- {id: a_b, prompt: y}\n- {id: .., prompt: z}")
    out = ("--out", tmp_path / "golden.json", "--receipts", folder)
    assert llm42("record", suite, "--url", fake().url, *out).status == 0
    assert len(list(folder.iterdir())) == 3


NATIVE, CHAT, SAID = "/generate", "/v1/chat/completions", {"deterministic": True}


@pytest.mark.parametrize(
    ("path", "asked", "sent"),
    [
        # The server has drawn the seed that the receipt names.
        (NATIVE, {}, {"sampling_seed": 123}),
        (NATIVE, {"sampling_seed": "fresh"} | SAID, {"sampling_seed": 123} | SAID),
        (
            NATIVE,
            {"custom_params": {"sampling_seed": "fresh"} | SAID},
            {"custom_params": SAID, "sampling_seed": 123},
        ),
        (CHAT, {}, {"seed": 123}),
        (CHAT, {"seed": "fresh"} | SAID, {"seed": 123} | SAID),
        (CHAT, {"sampling_seed": "fresh"}, {"seed": 123}),
        # It has not, so that a receipt with another seed is a forged one.
        (NATIVE, {"custom_params": SAID}, {"custom_params": SAID}),
        (NATIVE, {"sampling_seed": 7}, {"sampling_seed": 7}),
        (NATIVE, SAID, SAID),
        (CHAT, SAID, SAID),
        (CHAT, {"seed": 7}, {"seed": 7}),
    ],
)
def test_a_drawn_seed_is_sent_and_no_other(receipts, fake, llm42, path, asked, sent):
    """Whatever comes back."""
    file, server = receipts / ("sea.json" if path == NATIVE else "greeting.json"), fake()
    saved = json.loads(file.read_text())
    request, response = saved["request"], saved["response"]
    stamp = (response["meta_info"] if path == NATIVE else response)["llm42"]
    del stamp["version"]  # as one of version 1 it is not looked into, and the server is asked
    stamp["seed"] = 123
    others = {"max_new_tokens": 12} if path == NATIVE else {"model": "fake", "max_tokens": 12}
    if path == NATIVE:
        saved["request"] = request | {"sampling_params": others | asked}
    else:
        saved["request"] = {"messages": request["messages"]} | others | asked
    file.write_text(json.dumps(saved))
    assert llm42("replay", file, "--url", server.url).status == 1
    ((asked_path, body),) = server.requests
    assert asked_path == path
    got = body["sampling_params"] if path == NATIVE else body
    assert {name: got[name] for name in got.keys() - {"messages", "stream"}} == others | sent


@pytest.mark.parametrize(
    ("place", "change", "mistake"),
    [
        ("response.text", lambda text: text.replace("sea", "lake", 1), None),
        ("response.output_ids", lambda ids: [*ids[:3], ids[3] + 1, *ids[4:]], None),
        ("response.meta_info.llm42.output_digest", lambda digest: digest[::-1], None),
        ("response.meta_info.llm42.seed", lambda _: 8, None),
        ("request.text", lambda text: text + "!", None),
        ("response.meta_info.llm42", lambda _: None, "carries no receipt"),
        ("response.meta_info.llm42.output_digest", lambda _: None, "output_digest: Field required"),
        ("response", lambda _: {"answer": 42}, "the answer of /generate is malformed"),
        ("path", lambda _: "/v1/audio", "path: Input should be '/generate'"),
        ("request", lambda _: None, "what was sent and what came"),
        ("version", lambda _: 9, "version: Input should be 1"),
        ("response.choices", lambda _: [{}, {}], "has several choices"),
    ],
)
def test_a_changed_file_is_not_authentic_or_a_mistake(
    receipts, fake, llm42, place, change, mistake
):
    """`place` has the keys of the value that `change` changes. None stands for a missing value."""
    path = receipts / "sea.json"
    saved = json.loads(path.read_text())
    *parents, key = place.split(".")
    holder = reduce(getitem, parents, saved)
    holder[key] = change(holder.get(key))
    if holder[key] is None:
        del holder[key]
    path.write_text(json.dumps(saved))
    command = llm42("replay", path, "--url", fake().url)
    if mistake:
        assert mistake in command.mistake
    else:
        assert command.status == 1 and command.out.startswith("NOT AUTHENTIC: ")


@pytest.mark.parametrize(
    "params", [{}, {"sampling_seed": "fresh"}, {"custom_params": {"sampling_seed": "fresh"} | SAID}]
)
def test_a_segment_is_drawn_with_the_seed_of_the_receipt(params):
    stamp = {"verified": True, "fingerprint": "g", "output_digest": "d", "seed": 123}
    stamp["segments"] = [{"fingerprint": f, "tokens": n} for f, n in (("f", 2), ("g", 3))]
    claimed = Output(text="", finish_reason="length", ids=[1, 2, 3, 4, 5], receipt=stamp)
    request = {"input_ids": [9], "sampling_params": {"max_new_tokens": 5} | params}
    alone = request_of(NATIVE, request, claimed, 1)
    assert alone["input_ids"] == [9, 1, 2]
    sampling = alone["sampling_params"]
    assert (sampling["sampling_seed"], sampling["max_new_tokens"]) == (123, 3)
    assert "fresh" not in str(sampling)

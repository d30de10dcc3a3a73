"""`llm42 verify` and the condition `claimed`: answers are checked, not generated."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from llm42_sglang.repro.exchange import SavedExchange
from llm42_sglang.repro.samples import samples_of
from llm42_sglang.repro.wire import deterministic_said


def change(path: Path, place: Sequence[str], value: object) -> None:
    """Put a value into a file of JSON, at the place with these names."""
    saved = holder = json.loads(path.read_text())
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    path.write_text(json.dumps(saved))


@pytest.mark.parametrize("case", ["sea", "greeting", "sampled"])
def test_what_the_server_said_is_authentic(receipts, fake, llm42, case):
    path, same, other = receipts / f"{case}.json", fake(), fake("--weights", "2").url
    assert llm42("verify", path, "--url", same.url).out.startswith("AUTHENTIC: ")
    ((_, body),) = same.requests
    params = body.get("sampling_params", body)
    assert deterministic_said(params) is True and len(params["custom_params"]["claim"]) > 5
    command = llm42("verify", path, "--url", other)
    assert command == (1, "UNKNOWN: made under another fingerprint: weights changed\n", "")
    command = llm42("verify", path, "--url", fake("--kind", "stock").url)
    assert command.status == 1 and "gives no receipts" in command.out


@pytest.mark.parametrize("at", [0, 4, 11])
def test_a_wrong_token_is_placed(receipts, fake, llm42, at):
    path, server = receipts / "sea.json", fake()
    saved = json.loads(path.read_text())
    right = saved["response"]["output_ids"][at]
    saved["response"]["output_ids"][at] = 999
    path.write_text(json.dumps(saved))
    command = llm42("verify", path, "--url", server.url)
    said = f"token {at}: the file says 999, and the server draws {right}, whose logit is larger by"
    assert command.status == 1 and command.out.startswith(f"NOT AUTHENTIC: {said}")
    (found,) = json.loads(llm42("verify", path, "--url", server.url, "--json").out)
    assert (found["token"], found["claimed"], found["drawn"]) == (at, 999, right)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("response", "meta_info", "llm42"), None, "UNKNOWN: it is this server's answer, but it"),
        (("response", "text"), "x", "NOT AUTHENTIC: character 0"),
        (
            ("response", "meta_info", "llm42", "seed"),
            8,
            "NOT AUTHENTIC: the receipt claims seed 8, not None",
        ),
        (("response", "output_ids"), [], "NOT AUTHENTIC: the file gives no output_digest"),
        (("request", "text"), "another", "NOT AUTHENTIC: token 0"),
    ],
)
def test_other_changes(receipts, fake, llm42, place, value, said):
    path = receipts / "sea.json"
    change(path, place, value)
    command = llm42("verify", path, "--url", fake().url)
    assert command.status == 1 and command.out.startswith(said), command.out


def test_the_condition_claimed_finds_what_the_others_find(golden, fake, llm42):
    """And costs no generation. Under another fingerprint nothing is known."""
    claimed = ("check", golden, "--conditions", "claimed", "--url")
    server = fake()
    assert llm42(*claimed, server.url).status == 0
    for _, body in server.requests:
        assert "claim" in body.get("sampling_params", body)["custom_params"]
    command = llm42(*claimed, fake("--weights", "2").url)
    assert command.status == 1 and "UNKNOWN" in command.out and "FAILED" not in command.out
    changed = json.loads(golden.read_text())
    changed["blocks"][0]["outputs"]["sea"]["ids"][3] += 1
    golden.write_text(json.dumps(changed))
    command = llm42(*claimed, server.url)
    assert command.status == 1 and "FAILED" in command.out and "token 3: recorded" in command.out


@pytest.mark.parametrize(
    ("place", "value", "mistake"),
    [
        (("request", "sampling_params"), [1, 2], "sampling_params must be an object"),
        (("request", "sampling_params"), "x", "sampling_params must be an object"),
        (("request", "sampling_params", "custom_params"), "x", "custom_params must be an object"),
        (("request", "sampling_params", "n"), 3, "asks for n = 3, and 1 answers are there"),
        (("request", "text"), ["a", "b"], "has several prompts"),
        (("response", "choices"), [{}, {}], "asks for n = 1, and 2 answers are there"),
    ],
)
def test_mistakes_are_one_line(receipts, fake, llm42, place, value, mistake):
    path = receipts / "sea.json"
    change(path, place, value)
    assert mistake in llm42("verify", path, "--url", fake().url).mistake


def test_a_list_of_one_is_one(receipts, fake, llm42):
    path = receipts / "sea.json"
    saved = json.loads(path.read_text())
    request = saved["request"]
    saved["response"] = [saved["response"]]
    saved["request"] |= {"text": [request["text"]], "sampling_params": [request["sampling_params"]]}
    path.write_text(json.dumps(saved))
    assert llm42("verify", path, "--url", fake().url).status == 0


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_nothing_in_a_file_can_write_a_line_of_its_own(receipts, fake, llm42, command):
    path = receipts / "sea.json"
    saved = json.loads(path.read_text())
    saved["response"]["meta_info"]["llm42"]["nonce"] = "x\nAUTHENTIC: \x1b[2J"
    path.write_text(json.dumps(saved))
    said = llm42(command, path, "--url", fake().url).out
    assert said.startswith("NOT AUTHENTIC: ") and said.count("\n") == 1 and "\x1b" not in said


def test_a_receipt_beside_a_request_that_asks_for_none_is_not_its_own(receipts, fake, llm42):
    """Without the receipt the tokens are checked, as if it had asked."""
    path, server = receipts / "sea.json", fake()
    saved = json.loads(path.read_text())
    saved["request"]["sampling_params"]["custom_params"] = {"deterministic": False}
    path.write_text(json.dumps(saved))
    assert "has not asked for determinism" in llm42("verify", path, "--url", server.url).out
    del saved["response"]["meta_info"]["llm42"]
    path.write_text(json.dumps(saved))
    assert "UNKNOWN: it is this server's" in llm42("verify", path, "--url", server.url).out


def test_texts_of_tokens_are_compared_too(receipts, fake, llm42):
    path = receipts / "sea.json"
    saved = json.loads(path.read_text())
    saved["response"]["meta_info"]["output_token_logprobs"][2][2] = "EVIL"
    path.write_text(json.dumps(saved))
    said = llm42("verify", path, "--url", fake().url).out
    assert said.startswith("NOT AUTHENTIC: token 2: the file says 'EVIL'"), said


def test_a_refuted_claim_says_nothing_about_other_conditions(golden, fake, llm42):
    """After a change of the fingerprint the answers are others, and can be recorded."""
    other, both = fake("--weights", "2").url, ("--conditions", "alone,claimed")
    command = llm42("check", golden, "--url", other, *both)
    assert command.status == 1 and "FAILED" not in command.out
    assert llm42("check", golden, "--url", other, *both, "--update").status == 0
    assert llm42("check", golden, "--url", other, *both).status == 0
    claimed = ("check", golden, "--url", fake("--weights", "3").url, "--conditions", "claimed")
    assert "was only claimed" in llm42(*claimed, "--update").mistake


def exchange(path: str, request: dict, answers: int) -> SavedExchange:
    """With answers whose receipts name seeds 70, 71, ..."""
    receipts = [{"seed": 70 + i} for i in range(answers)]
    if path == "/generate":
        response = [{"meta_info": {"llm42": one}} for one in receipts]
    else:
        response = {"choices": [{"index": i} for i in range(answers)], "llm42": receipts}
    return SavedExchange(path=path, request=request, response=response)


CHAT, SAID = "/v1/chat/completions", {"deterministic": True}


@pytest.mark.parametrize(
    ("path", "params", "seeds"),
    [
        ("/generate", {"sampling_seed": 7}, [7, 8]),
        ("/generate", {"custom_params": SAID}, [None, 71]),  # whatever the server's default is
        ("/generate", {}, [None, None]),  # the server drew it, and the receipts name it
        (CHAT, {"seed": 2**63 - 1}, [2**63 - 1, -(2**63)]),
        (CHAT, {"seed": "fresh"} | SAID, ["fresh", "fresh"]),
        (CHAT, {"custom_params": {"sampling_seed": 3}}, [3, 4]),
    ],
)
def test_sample_i_is_the_request_with_seed_plus_i(path, params, seeds):
    native = path == "/generate"
    request = {"sampling_params": {"n": 2} | params} if native else {"n": 2} | params
    for i, one in enumerate(samples_of(exchange(path, request, 2))):
        got = one.request["sampling_params"] if native else one.request
        assert got["n"] == 1
        assert got.get("sampling_seed" if native else "seed") == seeds[i]
        assert len(one.answers) == 1
        meta = one.response["meta_info"] if native else one.response
        assert meta["llm42"] == {"seed": 70 + i}

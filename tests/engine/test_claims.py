"""Claimed answers on real servers: right ones are confirmed bit by bit, wrong ones are placed."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm42_sglang.repro.claims import verify_one
from llm42_sglang.repro.connection import GENERATE, at_once
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.exchange import SavedExchange
from llm42_sglang.repro.judge import CheckVerdict
from tests.engine import client, constrained

SAMPLED = {"temperature": 0.9, "top_p": 0.95, "sampling_seed": 11}
SCORED = {"return_logprob": True, "top_logprobs_num": 2}
SAME = ("finish_reason", "output_token_logprobs", "output_top_logprobs", "prompt_tokens")
BOUND = ("fingerprint", "request_digest", "output_digest", "seed", "sampling", "verified")


def claiming(request: dict, ids) -> dict:
    """The request, with a claim."""
    params = request["sampling_params"]
    custom = {**params.get("custom_params", {}), "claim": list(ids)}
    return {**request, "sampling_params": {**params, "custom_params": custom}}


def refuted(answer: client.Answer) -> dict:
    """Where the claim is wrong. Fails for one that is right."""
    assert answer.meta["finish_reason"]["type"] == "abort" and "verified" not in answer.meta
    return answer.meta["llm42"]["refuted"]


def requests(reference) -> list[dict]:
    """All kinds, with logprobs, on prompts of many lengths."""
    plain = [client.body(ids) for ids in client.prompts()]
    sampled = [client.body(ids, **SAMPLED, max_new_tokens=70) for ids in client.prompts()[::3]]
    # The grammar is complete, and the next token is the last by length too.
    ends = [client.body([5, 6, 7], regex="aaa", max_new_tokens=most) for most in (3, 4, 5)]
    every = (*ends, *plain, *sampled, *constrained.requests(reference))
    return [one | SCORED for one in every]


@pytest.mark.server("tiny")
def test_a_right_claim_gives_the_answer_itself_and_a_wrong_one_its_place(url, reference):
    """In load: claims, the requests themselves, and ordinary ones, side by side."""
    asked = requests(reference)
    asked = [*asked[:3], *asked[3::2]]
    answers = client.ask_all(url, asked, in_flight=8)
    ordinary = [client.body(ids, deterministic=False) for ids in client.prompts()]
    claims = [claiming(one, answer.ids) for one, answer in zip(asked, answers, strict=True)]
    both = client.ask_all(url, [*claims, *ordinary, *asked[:8]], in_flight=12, shuffle=1)
    for answer, again in zip(answers, both[: len(claims)], strict=True):
        assert (again.ids, again.text) == (answer.ids, answer.text)
        for name in SAME:
            assert again.meta[name] == answer.meta[name]
        for name in BOUND:
            assert again.meta["llm42"][name] == answer.meta["llm42"][name]

    wrong, places = [], []
    for i, (one, answer) in enumerate(zip(asked, answers, strict=True)):
        ids, last = answer.ids, len(answer.ids) - 1
        at = (0, last // 2, last)[i % 3]
        other = (ids[at] + 7) % 1000
        wrong.append(claiming(one, [*ids[:at], other, *ids[at + 1 :]]))
        places.append((at, other, ids[at]))
        shorter = i % 2 and last
        wrong.append(claiming(one, ids[:-1] if shorter else [*ids, 5]))
        places.append((last, None, ids[last]) if shorter else (last + 1, 5, None))
    for got, place in zip(client.ask_all(url, wrong, in_flight=12), places, strict=True):
        found = refuted(got)
        assert (found["token"], found["claimed"], found["drawn"]) == place
        assert (found["margin"] is None) == (None in place)


@pytest.mark.server("tiny")
def test_the_margin_is_between_the_logits_of_both_tokens(url):
    """Greedy, so that it is the margin between logprobs too."""
    request = client.body(client.prompts()[3]) | {"return_logprob": True, "top_logprobs_num": 5}
    answer = client.ask(url, request)
    for at in (0, 20):
        (best, token, _), (second, other, _) = answer.meta["output_top_logprobs"][at][:2]
        assert token == answer.ids[at]
        found = refuted(client.ask(url, claiming(request, [*answer.ids[:at], other])))
        assert found["margin"] == pytest.approx(best - second, abs=1e-4)


def verdicts(url: str, exchanges: list[SavedExchange]) -> list[CheckVerdict]:
    """One for each, from 12 at once."""
    with connect(url) as endpoint:
        judged = at_once(lambda one: verify_one(endpoint, one, None, "it"), exchanges, 12)
    return [result.verdict for result in judged]


@pytest.mark.parametrize(
    "stepped",
    [
        pytest.param(True, marks=pytest.mark.server("tiny"), id="canonical steps"),
        pytest.param(False, marks=pytest.mark.server("faulty"), id="verification alone"),
    ],
)
def test_honest_answers_made_in_load_are_authentic(url, stepped, count=40):
    dice, asked = random.Random(count), []
    for _ in range(count):
        prompt = dice.choice(client.prompts())[: dice.randrange(3, 120)]
        how = dice.choice([{}, SAMPLED, {"frequency_penalty": 0.5}, {"regex": "[a-z ]{9,40}"}])
        most = dice.randrange(1, 50)
        asked.append(client.body(prompt, **how, max_new_tokens=most, ignore_eos=False))
    responses = at_once(client.connection(url).generate, asked, 16)
    made = [response["meta_info"]["llm42"]["canonical_steps"] for response in responses]
    assert any(made) == stepped
    exchanges = [
        SavedExchange(path=GENERATE, request=request, response=response)
        for request, response in zip(asked, responses, strict=True)
    ]
    assert set(verdicts(url, exchanges)) == {CheckVerdict.PASSED}


@pytest.mark.server("tiny")
def test_every_change_of_an_exchange_is_found(url):
    request = client.body(client.prompts()[2], **SAMPLED) | {"return_logprob": True}
    whole = {"request": request, "response": client.connection(url).generate(request)}
    facts = client.get(url, "/llm42/fingerprint").json()
    whole["fingerprint"] = {"digest": facts["fingerprint"], "facts": facts["facts"]}

    def verdict(*place_and_value) -> tuple[str, str]:
        changed = json.loads(json.dumps(whole))
        *parents, key, value = place_and_value
        holder = changed
        for name in parents:
            holder = holder[name]
        holder[key] = value
        said = client.post(url, changed, path="/llm42/verify").require_ok().json()
        return said["verdict"], said["reason"]

    meta = ("response", "meta_info")
    assert verdict("version", 1)[0] == "AUTHENTIC"
    for place, value, reason in (
        (("request", "sampling_params", "sampling_seed"), 12, "token "),
        (("request", "sampling_params", "temperature"), 0.2, "token "),
        (("request", "sampling_params", "max_new_tokens"), 41, "token 40: the file ends there"),
        (("request", "sampling_params", "max_new_tokens"), 39, "token 39: the answer ends there"),
        (("request", "input_ids", 0), 5, "token "),
        (("response", "text"), "", "character 0"),
        ((*meta, "finish_reason", "type"), "stop", "finish reason"),
        ((*meta, "output_token_logprobs", 3, 0), -1.5, "logprobs"),
        ((*meta, "llm42", "canonical_steps"), 99, "receipt_digest"),
        ((*meta, "llm42", "seed"), 12, "receipt"),
    ):
        said = verdict(*place, value)
        assert said[0] == "NOT AUTHENTIC" and reason in said[1], (place, said)
    assert verdict(*meta, "llm42", None) == (
        "UNKNOWN",
        "it is this server's answer, but it has no receipt that says so",
    )


@pytest.mark.server("tiny")
def test_samples_of_a_chat_are_judged_one_by_one(url):
    body = {"messages": [{"role": "user", "content": "Name three colours."}], "n": 3}
    body |= {"temperature": 0.9, "max_tokens": 20, "return_token_ids": True, "logprobs": True}
    response = client.post(url, body, path="/v1/chat/completions").require_ok().json()
    said = client.post(url, {"request": body, "response": response}, path="/llm42/verify").json()
    assert [one["verdict"] for one in said["samples"]] == ["AUTHENTIC"] * 3
    response["choices"][1]["response_token_ids"][4] += 1
    said = client.post(url, {"request": body, "response": response}, path="/llm42/verify").json()
    assert said["verdict"] == "NOT AUTHENTIC"
    assert [one.get("token") for one in said["samples"]] == [None, 4, None]


@pytest.mark.server("tiny")
@pytest.mark.parametrize(
    ("claim", "complaint"),
    [
        ([], "claim must be a list of token ids"),
        ("text", "claim must be a list of token ids"),
        ([1.5], "claim must be a list of token ids"),
        ([-1], "claim: valid token ids are 0 to"),
        ([10**9], "claim: valid token ids are 0 to"),
    ],
)
def test_a_claim_that_is_none_is_refused(url, claim, complaint):
    request = client.body(client.prompts()[0])
    request["sampling_params"]["custom_params"]["claim"] = claim
    answer = client.post(url, request)
    assert answer.status == 400 and complaint in answer.text


@pytest.mark.server("tiny")
def test_bad_bodies_of_the_endpoint_are_one_line(url):
    for body, complaint in (
        ({}, "what was sent and what came"),
        ({"request": {}, "response": {"meta_info": {}}}, "malformed"),
        ({"request": {}, "response": []}, "of none of the paths"),
        ({"path": "/v1/audio", "request": {}, "response": {}}, "path: Input should be"),
    ):
        answer = client.post(url, body, path="/llm42/verify")
        assert answer.status == 400 and complaint in answer.text and "\\n" not in answer.text


@pytest.mark.server("tiny")
def test_a_claim_that_is_paused_or_aborted_in_its_middle_leaks_nothing(url):
    """It is longer than two chunks. A pause retracts it, and it begins again."""
    request = client.body(client.prompts()[1], **SAMPLED, max_new_tokens=260) | SCORED
    answer = client.ask(url, request)
    claim = claiming(request, answer.ids)
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(client.ask, url, claim)
        time.sleep(0.1)
        client.post(url, {"mode": "retract"}, path="/pause_generation").require_ok()
        client.post(url, {}, path="/continue_generation").require_ok()
        assert client.bits_of([again.result()]) == client.bits_of([answer])
        ended = pool.submit(client.post, url, claim | {"rid": "claimed"})
        time.sleep(0.1)
        client.post(url, {"rid": "claimed"}, path="/abort_request").require_ok()
        reason = ended.result().json()["meta_info"]["finish_reason"]
        assert reason["type"] in ("abort", "length")
    client.flush(url)


@pytest.mark.server("two nodes")
def test_all_ranks_decide_alike(url):
    request = client.body(client.prompts()[4], **SAMPLED) | SCORED
    answer = client.ask(url, request)
    assert client.ask(url, claiming(request, answer.ids)).ids == answer.ids
    assert refuted(client.ask(url, claiming(request, [*answer.ids[:9], 3])))["token"] == 9

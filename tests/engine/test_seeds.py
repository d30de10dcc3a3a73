"""Fresh seeds: who gets one, that they differ, and that an answer can be asked for again."""

import json
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from sglang.srt.managers.io_struct import GenerateReqInput, TokenizedGenerateReqInput
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.core.config import Config
from llm42_sglang.core.seeds import fresh_seed
from llm42_sglang.engine.front import samples
from llm42_sglang.engine.front.gatekeeper import Gatekeeper
from llm42_sglang.frontend.options import Refused
from tests.engine import client
from tests.engine.conftest import llm42

ON = {"deterministic": True}
FRESH = {"sampling_seed": "fresh"}
SAMPLED = {"temperature": 1.0, "max_new_tokens": 20}
MANY = 8


def require_variety(seeds: list[int], texts: list[object]) -> None:
    """A group of rollouts must not be clones."""
    assert len({*seeds}) == len(seeds)
    assert len({*texts}) > 1


# -- Without a server: what leaves the front process --


def seeds_sent(body: dict, default: bool = False) -> list[int | None]:
    """The seeds with which a /generate request is sent, prompt by prompt and sample by sample."""
    gate = Gatekeeper(Config(default=default))
    gate.problem = None
    gate.metrics = SimpleNamespace(refused=lambda status: None)
    obj = GenerateReqInput(**body)
    gate.examine(obj)
    obj.normalize_batch_and_arguments()
    parts = [obj] if obj.is_single else [obj[i] for i in range(obj.batch_size)]
    seeds = []
    for part in parts:
        params = SamplingParams(**part.sampling_params)
        fields = dict.fromkeys(TokenizedGenerateReqInput.__struct_fields__)
        sent = TokenizedGenerateReqInput(**fields | {"sampling_params": params})
        admitted = gate.admit(lambda *_, sent=sent: sent, None, None).sampling_params
        seeds += [samples.next_sample(admitted).sampling_seed for _ in range(admitted.n)]
    return seeds


def one(**sampling) -> dict:
    return {"text": "a", "sampling_params": {"temperature": 1.0} | sampling}


@pytest.mark.parametrize(
    ("sampling", "default", "seed"),
    [
        (ON, False, None),  # the documented default, in the scheduler
        (ON, True, None),
        (ON | {"sampling_seed": 7}, True, 7),
        ({"sampling_seed": 7}, True, 7),
        ({"temperature": 0}, True, None),
        ({"top_k": 1}, True, None),
        (ON | FRESH | {"temperature": 0}, True, None),
        ({"deterministic": False}, True, None),
        ({}, False, None),
    ],
)
def test_who_gets_no_fresh_seed(monkeypatch, sampling, default, seed):
    monkeypatch.setattr(samples, "fresh_seed", lambda: pytest.fail("a seed was drawn"))
    assert seeds_sent(one(**sampling), default) == [seed]


BATCH = {"text": ["a"] * MANY, "sampling_params": {"temperature": 1.0} | ON | FRESH}
GROUPS: list[Callable[[], list]] = [
    lambda: [seed for _ in range(MANY) for seed in seeds_sent(one(), default=True)],
    lambda: [seed for _ in range(MANY) for seed in seeds_sent(one(**ON, **FRESH))],
    lambda: [seed for _ in range(MANY) for seed in seeds_sent(one(custom_params=ON | FRESH))],
    lambda: seeds_sent(BATCH),  # one object of parameters for all prompts
    lambda: seeds_sent(BATCH | {"sampling_params": [BATCH["sampling_params"]] * MANY}),
    lambda: seeds_sent({"text": ["a"] * MANY}, default=True),
]


@pytest.mark.parametrize("group", GROUPS)
def test_fresh_seeds_differ(monkeypatch, group):
    seeds = group()
    require_variety(seeds, seeds)
    monkeypatch.setattr(samples, "fresh_seed", lambda: 42)  # the control
    clones = group()
    with pytest.raises(AssertionError):
        require_variety(clones, clones)


def test_each_prompt_of_a_batch_has_its_own_rule():
    rules = [FRESH, {"sampling_seed": 7}, {}, FRESH | {"temperature": 0}]
    params = [{"temperature": 1.0} | ON | rule for rule in rules]
    drawn, *others = seeds_sent({"text": ["a"] * 4, "sampling_params": params})
    assert others == [7, None, None] and drawn is not None


@pytest.mark.parametrize("how", [ON | FRESH, {}])
def test_samples_follow_one_fresh_seed_and_never_wrap(monkeypatch, how):
    base, *others = seeds_sent(one(**how, n=4), default=True)
    assert others == [base + 1, base + 2, base + 3]
    monkeypatch.setattr("secrets.randbits", lambda bits: 2**bits - 1)  # the largest
    assert seeds_sent(one(**how, n=64), default=True)[-1] == fresh_seed() + 63 < 2**53


def test_parameters_can_be_used_again():
    """As a caller of `Engine` does, who then asks for the same answer."""
    sampling = {"temperature": 1.0} | ON | FRESH
    body = {"text": "a", "sampling_params": sampling}
    assert seeds_sent(body) != seeds_sent(body)
    sampling["sampling_seed"] = 7
    assert seeds_sent(body) == [7]


def test_a_preferred_seed_does_not_take_the_place_of_a_fresh_one():
    obj = GenerateReqInput(**one(**ON, **FRESH))
    gate = Gatekeeper(Config())
    gate.problem = None
    gate.examine(obj)
    assert SamplingParams(**{"sampling_seed": 5} | obj.sampling_params).sampling_seed is None


@pytest.mark.parametrize(
    ("sampling", "default"),
    [
        (FRESH, False),
        ({"custom_params": FRESH}, False),
        (FRESH | {"deterministic": False}, True),
        (ON | {"sampling_seed": 7, "custom_params": FRESH}, False),
        (ON | {"sampling_seed": "new"}, False),
        (ON | {"custom_params": {"sampling_seed": "new"}}, False),
        (ON | FRESH | {"custom_params": [1]}, False),
    ],
)
def test_refused_in_one_line(sampling, default):
    with pytest.raises(Refused, match=r"sampling_seed|custom_params") as refused:
        seeds_sent(one(**sampling), default)
    assert refused.value.status_code == 400 and "\n" not in str(refused.value)


# -- On a server --

tiny = pytest.mark.server("tiny")


def group(url: str, deterministic: bool | None, **sampling) -> list[client.Answer]:
    """The answers to the same request, MANY times at once."""
    request = client.body(client.prompts()[2], deterministic, **SAMPLED | sampling)
    return client.ask_all(url, [request | {"return_logprob": True}] * MANY, MANY)


def seeds_of(answers: list[client.Answer]) -> list[int]:
    return [answer.meta["llm42"]["seed"] for answer in answers]


def require_same_again(url: str, answers: list[client.Answer], ids=None) -> None:
    """Each, asked for again alone with the seed of its receipt, must have the same bits."""
    ids = ids or client.prompts()[2]
    again = [
        client.body(ids, **SAMPLED, sampling_seed=seed) | {"return_logprob": True}
        for seed in seeds_of(answers)
    ]
    repeated = client.ask_all(url, again, in_flight=1)
    assert client.bits_of(repeated) == client.bits_of(answers)
    digests = [[one.meta["llm42"]["output_digest"] for one in of] for of in (repeated, answers)]
    assert digests[0] == digests[1]


def require_varied(answers: list[client.Answer]) -> None:
    require_variety(seeds_of(answers), [answer.text for answer in answers])


@tiny
def test_a_group_by_default_has_variety_and_each_answer_comes_again(url):
    answers = group(url, None)
    require_varied(answers)
    require_same_again(url, answers)


@tiny
def test_who_asks_for_determinism_gets_the_documented_seed(url):
    """And the control: a group of these has no variety."""
    answers = group(url, True)
    assert {*seeds_of(answers)} == {42}
    assert len({*client.ids_of(answers)}) == 1
    with pytest.raises(AssertionError):
        require_varied(answers)


@tiny
def test_greedy_requests_draw_nothing(url):
    answers = group(url, None, temperature=0)
    assert {*seeds_of(answers)} == {None}
    assert len({*map(str, client.bits_of(answers))}) == 1


@tiny
@pytest.mark.parametrize("how", [ON | FRESH, {}])
def test_samples_draw_with_seeds_that_follow(url, how):
    request = client.body(client.prompts()[2], None, **SAMPLED, n=4) | {"return_logprob": True}
    request["sampling_params"] |= how
    reply = client.post(url, request)
    answers = [*map(client.Answer.of, json.loads(reply.text))]
    first, *others = seeds_of(answers)
    assert others == [first + 1, first + 2, first + 3]
    require_same_again(url, answers)


@pytest.mark.server("faulty")
def test_every_prompt_of_a_batch_has_a_seed_of_its_own(url):
    """The word has to be said here, and candidates are rolled back."""
    ids = client.prompts()[2]
    request = client.body(ids, True, **SAMPLED, **FRESH)
    request |= {"input_ids": [list(ids)] * 3, "return_logprob": True}
    answers = [*map(client.Answer.of, json.loads(client.post(url, request).text))]
    require_varied(answers)
    require_same_again(url, answers)
    assert client.total(answers, "rollbacks")
    refused = client.post(url, client.body(ids, None, **SAMPLED, **FRESH))
    assert refused.status == 400 and "for deterministic requests" in refused.text


@pytest.mark.server("two replicas")
def test_any_replica_gives_the_answer_again(url):
    """Eight requests and then eight more: each replica has some of both."""
    answers = group(url, True, **FRESH)
    require_varied(answers)
    require_same_again(url, answers)


OPENAI = {
    "/v1/completions": {"prompt": "The sea", "max_tokens": 20},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 22},
}


@tiny
@pytest.mark.parametrize("path", OPENAI)
@pytest.mark.parametrize("how", [{"seed": "fresh", "deterministic": True}, {}])
def test_openai_endpoints(url, path, how):
    model = client.get(url, "/v1/models").json()["data"][0]["id"]  # /v1/responses wants its name
    body = {"model": model, "temperature": 1.0} | OPENAI[path]
    receipts = [client.post(url, body | how, path=path).json()["llm42"] for _ in range(3)]
    require_variety(*zip(*((r["seed"], r["output_digest"]) for r in receipts), strict=True))
    for receipt in receipts:
        again = client.post(url, body | ON | {"seed": receipt["seed"]}, path=path).json()
        assert again["llm42"]["output_digest"] == receipt["output_digest"]
    refused = client.post(url, body | {"seed": "fresh", "deterministic": False}, path=path)
    assert refused.status == 400 and "for deterministic requests" in refused.text


@tiny
def test_a_stream_and_several_choices_name_their_seeds(api):
    how = {"extra_body": {"ignore_eos": True}, "seed": "fresh", "max_tokens": 12}
    how |= {"model": "default", "prompt": ["The sea", "The sea"], "temperature": 1.0, "n": 2}
    a, b, c, d = [receipt["seed"] for receipt in api.completions.create(**how).llm42]
    assert (b, d) == (a + 1, c + 1) and a != c
    chunks = api.completions.create(**how, stream=True)
    last = [chunk for chunk in chunks if hasattr(chunk, "llm42")]
    streamed = {chunk.choices[0].index: chunk.llm42["seed"] for chunk in last}
    assert streamed[1] == streamed[0] + 1 and streamed[0] not in (a, c, streamed[2])


@tiny
@pytest.mark.parametrize("path", ["/generate", "/v1/completions", "/v1/chat/completions"])
def test_an_answer_with_a_drawn_seed_is_replayed(url, path, capsys, tmp_path):
    native = {"text": "Hi", "sampling_params": {**SAMPLED, **FRESH}}
    request = native if path == "/generate" else OPENAI[path]
    response = client.post(url, request, path=path).json()
    saved = SimpleNamespace(right=tmp_path / "right.json", forged=tmp_path / "forged.json")
    content = {"path": path, "request": request, "response": response}
    saved.right.write_text(json.dumps(content))
    assert llm42("replay", saved.right, "--url", url) == 0, capsys.readouterr().out
    (response["meta_info"] if path == "/generate" else response)["llm42"]["seed"] += 1
    saved.forged.write_text(json.dumps(content))
    assert llm42("replay", saved.forged, "--url", url) == 1
    assert "NOT AUTHENTIC" in capsys.readouterr().out

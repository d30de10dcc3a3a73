"""Seeded sampling and logprobs: the same bits alone, in load, warm, cold and streamed."""

import json
from dataclasses import dataclass

import pytest

from tests.engine import client

pytestmark = pytest.mark.server("tiny")

FILTERS = {
    "none": {},
    "top_k": {"top_k": 40},
    "top_p": {"top_p": 0.9},
    "min_p": {"min_p": 0.05},
    "all": {"top_k": 40, "top_p": 0.9, "min_p": 0.02},
}
MATRIX = [{"temperature": 0, **FILTERS["all"], "sampling_seed": 7}] + [
    {"temperature": 0.8, **filters, "sampling_seed": seed}
    for seed, filters in enumerate(FILTERS.values(), start=7)
]
TOKENS = 34  # crosses two ends of pages, wherever the prompt ends
LOGPROBS = {
    "return_logprob": True,
    "logprob_start_len": 20,
    "top_logprobs_num": 3,
    "token_ids_logprob": [5, 1000],
}


@dataclass(frozen=True)
class Bits:
    """What must not differ by a bit."""

    ids: tuple[int, ...]
    logprobs: tuple
    digest: str | None

    @classmethod
    def of(cls, answer: client.Answer) -> "Bits":
        scores = tuple(
            repr(answer.meta[f"{side}_{kind}_logprobs"])
            for side in ("input", "output")
            for kind in ("token", "top", "token_ids")
        )
        return cls(answer.ids, scores, answer.meta.get("llm42", {}).get("output_digest"))


def requests(deterministic: bool = True, **fields) -> list[dict]:
    """One request per cell of the matrix, each with a prompt of its own length."""
    prompt = client.prompts()[9]
    return [
        client.body(
            prompt[: 25 + 17 * i], deterministic, max_new_tokens=TOKENS, ignore_eos=True, **sampling
        )
        | LOGPROBS
        | fields
        for i, sampling in enumerate(MATRIX)
    ]


@pytest.fixture(scope="module")
def alone(recorded, servers) -> list[client.Answer]:
    url = servers.url("tiny")
    client.flush(url)
    return client.ask_all(url, requests(), in_flight=1)


def bits(answers: list[client.Answer]) -> list[Bits]:
    return [Bits.of(answer) for answer in answers]


def test_load_cache_and_streaming_do_not_show(url, alone):
    client.flush(url)
    with client.ordinary_traffic(url, streams=1):
        assert bits(client.ask_all(url, requests(), in_flight=10, shuffle=3)) == bits(alone)
    assert bits(client.ask_all(url, requests(), in_flight=8, shuffle=4)) == bits(alone)  # warm
    client.flush(url)
    assert bits(client.ask_all(url, requests(stream=True), in_flight=10)) == bits(alone)


def test_ordinary_requests_differ(url, alone):
    """Negative control: the same requests without the feature, and their seeds, do differ."""
    first, second = (
        client.ask_all(url, requests(deterministic=False)[1:], in_flight=n, shuffle=n)
        for n in (5, 2)
    )
    assert [Bits.of(answer).ids for answer in first] != [Bits.of(answer).ids for answer in second]
    assert "llm42" not in first[0].meta


def test_answers_are_those_of_a_sampler(alone):
    """Greedy cells agree with each other's rule, sampled ones are not greedy, seeds are told."""
    for sampling, answer in zip(MATRIX, alone, strict=True):
        best = [top[0][1] for top in answer.meta["output_top_logprobs"]]
        greedy = sampling["temperature"] == 0
        assert (list(answer.ids) == best) == greedy
        assert answer.meta["llm42"]["seed"] == (None if greedy else sampling["sampling_seed"])
        assert answer.meta["llm42"]["verified"]


def scored_alike(url: str, request: dict, answer: client.Answer) -> list[bool]:
    """Whether prompt and output, sent as a prompt, score with the bits that generating gave: of the
    tokens, of the best ones, of the ids that were asked for."""
    prompt = request["input_ids"]
    scoring = client.body([*prompt, *answer.ids], max_new_tokens=1) | LOGPROBS
    scoring["logprob_start_len"] = len(prompt) - 1
    scored = client.ask(url, scoring)
    return [  # the first one of the input has none
        scored.meta[f"input_{kind}_logprobs"][1:] == answer.meta[f"output_{kind}_logprobs"]
        for kind in ("token", "top", "token_ids")
    ]


def test_logprobs_are_those_of_scoring_the_text(url, alone):
    for request, answer in zip(requests(), alone, strict=True):
        assert all(scored_alike(url, request, answer))


def test_logprobs_of_ordinary_decoding_are_others(url):
    """Negative control: a row that decodes alone is summed in another order."""
    request = requests(deterministic=False)[0]
    assert not all(scored_alike(url, request, client.ask(url, request)))


def test_a_seed_makes_a_difference_and_the_default_is_documented(url):
    prompt = client.prompts()[2]

    def ids(**sampling) -> client.Answer:
        return client.generate(url, prompt, temperature=1.0, max_new_tokens=12, **sampling)

    default = ids()
    assert default.meta["llm42"]["seed"] == 42
    assert default.ids == ids(sampling_seed=42).ids
    assert default.ids != ids(sampling_seed=43).ids


def test_n_samples_draw_with_seeds_of_their_own(url):
    prompt = client.prompts()[2]
    sampling = {"temperature": 1.0, "max_new_tokens": 12, "sampling_seed": 5}
    response = client.post(url, client.body(prompt, n=3, **sampling))
    assert response.status == 200, response.text
    samples = json.loads(response.text)
    assert [s["meta_info"]["llm42"]["seed"] for s in samples] == [5, 6, 7]
    for offset, sample in enumerate(samples):
        single = client.generate(url, prompt, **sampling | {"sampling_seed": 5 + offset})
        assert tuple(sample["output_ids"]) == single.ids

"""Workloads are the same every time, of the lengths and shares that were asked for."""

import json

import pytest

from llm42_sglang.cli.bench.options import mix_of, numbers
from llm42_sglang.cli.bench.workload import (
    MIXES,
    Lengths,
    Mix,
    Request,
    english,
    mark,
    sharegpt,
    spans,
)
from llm42_sglang.cli.errors import UserError

MIX = Mix(Lengths(4, 9), Lengths(16, 20))
TEXT = list(range(1000, 2000))


def test_the_same_seed_gives_the_same_requests_and_another_one_others():
    assert spans(TEXT, MIX, 20, seed=3) == spans(TEXT, MIX, 20, seed=3)
    assert spans(TEXT, MIX, 20, seed=3) != spans(TEXT, MIX, 20, seed=4)
    assert spans(TEXT, MIX, 20, seed=3)[:5] == spans(TEXT, MIX, 5, seed=3)


def test_requests_are_spans_of_the_text_within_the_lengths():
    requests = spans(TEXT, MIX, 200, seed=0)
    assert {len(r.prompt_ids) for r in requests} == set(range(4, 10))
    assert {r.new_tokens for r in requests} == set(range(16, 21))
    assert all(
        r.prompt_ids == tuple(range(r.prompt_ids[0], r.prompt_ids[-1] + 1)) for r in requests
    )
    assert len({r.prompt_ids for r in requests}) > 150


def test_a_text_that_is_too_short_is_refused():
    with pytest.raises(UserError, match="the text has 9"):
        spans(TEXT[:9], MIX, 1, seed=0)


def test_every_mix_fits_the_text(tokenizer):
    text = english(tokenizer)
    assert len(MIXES) == 6
    for mix in MIXES.values():
        assert len(spans(text, mix, 3, seed=0)) == 3


@pytest.mark.parametrize(
    ("share", "count", "places"),
    [(0, 8, []), (100, 3, [0, 1, 2]), (25, 8, [1, 5]), (2, 48, [24]), (50, 5, [0, 2, 4])],
)
def test_the_share_is_exact_and_evenly_spread(share, count, places):
    marked = mark([Request((1,), 1)] * count, share)
    assert [i for i, request in enumerate(marked) if request.deterministic] == places


def test_a_deterministic_request_is_marked_only_where_that_is_understood():
    ordinary, marked = Request((1, 2), 5), Request((1, 2), 5, deterministic=True)
    assert "custom_params" not in ordinary.body(True)["sampling_params"]
    assert marked.body(True)["sampling_params"]["custom_params"] == {"deterministic": True}
    assert marked.body(False) == ordinary.body(True)


def test_lengths_are_a_number_or_a_range():
    assert Lengths.parse("128") == (128, 128)
    assert Lengths.parse("32-512") == (32, 512)
    assert (str(Lengths(5, 5)), str(Lengths(5, 6))) == ("5", "5-6")


@pytest.mark.parametrize("text", ["", "x", "5-", "9-5", "0", "-3"])
def test_other_lengths_are_refused(text):
    with pytest.raises(UserError):
        Lengths.parse(text)


def test_a_named_mix_wins_over_lengths():
    assert mix_of("1", "2", None) == ((1, 1), (2, 2))
    assert mix_of("1", "2", "1024x512") == ((1024, 1024), (512, 512))
    with pytest.raises(UserError, match="--mix big is not known; choose one of mixed,"):
        mix_of("1", "2", "big")


def test_numbers_with_commas():
    assert numbers("--shares", "0, 2,100,2", 0, 100) == [0, 2, 100]
    for text in ("", "x", "101", "-1", "nan"):
        with pytest.raises(UserError, match="--shares takes numbers from 0 to 100"):
            numbers("--shares", text, 0, 100)


def conversations(*pairs):
    turns = [[{"from": "human", "value": q}, {"from": "gpt", "value": a}] for q, a in pairs]
    return json.dumps([{"conversations": turn} for turn in turns])


def test_sharegpt_takes_first_turns_of_fitting_length(tmp_path, tokenizer):
    file = tmp_path / "chat.json"
    long, fitting, short = "the " * 50, "a of to is and", "a"
    file.write_text(
        conversations((fitting, "the " * 17), (long, "the " * 17), (short, "the " * 17))
    )
    (request,) = sharegpt(file, tokenizer, Mix(Lengths(1, 9), Lengths(1, 20)), 1, seed=0)
    assert request == Request((2, 3, 4, 5, 6), 17)
    with pytest.raises(UserError, match="has 1 conversations of fitting length, not 2"):
        sharegpt(file, tokenizer, Mix(Lengths(1, 9), Lengths(1, 20)), 2, seed=0)


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"conversations": [1, 2]}]', '{"a": 1}'])
def test_another_file_is_refused(tmp_path, tokenizer, content):
    file = tmp_path / "chat.json"
    file.write_text(content)
    with pytest.raises(UserError, match="is no ShareGPT file"):
        sharegpt(file, tokenizer, MIX, 1, seed=0)

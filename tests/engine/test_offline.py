"""`llm42_sglang.Engine`: one program starts it, asks it in every way, and starts another."""

import json
import os
import signal
import subprocess
import sys

import pytest

from llm42_sglang.core.receipts import fingerprint
from tests.engine import client, tiny_models
from tests.engine.client import Answer, bits_of
from tests.engine.offline_programs import BAD_REQUESTS, BAD_STARTS, STREAMED
from tests.engine.preloaded import Forked
from tests.engine.servers import ENV

pytestmark = pytest.mark.server


def status(servers, name: str) -> int:
    """A program of `offline_programs` is run, and no server meanwhile; its exit status."""
    servers.stop()
    model, out = tiny_models.make("qwen3", servers.folder), servers.folder / f"{name}.json"
    program = f"tests.engine.offline_programs:{name}"
    arguments = [str(model), str(out)]
    # One that has several Engines has threads when it starts the next: see `preloaded`.
    spawns, log = name == "deterministic", out.with_suffix(".log")
    return Forked(arguments, os.environ | ENV, log, program, spawns).wait(timeout=400)


def run(servers, name: str) -> dict:
    """What a program of `offline_programs` has seen."""
    out, log = (servers.folder / f"{name}.{kind}" for kind in ("json", "log"))
    assert status(servers, name) == 0, log.read_text()[-5000:]
    return json.loads(out.read_text()) | {"log": log.read_text()}


@pytest.fixture(scope="module")
def seen(recorded, servers) -> dict:
    return run(servers, "deterministic")


@pytest.fixture(scope="module")
def expected(recorded) -> Answer:
    """Of the server "tiny", to the prompt that is streamed."""
    return recorded.reference[STREAMED]


def answers(found: list[dict]) -> list[Answer]:
    return list(map(Answer.of, found))


def digests(found: list[Answer]) -> list[str]:
    return [answer.meta["llm42"]["output_digest"] for answer in found]


def test_a_program_that_does_not_end_says_where_it_is(servers, tmp_path):
    """The tests' own: what hangs once in a hundred runs must be understood from one of them."""
    program = Forked([], os.environ, tmp_path / "log", "tests.engine.offline_programs:never_ends")
    with pytest.raises(TimeoutError, match="in never_ends"):
        program.wait(timeout=2)


@pytest.mark.parametrize("how", ["alone", "batch"])
def test_the_bits_are_those_of_the_server(seen, recorded, how):
    """Alone, and in a batch where every second request is an ordinary one."""
    found = answers(seen[how])
    assert bits_of(found) == bits_of(recorded.reference)
    assert digests(found) == digests(recorded.reference)


def test_an_answer_without_the_field_has_no_receipt(seen):
    """Negative control."""
    ordinary = answers([seen["default"], *seen["ordinary in the batch"]])
    assert not any("llm42" in answer.meta for answer in ordinary)


def test_fingerprint_and_facts_are_those_of_the_server(seen, recorded):
    proof = seen["proof"]
    assert proof["fingerprint"] == fingerprint(proof["facts"])
    receipts = [answer["meta_info"]["llm42"] for answer in seen["alone"]]
    assert {each["fingerprint"] for each in receipts} == {proof["fingerprint"]}
    assert recorded.reference[0].meta["llm42"]["fingerprint"] == proof["fingerprint"]
    assert proof["certificate"]["widths"]


def test_a_stream_has_an_event_for_each_token(seen, expected):
    *others, last = answers(seen["stream"])
    assert bits_of([last]) == bits_of([expected]) and digests([last]) == digests([expected])
    assert len(others) == client.NEW_TOKENS - 1
    assert all(answer.ids == last.ids[: n + 1] for n, answer in enumerate(others))


def test_async_answers_and_streams_are_the_same(seen, expected):
    found = answers(seen["at once"])
    assert bits_of(found) == bits_of([expected]) * 3
    assert digests(found) == digests([expected]) * 3


def test_sample_i_draws_with_seed_plus_i(seen):
    samples, alone = answers(seen["samples"]), answers(seen["seeds"])
    assert bits_of(samples) == bits_of(alone)
    assert alone[0].ids != alone[1].ids


def test_the_fingerprint_follows_the_weights(seen):
    own, changed, own_again = seen["weights"]
    assert own == own_again != changed


def test_the_callers_parameters_stay_as_they_are(seen):
    assert seen["the caller's"]["deterministic"] is True
    assert "custom_params" not in seen["the caller's"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("an option that is not kept", "return_hidden_states: not supported"),
        ("no boolean", "deterministic must be true or false"),
        ("two that contradict", "contradicts custom_params.deterministic"),
        ("misspelt", "sampling_params.custom_params.determinstic is not read"),
        ("misspelt beside others", "sampling_params.determinism is not read"),
        ("too many samples", "n must be at most 64"),
        ("a token past the vocabulary", "input_ids"),
    ],
)
def test_what_is_refused_raises_a_value_error(seen, name, told):
    kinds, message = seen["bad requests"][name]
    assert "ValueError" in kinds and told in message and "\n" not in message
    assert name in BAD_REQUESTS


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("another page", "llm42_page 24 is not supported; choose one of 16, 32, 64"),
        ("an argument that is not ours", "llm42_pages is not an argument; choose from llm42_page,"),
        ("one that is not SGLang's", "Unexpected keyword argument 'max_token'"),
        ("SGLang's page", "use llm42_page instead of page_size"),
        ("a refused feature", "pp_size (pipeline parallelism) is not supported"),
        ("no model", "/no/such/model"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(seen, name, told):
    kinds, message = seen["bad starts"][name]
    assert kinds.startswith("LaunchError ValueError")
    assert told in message and "\n" not in message
    assert name in BAD_STARTS


def test_a_process_that_fails_raises_one_line_and_leaves_none(seen):
    """A scheduler that certification refuses: `test_trial`."""
    (kinds, message), *left = seen["no weights"]
    assert kinds.startswith("RuntimeError") and "\n" not in message
    assert "a process of the Engine failed at its start" in message
    assert left == []


def test_negative_control_sglangs_own_engine_ends_the_program(servers):
    assert status(servers, "stock_fails") == -signal.SIGKILL


def test_a_process_has_one_engine_at_a_time_and_the_next_may_be_another(seen):
    assert "call its shutdown() first" in seen["second"][1]
    (kinds, message), *left = seen["shut down"]
    assert "EngineError" in kinds and "shut down" in message and left == []
    other, first = seen["other"]["proof"], seen["proof"]
    assert (first["facts"]["page"], other["facts"]["page"]) == (16, 32)
    assert other["fingerprint"] == fingerprint(other["facts"]) != first["fingerprint"]
    receipt = seen["other"]["answer"]["meta_info"]["llm42"]  # by llm42_default
    assert receipt["fingerprint"] == other["fingerprint"]


def test_the_example_runs(seen):
    """It compares what it asks alone with what it asks together."""
    assert "The moon is" in seen["log"] and "Three colours are" in seen["log"]


def test_negative_control_sglangs_own_engine_refuses(servers):
    """In a program that has started it, ours would not have its hooks."""
    seen = run(servers, "stock")
    assert "llm42" not in seen["ordinary"]["meta_info"]
    kinds, message = seen["asked"]
    assert "ValueError" in kinds and "not available" in message
    kinds, message = seen["ours"]
    assert "ValueError" in kinds and "used in this process without llm42" in message


def test_importing_the_package_imports_neither_torch_nor_sglang():
    code = (
        "import sys, llm42_sglang as l; print({'torch', 'sglang'} & {*sys.modules}, l.__version__)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("set() ")

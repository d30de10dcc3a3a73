"""A server, and a client program, of a SGLang that `llm42 patch apply` has patched.

The server is started by SGLang's own command, which hands our flags over to `llm42 serve`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.engine import client, installed

pytestmark = pytest.mark.server("patched")

TOKENS = 24

# A program of the frontend language. Reads "ask" or "plain" and a number of threads, line by line,
# and prints as JSON what it got. argv: the server's URL.
PROGRAM = """
import json, sys
import sglang as sgl

@sgl.function
def program(s, town, asked):
    seeded = asked and asked | {"sampling_seed": 7}
    s += f"The town of {town} lies by the sea. Its people"
    s += sgl.gen("text", max_tokens=34, temperature=0.9, ignore_eos=True, **seeded)
    s += " It has this many inhabitants: " + sgl.gen_int("people", max_tokens=4, **asked)
    s += ". Its motto is " + sgl.gen_string("motto", max_tokens=8, **asked)
    s += ". In winter it is " + sgl.select("winter", ["cold", "mild and wet", "dark"], **asked)

backend = sgl.RuntimeEndpoint(sys.argv[1])
towns = ["Orford", "Lamlash", "Tenby"]
for line in sys.stdin:
    how, threads = line.split()
    asked = {"deterministic": True} if how == "ask" else {}
    arguments = [{"town": town, "asked": asked} for town in towns]
    states = program.run_batch(arguments, backend=backend, num_threads=int(threads))
    print(json.dumps({
        "answers": [[s[name] for name in ("text", "people", "motto", "winter")] for s in states],
        "scores": [s.get_meta_info("winter")["input_token_logprobs"] for s in states],
        "receipts": [s.get_meta_info("text").get("llm42") for s in states],
    }), flush=True)
"""


def native(ids, deterministic) -> dict:
    request = client.body(ids, None, max_new_tokens=TOKENS)
    request["sampling_params"]["deterministic"] = deterministic
    return request


def test_the_native_field_gives_the_reference(url, reference):
    requests = [native(prompt, True) for prompt in client.prompts()[:8]]
    answers = client.ask_all(url, requests, in_flight=8)
    assert client.ids_of(answers) == [answer.ids[:TOKENS] for answer in reference[:8]]
    fingerprints = {answer.meta["llm42"]["fingerprint"] for answer in answers}
    assert fingerprints == {reference[0].meta["llm42"]["fingerprint"]}


def test_only_widths_that_give_the_same_bits_are_used(url):
    """The narrower passes of "tiny" gave the answers of the full ones here."""
    assert client.get(url, "/llm42/fingerprint").json()["certificate"]["widths"] == [4]


@pytest.mark.parametrize("value", [False, None])
def test_the_native_field_is_a_choice(url, value):
    assert "llm42" not in client.ask(url, native(client.prompts()[0], value)).meta


def test_a_value_that_is_not_boolean_is_refused(url):
    response = client.post(url, native(client.prompts()[0], "yes"))
    assert response.status == 400
    assert "deterministic" in response.json()["error"]["message"]


def test_openai_bodies_carry_field_and_seed(api, url):
    """The documented way of asking, on all three endpoints, streamed and whole."""
    model, text = api.models.list().data[0].id, "Name a colour."
    common = {"model": model, "temperature": 1.0}
    body, messages = {"deterministic": True}, [{"role": "user", "content": text}]

    def receipts(seed: int, **options) -> list[dict]:
        options |= common
        limit = {"max_tokens": TOKENS, "extra_body": body, "seed": seed}
        chat = api.chat.completions.create(messages=messages, **limit, **options)
        completion = api.completions.create(prompt=text, **limit, **options)
        response = api.responses.create(
            input=text, max_output_tokens=TOKENS, extra_body=body | {"seed": seed}, **options
        )
        if not options.get("stream"):
            return [answer.llm42 for answer in (chat, completion, response)]
        parts = [*chat, *completion, *(getattr(event, "response", None) for event in response)]
        return [part.llm42 for part in parts if hasattr(part, "llm42")]

    whole = receipts(seed=7)
    with client.ordinary_traffic(url, streams=2):
        streamed = receipts(seed=7, stream=True)
    assert [receipt["seed"] for receipt in whole] == [7, 7, 7]
    digests = [receipt["output_digest"] for receipt in whole]
    assert [receipt["output_digest"] for receipt in streamed] == digests
    assert [receipt["output_digest"] for receipt in receipts(seed=8)] != digests


@contextmanager
def program(url: str, env: dict[str, str]) -> Iterator[Callable[[str], dict]]:
    """Runs PROGRAM as often as it is called, in one process: SGLang takes long to import."""
    command = [sys.executable, "-c", PROGRAM, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = os.environ | env | {"SGLANG_PLUGINS": "none"}
    with subprocess.Popen(command, env=env, **pipes) as process:

        def run(how: str) -> dict:
            print(how, file=process.stdin, flush=True)
            return json.loads(next(line for line in process.stdout if line.startswith("{")))

        yield run
        process.stdin.close()


def test_a_frontend_program_repeats_itself(url, servers):
    """gen, gen_int, gen_string and select, one program at a time and all at once."""
    with program(url, installed.environment(servers.folder)) as run:
        client.flush(url)
        alone = run("ask 1")
        client.flush(url)
        with client.ordinary_traffic(url, streams=2):
            crowded, *plain = map(run, ("ask 3", "plain 1", "plain 3"))
    assert crowded["answers"] == alone["answers"]
    assert crowded["scores"] == alone["scores"]  # select: bit by bit
    assert all(receipt["verified"] and receipt["seed"] == 7 for receipt in alone["receipts"])
    assert plain[0]["answers"] != plain[1]["answers"]  # the control
    assert plain[0]["receipts"] == [None] * 3

"""A server, and a client program, of a SGLang that `llm42 patch apply` has patched.

The installed wheel is not touched: `sglang` is a folder of links to it, the patched files apart,
that stands first on PYTHONPATH. The server is started by SGLang's own command, which hands our
flags over to `llm42 serve`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest

from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.cli.patching import series
from llm42_sglang.cli.patching.wheel import examine, find_wheel
from tests.engine import client
from tests.engine.conftest import BASE, Server

pytestmark = pytest.mark.server

TOKENS = 24
ROOT = Path(__file__).parents[2]
LAUNCH = (sys.executable, "-m", "sglang.launch_server", "--port", "{port}")

# Prints what a program of the frontend language got, as JSON. argv: URL, then per run "ask" or
# "plain" and a number of threads.
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
got = []
for how, threads in zip(sys.argv[2::2], sys.argv[3::2]):
    asked = {"deterministic": True} if how == "ask" else {}
    arguments = [{"town": town, "asked": asked} for town in towns]
    states = program.run_batch(arguments, backend=backend, num_threads=int(threads))
    got.append({
        "answers": [[s[name] for name in ("text", "people", "motto", "winter")] for s in states],
        "scores": [s.get_meta_info("winter")["input_token_logprobs"] for s in states],
        "receipts": [s.get_meta_info("text").get("llm42") for s in states],
    })
print(json.dumps(got))
"""


@pytest.fixture(scope="module")
def patched(tmp_path_factory) -> Path:
    """A folder whose `sglang` is the installed one, patched."""
    folder, wheel = tmp_path_factory.mktemp("patched"), find_wheel()
    shutil.copytree(wheel.root / "sglang", folder / "sglang", copy_function=os.symlink)
    for files in examine(wheel, series.load()).values():
        for file in files:
            copy = folder / file.path.relative_to(wheel.root)
            copy.unlink()  # a link
            copy.write_bytes(file.patched)
    return folder


@pytest.fixture(scope="module")
def python_path(patched) -> str:
    return f"{patched}:{ROOT}"


@pytest.fixture(scope="module")
def url(servers, python_path, reference) -> str:
    """After `reference`, which needs the base server: one at a time.

    Narrow passes are made to give other bits, so none but those of G = 8 slots may be used.
    """
    flags = ("--model-path", str(ensure_default_model()), "--llm42-page", "32")
    ours_off = tuple(arg for arg in BASE.args if arg != "--llm42-default")
    env = (("PYTHONPATH", python_path), ("LLM42_FAULT", "width"))
    return servers.url(Server((*ours_off, *flags), env, LAUNCH))


@pytest.fixture
def api(url) -> openai.OpenAI:
    http = httpx.Client(trust_env=False, timeout=client.TIMEOUT_S)
    return openai.OpenAI(base_url=f"{url}/v1", api_key="-", http_client=http, max_retries=0)


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


def test_only_widths_that_give_the_same_bits_are_used(servers, url):
    """The base server's narrower passes gave the answers of the full ones here."""
    assert "passes of 8 slots give the same bits" in servers.process.log_path.read_text()


@pytest.mark.parametrize("value", [False, None])
def test_the_native_field_is_a_choice(url, value):
    assert "llm42" not in client.ask(url, native(client.prompts()[0], value)).meta


def test_a_value_that_is_not_boolean_is_refused(url):
    response = client.post(url, native(client.prompts()[0], "yes"))
    assert response.status_code == 400
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


def run_program(url: str, python_path: str, *runs: str) -> list[dict]:
    """What each run got: one process for several, for SGLang takes long to import."""
    env = os.environ | {"PYTHONPATH": python_path, "SGLANG_PLUGINS": "none"}
    command = [sys.executable, "-c", PROGRAM, url, *" ".join(runs).split()]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_a_frontend_program_repeats_itself(url, python_path):
    """gen, gen_int, gen_string and select, one program at a time and all at once."""
    client.flush(url)
    (alone,) = run_program(url, python_path, "ask 1")
    client.flush(url)
    with client.ordinary_traffic(url, streams=2):
        crowded, *plain = run_program(url, python_path, "ask 3", "plain 1", "plain 3")
    assert crowded["answers"] == alone["answers"]
    assert crowded["scores"] == alone["scores"]  # select: bit by bit
    assert all(receipt["verified"] and receipt["seed"] == 7 for receipt in alone["receipts"])
    assert plain[0]["answers"] != plain[1]["answers"]  # the control
    assert plain[0]["receipts"] == [None] * 3

"""A wheel of this project beside SGLang, and nothing else: it serves from any folder."""

import json
import os
import subprocess

import pytest

from tests.engine import client, installed
from tests.engine.conftest import Server

pytestmark = pytest.mark.server

PAGE = ("--llm42-page", "16", "--llm42-group", "2")
WHAT_IS_THERE = """
import json, llm42_sglang
from importlib.metadata import distribution
from importlib.util import find_spec
found = distribution("llm42-sglang")
tools = [name for name in ("matplotlib", "accelerate", "pytest", "tests") if find_spec(name)]
print(json.dumps([llm42_sglang.__file__, str(found.locate_file("")), tools]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return installed.make(tmp_path_factory.mktemp("installed"))


def run(wheel, *command: str) -> subprocess.CompletedProcess[str]:
    _, env, cwd = wheel
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True
    )


def test_only_the_wheel_and_what_sglang_needs_is_there(wheel):
    (llm42, *_), _, cwd = wheel
    venv = str(cwd.parent / "venv")
    done = run(wheel, f"{venv}/bin/python", "-c", WHAT_IS_THERE)
    code, metadata, tools = json.loads(done.stdout)
    assert code.startswith(venv) and metadata.startswith(venv) and tools == []
    done = run(wheel, llm42, "bench", "throughput", "--plot", "plot.png")
    assert done.returncode == 2
    assert done.stderr.endswith("needs matplotlib: pip install 'llm42-sglang[tools]'\n")


def test_it_serves_deterministic_requests(wheel, servers, tiny):
    argv, env, cwd = wheel
    tiny_qwen3 = tiny("qwen3", *PAGE)
    command = ("env", "-C", str(cwd), *argv)
    url = servers.url(Server(tiny_qwen3.args, tuple(env.items()), command))
    prompts = slice(4)
    alone = client.run(url, in_flight=1, only=prompts)
    with client.ordinary_traffic(url, streams=2):
        loaded = client.run(url, in_flight=4, only=prompts)
    assert [answer.ids for answer in loaded] == [answer.ids for answer in alone]
    assert all(answer.meta["llm42"]["verified"] for answer in alone + loaded)

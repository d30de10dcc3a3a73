"""A wheel of this project beside a patched SGLang, and nothing else: it serves from any folder."""

import json
import os
import subprocess

import pytest

from tests.engine import client, installed

pytestmark = pytest.mark.server("patched")
FEW = slice(3, 7)  # of the prompts

WHAT_IS_THERE = """
import json, llm42_sglang
from importlib.metadata import distribution
from importlib.util import find_spec
metadata = distribution("llm42-sglang").locate_file("")
tools = [name for name in ("matplotlib", "accelerate", "pytest", "tests") if find_spec(name)]
print(json.dumps([llm42_sglang.__file__, str(metadata), find_spec("sglang").origin, tools]))
"""


def test_it_serves_deterministic_requests(url, reference):
    """Each of its processes imports what it needs. It answers as this checkout does."""
    with client.ordinary_traffic(url, streams=2):
        loaded = client.run(url, in_flight=4, only=FEW)
    assert client.bits_of(loaded) == client.bits_of(reference[FEW])
    assert all(answer.meta["llm42"]["verified"] for answer in loaded)


def test_only_the_wheel_and_what_sglang_needs_is_there(servers):
    venv, patched = installed.with_wheel(servers.folder), installed.patched(servers.folder)
    code, metadata, sglang, tools = json.loads(run(servers, "python", "-c", WHAT_IS_THERE).stdout)
    assert code.startswith(str(venv)) and metadata.startswith(str(venv)) and tools == []
    assert sglang.startswith(str(patched))


def test_a_command_that_needs_more_says_so_in_a_line(servers, tmp_path):
    done = run(servers, "llm42", "model", LLM42_CACHE=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.endswith("needs accelerate: pip install 'llm42-sglang[tools]'\n")
    assert done.stderr.count("\n") == 1


def run(servers, program: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A program of that environment."""
    command = [str(installed.with_wheel(servers.folder) / "bin" / program), *arguments]
    cwd = installed.elsewhere(servers.folder)
    env = os.environ | installed.environment(servers.folder) | env
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)

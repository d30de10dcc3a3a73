"""Each text patch does what its header says, and without it the same probe fails.

`patch_probe.py` runs twice: over the files as shipped and as patched. The installed wheel is only
read, whether it is patched or not.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm42_sglang.cli.patching import series
from llm42_sglang.cli.patching.wheel import File, examine, find_wheel

PROBE = Path(__file__).with_name("patch_probe.py")
ROOT = Path(__file__).parents[2]
Found = dict[str, dict[str, Any]]  # "shipped" or "patched" -> what the probe printed


def start(folder: Path, content: Callable[[File], bytes]) -> subprocess.Popen[str]:
    wheel = find_wheel()
    for files in examine(wheel, series.load()).values():
        for file in files:
            copy = folder / file.path.relative_to(wheel.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content(file))
    # No plugin may be loaded: it would claim the field, and the seams would take seconds.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SGLANG_PLUGINS": "none"}
    argv = [sys.executable, PROBE, folder]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Found:
    processes = {
        "shipped": start(tmp_path_factory.mktemp("shipped"), lambda file: file.shipped),
        "patched": start(tmp_path_factory.mktemp("patched"), lambda file: file.patched),
    }
    said = {kind: process.communicate()[0] for kind, process in processes.items()}
    return {kind: json.loads(text.splitlines()[-1]) for kind, text in said.items()}


def test_sampling_params(found: Found):
    patched = found["patched"]["sampling_params"]
    assert patched == {
        "folded": {"deterministic": True, "thinking_budget": 3},
        "alone": {"deterministic": False},
        "unset": None,
        "survives the wire": True,
        "reads the wire of a pristine wheel": {"deterministic": True, "thinking_budget": 3},
        "unclaimed": "deterministic: no plugin of this server provides it; start the server with "
        "`llm42 serve`.",
        "unclaimed, false": "accepted",
        "claimed": "accepted",
        "not boolean": "deterministic must be true or false, got 'yes'.",
        "contradiction": "deterministic and custom_params.deterministic contradict each other.",
        "malformed custom_params": "custom_params must be an object, got [1].",
    }
    assert "keyword argument 'deterministic'" in found["shipped"]["sampling_params"]


def test_openai_protocol(found: Found):
    asked = {"deterministic": True, "sampling_seed": 7}
    custom = {"custom_params": {"deterministic": True}}
    unset = {"sampling_seed": None, "custom_params": None}
    assert found["patched"]["openai_protocol"] == {
        "chat": asked | custom,
        "completion": asked | custom,
        "responses": asked,
        "unset": unset,
    }
    # As shipped, the key is dropped, and /v1/responses has no other way in.
    assert found["shipped"]["openai_protocol"] == {
        "chat": {"sampling_seed": 7} | custom,
        "completion": {"sampling_seed": 7} | custom,
        "responses": {},
        "unset": unset,
    }


def test_frontend_language(found: Found):
    patched = found["patched"]["frontend_language"]
    # gen, gen_int, gen_string; two requests to score choices, a third for unconditional scores
    assert [p["deterministic"] for p in patched["asked"]] == [True] * (1 + 1 + 1 + 2 + 3)
    assert patched["asked"][0]["sampling_seed"] == 7
    assert [p["deterministic"] for p in patched["by default"]] == [True] * (1 + 2)
    assert patched["refused"] == "deterministic, sampling_seed: not supported by BaseBackend"
    assert "keyword argument 'deterministic'" in found["shipped"]["frontend_language"]


def test_frontend_language_unused_changes_no_request(found: Found):
    assert found["patched"]["frontend_unchanged"] == found["shipped"]["frontend_unchanged"]
    assert len(found["patched"]["frontend_unchanged"]) == 3


def test_server_flags(found: Found):
    patched = found["patched"]["server_flags"]
    status, said = patched["module"]
    assert (status, said.partition(" is not")[0]) == (1, "llm42: error: --llm42-page 24")
    assert patched["handed over"] == ["serve", "--model-path", "a/model", "--llm42-page", "16"]
    assert "install it into this environment" in patched["without the plugin"][0]
    shipped = found["shipped"]["server_flags"]
    assert shipped["handed over"] == []
    status, said = shipped["command"]
    assert (status, said) == (2, "sglang serve: error: unrecognized arguments: --llm42-page 16")
    assert shipped["module"][0] == 2

"""`llm42 certify` on a tiny model: one that holds, and two that are broken on purpose."""

import json
import os
from functools import partial

import pytest

from llm42_sglang.cli import certify
from llm42_sglang.engine.trial import flips
from tests.engine import tiny_models
from tests.engine.conftest import llm42
from tests.engine.preloaded import Forked
from tests.engine.servers import ENV, POOL, SMALL, TOOLS

TRIAL = "llm42_sglang.engine.trial:main"


@pytest.fixture
def certified(recorded, servers, monkeypatch, tmp_path, capsys):
    """Run the command, its trial with a fault: exit status, what it prints, what it writes."""
    servers.stop()
    model, out = tiny_models.make("qwen3", servers.folder), tmp_path / "out.json"
    monkeypatch.setenv("LLM42_CACHE", str(tmp_path))

    def run(fault: str) -> tuple[int, str, dict]:
        start = partial(Forked, env=os.environ | ENV | {"LLM42_FAULT": fault}, program=TRIAL)
        monkeypatch.setattr(
            certify, "spawned", lambda arguments, log: start(arguments, log_path=log)
        )
        capsys.readouterr()
        status = llm42("certify", model, *SMALL, *POOL, *TOOLS, "--out", out)
        return status, capsys.readouterr().out, json.loads(out.read_text())

    return run


@pytest.mark.server
def test_a_tiny_model_holds_under_the_fingerprint_of_its_server(certified, recorded):
    status, printed, found = certified("")
    assert status == 0 and printed.startswith("Qwen3ForCausalLM: holds: ")
    assert found["fingerprint"] == recorded.reference[0].meta["llm42"]["fingerprint"]
    alone, sizes = found["flips"]["alone"], found["certificate"]["step_sizes"]
    assert (alone["verified"] == 0) == (1 in sizes)
    assert alone["flips"] <= alone["rolled_back"] <= alone["verified"]


@pytest.mark.server
def test_a_false_assumption_is_named(certified):
    status, printed, found = certified("a3")
    assert status == 1 and found["verdict"] == "refused"
    assert printed.startswith("Qwen3ForCausalLM: refused: assumption A3 ")


@pytest.mark.server
def test_wrong_candidates_are_counted_and_answers_that_differ_are_found(certified):
    """Negative control. Every 7th step draws wrong tokens, and canonical steps commit them."""
    status, printed, found = certified("decode")
    assert status == 1 and "answers in load differ from those alone" in printed
    verified_alone = 1 not in found["certificate"]["step_sizes"]
    assert (found["flips"]["alone"]["flips"] > 8) == verified_alone


def test_flips_are_rollbacks_of_what_verification_committed():
    def answer(tokens: int, canonical: int, rollbacks: int, dropped: int) -> dict:
        receipt = {"canonical_steps": canonical, "rollbacks": rollbacks}
        return {
            "meta_info": {
                "completion_tokens": tokens,
                "llm42": receipt | {"tokens_rolled_back": dropped},
            }
        }

    counted = flips([answer(48, 0, 2, 9), answer(48, 47, 0, 0), answer(10, 4, 1, 1)])
    assert counted == {"verified": 47 + 0 + 5, "flips": 3, "rolled_back": 10}

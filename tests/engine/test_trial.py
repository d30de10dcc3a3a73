"""`llm42 certify` on a tiny model: one that holds, and two that are broken on purpose."""

import json
import os
from functools import partial

import pytest

from llm42_sglang.cli import certify
from llm42_sglang.engine.trial import difference, flips
from tests.engine import tiny_models
from tests.engine.conftest import llm42
from tests.engine.preloaded import Forked
from tests.engine.servers import ENV, POOL, SMALL, TOOLS

TRIAL = "llm42_sglang.engine.trial:main"
FEW = ("--max-running-requests", "6")  # so that few sizes of steps are examined


@pytest.fixture
def certified(recorded, servers, monkeypatch, tmp_path, capsys):
    """Run the command, its trial with a fault: exit status, what it prints, what it writes."""
    servers.stop()
    model, out = tiny_models.make("qwen3", servers.folder), tmp_path / "out.json"
    monkeypatch.setenv("LLM42_CACHE", str(tmp_path))

    def run(fault: str, *flags: str) -> tuple[int, str, dict]:
        start = partial(Forked, env=os.environ | ENV | {"LLM42_FAULT": fault}, program=TRIAL)
        monkeypatch.setattr(
            certify, "spawned", lambda arguments, log: start(arguments, log_path=log)
        )
        capsys.readouterr()
        status = llm42("certify", model, *SMALL, *POOL, *TOOLS, *FEW, *flags, "--out", out)
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
    status, printed, found = certified("a3", "--llm42-group", "1")
    assert status == 1 and found["verdict"] == "refused"
    assert printed.startswith("Qwen3ForCausalLM: refused: assumption A3 ")


@pytest.mark.server
def test_wrong_candidates_are_counted_and_answers_that_differ_are_found(certified):
    """Negative control. Every 7th step draws wrong tokens, and canonical steps commit them."""
    status, printed, found = certified("decode", "--llm42-group", "16")
    assert found["certificate"]["widths"] == [1, 2, 4]  # for it runs 6 requests at once
    assert status == 1 and "answers in load differ from those alone" in printed
    verified_alone = 1 not in found["certificate"]["step_sizes"]
    assert (found["flips"]["alone"]["flips"] > 8) == verified_alone


def answer(tokens: int, digest: str = "ab", message: str | None = None, **counts: int) -> dict:
    receipt = {"canonical_steps": 0, "rollbacks": 0, "tokens_rolled_back": 0, **counts}
    meta = {"completion_tokens": tokens, "finish_reason": {"type": "length"}}
    if message:
        return {"meta_info": meta | {"finish_reason": {"type": "abort", "message": message}}}
    return {"meta_info": meta | {"llm42": receipt | {"output_digest": digest}}}


def test_flips_are_rollbacks_of_what_verification_committed():
    answers = [
        answer(48, rollbacks=2, tokens_rolled_back=9),
        answer(48, canonical_steps=47),
        answer(10, canonical_steps=4, rollbacks=1, tokens_rolled_back=1),
        answer(3, message="the audit found a difference"),
    ]
    assert flips(answers) == {"verified": 47 + 0 + 5, "flips": 3, "rolled_back": 10}


def test_answers_differ_in_their_digests_or_have_none():
    same, other, ended = answer(9), answer(9, "cd"), answer(3, message="it has ended")
    assert difference([same, same], [same, same]) is None
    told = "of 2 answers in load differ from those alone"
    assert difference([same, same], [same, other]) == f"1 {told}"
    assert difference([same, ended], [other, ended]) == f"2 {told}: it has ended"

"""The fingerprint follows everything that can change a bit, and nothing else. No server needed."""

from types import SimpleNamespace

import msgspec
import pytest
import torch
from sglang.srt.server_args import ServerArgs
from transformers import LlamaConfig

from llm42_sglang.core import receipts
from llm42_sglang.core.config import Config
from llm42_sglang.engine import fingerprint


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.setattr(fingerprint, "resolving_view", lambda args: args)
    torch.manual_seed(0)
    flags = dict.fromkeys(fingerprint._FLAGS)
    return SimpleNamespace(
        model=torch.nn.Linear(4, 4),
        model_config=SimpleNamespace(hf_config=LlamaConfig(hidden_size=64), hf_eos_token_id={2}),
        server_args=SimpleNamespace(tp_size=1, pp_size=1, **flags),
        dtype=torch.bfloat16,
        kv_cache_dtype=torch.bfloat16,
        prefill_attention_backend_str="llm42_cpu",
        device="cpu",
    )


def test_every_flag_is_one_of_sglangs():
    """A name that is gone would keep every server from starting."""
    assert {*fingerprint._FLAGS} <= {field.name for field in msgspec.structs.fields(ServerArgs)}


def fingerprint_of(runner, config=None, words=("a", "b"), max_req_len=100) -> str:
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = SimpleNamespace(get_vocab=lambda: vocabulary)
    facts = fingerprint.facts_of(runner, config or Config(), tokenizer, max_req_len)
    return receipts.fingerprint(facts)


def one_weight(runner):
    with torch.no_grad():
        runner.model.weight[0, 0] += 1e-6


CHANGES = {
    "one weight": one_weight,
    "rope": lambda r: setattr(
        r.model_config, "hf_config", LlamaConfig(hidden_size=64, rms_norm_eps=0.5)
    ),
    "dtype": lambda r: setattr(r, "dtype", torch.float16),
    "attention": lambda r: setattr(r, "prefill_attention_backend_str", "triton"),
    "lm head": lambda r: setattr(r.server_args, "enable_fp32_lm_head", True),
    "tp": lambda r: setattr(r.server_args, "tp_size", 2),
    "eos": lambda r: setattr(r.model_config, "hf_eos_token_id", {2, 3}),
    "white space in JSON": lambda r: setattr(
        r.server_args, "constrained_json_disable_any_whitespace", True
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_a_bit_changes_the_fingerprint(runner, change):
    before = fingerprint_of(runner)
    CHANGES[change](runner)
    assert fingerprint_of(runner) != before


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_X", "MKL_CBWR", "NCCL_ALGO"])
def test_variables_that_choose_kernels_count(runner, monkeypatch, name):
    before = fingerprint_of(runner)
    monkeypatch.setenv(name, "AVX")
    assert fingerprint_of(runner) != before
    monkeypatch.setenv(f"MY_{name}", "AVX")
    changed = fingerprint_of(runner)
    monkeypatch.delenv(name)
    assert {before, changed} == {fingerprint_of(runner), changed}


def test_tokenizer_and_limits_count(runner, monkeypatch):
    prints = {
        fingerprint_of(runner),
        fingerprint_of(runner, words=("b", "a")),
        fingerprint_of(runner, max_req_len=99),
    }
    monkeypatch.setenv("SGLANG_MAX_NEW_TOKENS_LIMIT", "5")
    assert len(prints | {fingerprint_of(runner)}) == 4


@pytest.mark.parametrize("package", ["flashinfer-python", "sglang-kernel", "triton"])
def test_another_version_of_the_kernels_counts(runner, monkeypatch, package):
    before, real = fingerprint_of(runner), fingerprint.version
    monkeypatch.setattr(fingerprint, "version", lambda p: "9" if p == package else real(p))
    assert fingerprint_of(runner) != before


@pytest.mark.parametrize("config", [Config(page=16), Config(group=1)])
def test_the_shape_of_the_pass_counts(runner, config):
    assert fingerprint_of(runner, config) != fingerprint_of(runner)


def test_the_weights_of_every_rank_count(runner):
    alone = fingerprint.facts_of(runner, Config(), None, 100)["weights"]
    both = {
        fingerprint.facts_of(runner, Config(), None, 100, beside)["weights"]
        for beside in (
            SimpleNamespace(gather=lambda mine: [mine, "of rank 1"]),
            SimpleNamespace(gather=lambda mine: [mine, "another"]),
        )
    }
    assert len(both | {alone}) == 3


def test_settings_of_the_all_reduce_count(runner, monkeypatch):
    before = fingerprint_of(runner)
    monkeypatch.setenv("NCCL_ALGO", "allreduce:tree")
    pinned = fingerprint_of(runner)
    monkeypatch.setenv("SGLANG_OPT_USE_CUSTOM_ALL_REDUCE_V2", "0")
    assert len({before, pinned, fingerprint_of(runner)}) == 3


def test_where_the_model_lies_does_not_count(runner):
    before = fingerprint_of(runner)
    runner.model_config.hf_config._name_or_path = "/elsewhere"
    assert fingerprint_of(runner) == before


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU 1")
    assert fingerprint.device_name("cuda") == "GPU 1"

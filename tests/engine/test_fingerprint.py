"""The fingerprint follows everything that can change a bit, and nothing else. No server needed."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig

from llm42_sglang.core.config import Config
from llm42_sglang.engine import fingerprint


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.setattr(fingerprint, "resolving_view", lambda args: args)
    torch.manual_seed(0)
    flags = dict.fromkeys(fingerprint._FLAGS)
    return SimpleNamespace(
        model=torch.nn.Linear(4, 4),
        model_config=SimpleNamespace(hf_config=LlamaConfig(hidden_size=64)),
        server_args=SimpleNamespace(tp_size=1, pp_size=1, **flags),
        dtype=torch.bfloat16,
        kv_cache_dtype=torch.bfloat16,
        prefill_attention_backend_str="llm42_cpu",
        device="cpu",
    )


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
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_a_bit_changes_the_fingerprint(runner, change):
    before = fingerprint.fingerprint_of(runner, Config())
    CHANGES[change](runner)
    assert fingerprint.fingerprint_of(runner, Config()) != before


@pytest.mark.parametrize("config", [Config(page=16), Config(group=1)])
def test_the_shape_of_the_pass_counts(runner, config):
    assert fingerprint.fingerprint_of(runner, config) != fingerprint.fingerprint_of(
        runner, Config()
    )


def test_where_the_model_lies_does_not_count(runner):
    before = fingerprint.fingerprint_of(runner, Config())
    runner.model_config.hf_config._name_or_path = "/elsewhere"
    assert fingerprint.fingerprint_of(runner, Config()) == before


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU 1")
    assert fingerprint.device_name("cuda") == "GPU 1"

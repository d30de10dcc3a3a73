"""The fingerprint follows everything that can change a bit, and nothing else. No server needed."""

from operator import attrgetter
from types import SimpleNamespace

import msgspec
import pytest
import torch
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.server_args import ServerArgs
from transformers import GenerationConfig, LlamaConfig

from llm42_sglang.core import receipts
from llm42_sglang.core.config import Config
from llm42_sglang.engine.start import fingerprint


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.setattr(fingerprint, "resolving_view", lambda args: args)
    torch.manual_seed(0)
    flags = dict.fromkeys(fingerprint._FLAGS)
    return SimpleNamespace(
        model=torch.nn.Linear(4, 4),
        model_config=SimpleNamespace(
            hf_config=LlamaConfig(hidden_size=64),
            hf_eos_token_id={2},
            get_default_sampling_params=lambda: {"top_p": 0.9},
        ),
        server_args=SimpleNamespace(
            tp_size=1,
            pp_size=1,
            nnodes=1,
            preferred_sampling_params=None,
            weight_version="default",
            **flags,
        ),
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


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_config.hf_config", LlamaConfig(hidden_size=64, rms_norm_eps=0.5)),
        ("model_config.hf_eos_token_id", {2, 3}),
        ("dtype", torch.float16),
        ("prefill_attention_backend_str", "triton"),
        ("server_args.enable_fp32_lm_head", True),
        ("server_args.tp_size", 2),
        ("server_args.constrained_json_disable_any_whitespace", True),
        ("server_args.tool_call_parser", "qwen25"),
        ("server_args.preferred_sampling_params", {"temperature": 0.7}),
        ("model_config.get_default_sampling_params", lambda: {"top_p": 0.8}),
    ],
)
def test_what_changes_a_bit_changes_the_fingerprint(runner, path, value):
    before = fingerprint_of(runner)
    owner, _, name = f"runner.{path}".rpartition(".")
    setattr(attrgetter(owner)(SimpleNamespace(runner=runner)), name, value)
    assert fingerprint_of(runner) != before


def test_how_defaults_are_written_does_not_count(runner):
    prints = set()
    for written in ({"top_k": 5, "min_p": 0.1}, '{"min_p": 0.1, "top_k": 5}'):
        runner.server_args.preferred_sampling_params = written
        prints.add(fingerprint_of(runner))
    assert len(prints) == 1


def test_sglang_reads_a_models_defaults_only_where_it_is_told_to():
    config = object.__new__(ModelConfig)
    config.hf_generation_config = GenerationConfig(temperature=0.6, top_p=0.9)
    told = {}
    for source in ("model", "openai"):
        config.sampling_defaults = source
        told[source] = config.get_default_sampling_params()
    assert told["model"]["temperature"] == 0.6 and told["model"]["top_p"] == 0.9
    assert told["openai"] == {}


@pytest.mark.parametrize(
    "more",
    [
        {"words": ("b", "a")},
        {"max_req_len": 99},
        {"config": Config(page=16)},
        {"config": Config(group=1)},
    ],
)
def test_tokenizer_limits_and_the_shape_of_the_pass_count(runner, more):
    assert fingerprint_of(runner, **more) != fingerprint_of(runner)


@pytest.mark.parametrize(
    "name",
    [
        *("ONEDNN_MAX_CPU_ISA", "DNNL_X", "MKL_CBWR", "NCCL_ALGO"),
        *("SGLANG_OPT_USE_CUSTOM_ALL_REDUCE_V2", "SGLANG_MAX_NEW_TOKENS_LIMIT"),
    ],
)
def test_variables_that_choose_kernels_or_limit_answers_count(runner, monkeypatch, name):
    before = fingerprint_of(runner)
    monkeypatch.setenv(f"MY_{name}", "5")
    assert fingerprint_of(runner) == before
    monkeypatch.setenv(name, "5")
    assert fingerprint_of(runner) != before


@pytest.mark.parametrize("package", ["flashinfer-python", "sglang-kernel", "triton"])
def test_another_version_of_the_kernels_counts(runner, monkeypatch, package):
    before, real = fingerprint_of(runner), fingerprint.version
    monkeypatch.setattr(fingerprint, "version", lambda p: "9" if p == package else real(p))
    assert fingerprint_of(runner) != before


def test_tiles_for_bf16_count(runner, monkeypatch):
    """Passes have another kernel with AMX: `platform/tiles.py`."""
    seen = set()
    for tiles in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=tiles: has)
        seen.add(fingerprint_of(runner))
    assert len(seen) == 2


def test_where_the_model_lies_does_not_count(runner):
    before = fingerprint_of(runner)
    runner.model_config.hf_config._name_or_path = "/elsewhere"
    assert fingerprint_of(runner) == before

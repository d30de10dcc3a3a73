"""Every feature that deterministic service goes without is refused by its flag's name."""

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from sglang.srt.server_args import ServerArgs

from llm42_sglang.core.config import Config
from llm42_sglang.engine import limits
from llm42_sglang.engine.unsupported import UnsupportedError

README = Path(__file__).parents[2] / "README.md"
DEFAULTS = {
    field.name: None if field.default is msgspec.NODEFAULT else field.default
    for field in msgspec.structs.fields(ServerArgs)
}
PLAIN = {**DEFAULTS, "attention_backend": "torch_native", "page_size": Config().page}

REFUSED = {
    "speculative_algorithm": "EAGLE",
    "decoupled_spec_role": "draft",
    "enable_deterministic_inference": True,
    "rl_on_policy_target": "fsdp",
    "disaggregation_mode": "decode",
    "enable_hierarchical_cache": True,
    "enable_lmcache": True,
    "enable_flexkv": True,
    "enable_unified_cache_external_linker": True,
    "radix_cache_backend": "other",
    "enable_lora": True,
    "lora_paths": ["x"],
    "ep_size": 2,
    "dwdp_size": 2,
    "moe_dp_size": 2,
    "elastic_ep_backend": "mooncake",
    "nnodes": 2,
    "pp_size": 2,
    "enable_dp_attention": True,
    "dcp_size": 2,
    "attn_cp_size": 2,
    "enable_prefill_cp": True,
    "enable_kv_cache_sharding": True,
    "enable_mixed_chunk": True,
    "enable_two_batch_overlap": True,
    "enable_single_batch_overlap": True,
    "enable_pdmux": True,
    "enable_unified_memory": True,
    "enable_hisparse": True,
    "enable_streaming_session": True,
    "enable_session_radix_cache": True,
    "dllm_algorithm": "x",
    "is_embedding": True,
    "encoder_only": True,
    "enable_memory_saver": True,
    "tokenizer_worker_num": 2,
    "smg_grpc_mode": True,
    "grpc_mode": True,
    "use_ray": True,
    "grammar_backend": "outlines",
}


@pytest.fixture(autouse=True)
def as_given(monkeypatch):
    monkeypatch.setattr(limits, "resolving_view", lambda args: args)


def check(config: Config | None = None, **flags) -> None:
    limits.require_supported(SimpleNamespace(**{**PLAIN, **flags}), config or Config())


def test_a_plain_server_is_supported():
    check()


@pytest.mark.parametrize("field", REFUSED)
def test_the_flag_is_named_with_its_reason(field):
    assert field in DEFAULTS, "SGLang has no such flag"
    with pytest.raises(UnsupportedError) as refusal:
        check(**{field: REFUSED[field]})
    (feature,) = (
        feature
        for feature in limits.FEATURES
        if f"--{field.replace('_', '-')}" in {limit.flag for limit in feature.limits}
    )
    said = str(refusal.value)
    assert said.startswith(f"--{field.replace('_', '-')} ({feature.name})")
    assert feature.why in said and "\n" not in said


def test_every_limit_is_tested():
    flags = {limit.flag for feature in limits.FEATURES for limit in feature.limits}
    tested = {f"--{field.replace('_', '-')}" for field in REFUSED}
    assert {flag.partition(" ")[0] for flag in flags - tested} == {"--moe-runner-backend"}


@pytest.mark.parametrize("field", ["moe_runner_backend", "fp8_gemm_runner_backend"])
def test_kernels_that_are_tuned_at_every_start_are_refused(field):
    with pytest.raises(UnsupportedError, match="--disable-flashinfer-autotune"):
        check(**{field: "flashinfer_cutlass"})
    check(**{field: "flashinfer_cutlass"}, disable_flashinfer_autotune=True)


@pytest.mark.parametrize("field", ["attention_backend", "prefill_attention_backend"])
def test_an_attention_backend_without_a_canonical_mode_is_refused_before_the_model_loads(field):
    with pytest.raises(UnsupportedError, match="--attention-backend flex_attention"):
        check(**{field: "flex_attention"})


def test_the_decode_backend_is_free():
    check(decode_attention_backend="flex_attention")


@pytest.mark.parametrize("field", ["tp_size", "dp_size"])
def test_ranks_and_replicas_are_supported(field):
    check(**{field: 2})


def test_the_page_size_is_t():
    with pytest.raises(UnsupportedError, match="--llm42-page"):
        check(page_size=64)


def test_the_readme_shows_the_table():
    assert limits.table() in README.read_text(), "run: python -m llm42_sglang.engine.limits"

"""Every feature that deterministic service goes without is refused by its flag's name."""

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from sglang.srt.server_args import ServerArgs

from llm42_sglang.core.config import Config
from llm42_sglang.engine.errors import UnsupportedError
from llm42_sglang.engine.start import limits

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
DEFAULTS = {
    field.name: None if field.default is msgspec.NODEFAULT else field.default
    for field in msgspec.structs.fields(ServerArgs)
}
PLAIN = {**DEFAULTS, "attention_backend": "torch_native", "page_size": Config().page}

SWITCHES = """
enable_deterministic_inference enable_hierarchical_cache enable_lmcache
enable_flexkv enable_unified_cache_external_linker enable_lora
enable_dp_attention enable_prefill_cp enable_kv_cache_sharding
enable_mixed_chunk enable_two_batch_overlap enable_single_batch_overlap
enable_pdmux enable_unified_memory enable_hisparse enable_streaming_session
enable_session_radix_cache is_embedding encoder_only enable_memory_saver
remote_instance_weight_loader_start_seed_via_transfer_engine
smg_grpc_mode grpc_mode use_ray
"""
ABOVE_ONE = "ep_size dwdp_size moe_dp_size pp_size dcp_size attn_cp_size tokenizer_worker_num"
REFUSED = {
    **dict.fromkeys(SWITCHES.split(), True),
    **dict.fromkeys(ABOVE_ONE.split(), 2),
    "speculative_algorithm": "EAGLE",
    "decoupled_spec_role": "draft",
    "rl_on_policy_target": "fsdp",
    "disaggregation_mode": "decode",
    "radix_cache_backend": "other",
    "lora_paths": ["x"],
    "elastic_ep_backend": "mooncake",
    "dllm_algorithm": "x",
    "grammar_backend": "outlines",
}


@pytest.fixture(autouse=True)
def as_given(monkeypatch):
    monkeypatch.setattr(limits, "resolving_view", lambda args: args)


def check(**flags) -> None:
    limits.require_supported(SimpleNamespace(**{**PLAIN, **flags}), Config())


@pytest.mark.parametrize("field", REFUSED)
def test_the_flag_is_named_with_its_reason(field):
    assert field in DEFAULTS, "SGLang has no such flag"
    flag = f"--{field.replace('_', '-')}"
    with pytest.raises(UnsupportedError) as refusal:
        check(**{field: REFUSED[field]})
    (feature,) = (each for each in limits.FEATURES if flag in {one.flag for one in each.limits})
    said = str(refusal.value)
    assert said.startswith(f"{flag} ({feature.name})")
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


@pytest.mark.parametrize(
    "flags",
    [{}, {"decode_attention_backend": "flex_attention"}, {"tp_size": 2}, {"dp_size": 2}],
    ids=str,
)
def test_supported(flags):
    check(**flags)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({}, "--dist-init-addr"),
        ({"dist_init_addr": "a:1", "node_rank": 2}, "--node-rank 2 is not one of 2"),
        ({"dist_init_addr": "a:1", "env": "env://"}, "SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE"),
        ({"dist_init_addr": "a:1"}, None),
    ],
)
def test_several_nodes_must_be_able_to_find_each_other(monkeypatch, flags, named):
    monkeypatch.setenv("SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE", flags.pop("env", ""))
    if named is None:
        return check(nnodes=2, **flags)
    with pytest.raises(UnsupportedError, match=named):
        check(nnodes=2, **flags)


def test_the_page_size_is_t():
    with pytest.raises(UnsupportedError, match="--llm42-page"):
        check(page_size=64)


def test_the_reference_shows_the_table():
    assert limits.table() in REFERENCE.read_text(), "python -m llm42_sglang.engine.start.limits"

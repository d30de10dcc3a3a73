"""FlashInfer: SGLang's own planning and attention code, run on the CPU around fake wrappers.

The fakes take what the installed wrapper takes (its signatures are enforced) and remember it. What
FlashInfer makes of a plan's arguments is in `test_flashinfer_planner.py`.
Checked by hand, each fails a test here: dropping `disable_split_kv`, `use_paged`,
`prefill_wrappers_paged`, `prefill_split_tile_size` or `forward_metadata` from the mode, giving the
fast path's workspace to the wrapper.
"""

import inspect
from types import SimpleNamespace

import flashinfer
import pytest
import torch
from sglang.srt.layers.attention import flashinfer_backend
from sglang.srt.layers.attention.flashinfer_backend import (
    FlashInferAttnBackend,
    FlashInferIndicesUpdaterPrefill,
)
from sglang.srt.layers.radix_attention import AttentionType
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from llm42_sglang.engine.backends import BACKENDS
from llm42_sglang.engine.unsupported import UnsupportedError

REAL = flashinfer.BatchPrefillWithPagedKVCacheWrapper
T, SLOTS, HEADS, DIM = 16, 2, 2, 4
PREFIXES = [T, 3 * T]


class FakeWrapper:
    """In FlashInfer's place: checks arguments against the real wrapper's and remembers them."""

    is_cuda_graph_enabled = False

    def __init__(self, *args, **kwargs):
        self.made = inspect.signature(REAL.__init__).bind(self, *args, **kwargs).arguments
        self.plans: list[dict] = []
        self.runs: list[str] = []

    def begin_forward(self, *args, **kwargs):
        self.plans.append(
            inspect.signature(REAL.begin_forward).bind(self, *args, **kwargs).arguments
        )

    def forward(self, q, *args, **kwargs):
        self.runs.append("forward")
        return torch.zeros_like(q)

    def forward_return_lse(self, q, *args, **kwargs):
        self.runs.append("forward_return_lse")
        return torch.zeros_like(q), torch.zeros(q.shape[:2])


class Ragged(FakeWrapper):
    def begin_forward(self, *args, **kwargs):
        self.plans.append(kwargs)


@pytest.fixture
def backend(monkeypatch) -> FlashInferAttnBackend:
    """As `FlashInferAttnBackend.__init__` leaves it for a plain model, wrappers replaced."""
    monkeypatch.setattr(flashinfer, "BatchPrefillWithPagedKVCacheWrapper", FakeWrapper)
    monkeypatch.setattr(
        flashinfer_backend, "_safe_merge_state", lambda a, _, b, __: (a + b, None), raising=False
    )
    backend = object.__new__(FlashInferAttnBackend)
    workspace = torch.empty(16, dtype=torch.uint8)
    vars(backend).update(
        prefill_backend="fa2",
        num_wrappers=1,
        dispatch_reason=None,
        workspace_buffer=workspace,
        prefill_wrappers_paged=[FakeWrapper(workspace, "NHD")],
        prefill_wrapper_ragged=Ragged(workspace, "NHD"),
        prefill_split_tile_size=None,
        use_paged=False,
        enable_deterministic=False,
        enable_mis=False,
        is_multimodal=False,
        is_dllm_model=False,
        use_sliding_window_kv_pool=False,
        prefill_uses_dequant_workspace=False,
        dq_page_table=None,
        dq_paged_kernel_lens=None,
        _swa_kv_pool=None,
        kv_indptr=[torch.zeros(9, dtype=torch.int32)],
        qo_indptr=[torch.zeros(9, dtype=torch.int32)],
        kv_last_page_len=torch.ones(8, dtype=torch.int32),
        flashinfer_kv_cache_dtype=torch.bfloat16,
        forward_metadata="of the last decode step",
        kv_index_translator=SimpleNamespace(
            reads_are_translated=False, pack_read_stream=lambda *args, **kwargs: None
        ),
        token_to_kv_pool=SimpleNamespace(
            get_kv_buffer=lambda layer: ("keys", "values"), set_kv_buffer=lambda *args: None
        ),
    )
    monkeypatch.setattr(FlashInferAttnBackend, "_kv_write_scales", lambda self, layer: ())
    monkeypatch.setattr(flashinfer_backend.KVWriteLoc, "for_layer", lambda *args, **kwargs: None)
    updater = object.__new__(FlashInferIndicesUpdaterPrefill)
    vars(updater).update(
        attn_backend=backend,
        num_qo_heads=HEADS,
        num_kv_heads=HEADS,
        head_dim=DIM,
        data_type=torch.bfloat16,
        q_data_type=torch.bfloat16,
        kv_indptr=backend.kv_indptr,
        qo_indptr=backend.qo_indptr,
        kv_last_page_len=backend.kv_last_page_len,
        prefill_wrapper_ragged=backend.prefill_wrapper_ragged,
        update=updater.update_single_wrapper,
    )
    backend.indices_updater_prefill = updater
    return backend


def run_pass(backend: FlashInferAttnBackend) -> None:
    """SGLang's planning and one layer of its extend, in the shape of a canonical pass."""
    prefixes = torch.tensor(PREFIXES)
    batch = SimpleNamespace(
        forward_mode=ForwardMode.EXTEND,
        out_cache_loc=None,
        req_pool_indices=torch.arange(SLOTS),
        seq_lens=prefixes + T,
        seq_lens_cpu=prefixes + T,
        seq_lens_sum=int((prefixes + T).sum()),
        extend_prefix_lens=prefixes,
        extend_prefix_lens_cpu=PREFIXES,
        extend_seq_lens_cpu=[T] * SLOTS,
        encoder_lens=None,
        cross_attention_custom_mask=None,
        kv_loc_plan=None,
        spec_info=None,
    )
    layer = SimpleNamespace(
        layer_id=0,
        logit_cap=0.0,
        scaling=1.0,
        sliding_window_size=-1,
        is_cross_attention=False,
        attn_type=AttentionType.DECODER,
        tp_q_head_num=HEADS,
        tp_k_head_num=HEADS,
        tp_v_head_num=HEADS,
        head_dim=DIM,
        k_scale_float=None,
        v_scale_float=None,
    )
    backend.init_forward_metadata(batch)
    rows = torch.zeros(SLOTS * T, HEADS * DIM)
    FlashInferAttnBackend.forward_extend(backend, rows, rows, rows, layer, batch)


def test_a_pass_is_planned_unsplit_over_its_own_wrapper_and_workspace(backend):
    fast = backend.prefill_wrappers_paged[0]
    with BACKENDS["flashinfer"].mode_of(backend)():
        own = backend.prefill_wrappers_paged[0]
        run_pass(backend)
    (plan,) = own.plans
    assert plan["disable_split_kv"] is True
    assert plan.get("fixed_split_size") is None
    assert plan["page_size"] == 1
    assert plan["qo_indptr"].tolist() == [0, T, 2 * T]
    assert plan["paged_kv_indptr"].tolist() == [0, 2 * T, 6 * T]
    assert own.runs == ["forward"]
    assert own.made["backend"] == backend.prefill_backend
    workspace = own.made["float_workspace_buffer"]
    assert workspace.data_ptr() != backend.workspace_buffer.data_ptr()
    assert fast.plans == [] and fast.runs == []
    assert backend.prefill_wrapper_ragged.plans == [] and backend.prefill_wrapper_ragged.runs == []


def test_a_plan_is_made_for_every_pass_over_the_same_wrapper(backend):
    mode = BACKENDS["flashinfer"].mode_of(backend)
    seen = []
    for _ in range(2):
        with mode():
            run_pass(backend)
            seen.append(backend.prefill_wrappers_paged[0])
    assert seen[0] is seen[1]
    assert len(seen[0].plans) == 2


def untouched(backend: FlashInferAttnBackend, before: dict) -> bool:
    return all(vars(backend)[name] is value for name, value in before.items())


@pytest.mark.parametrize("split", [None, 4096])
def test_the_fast_path_is_as_it_was_even_after_an_exception(backend, split):
    backend.prefill_split_tile_size = split
    mode = BACKENDS["flashinfer"].mode_of(backend)
    before = dict(vars(backend))
    with mode():
        run_pass(backend)
        assert backend.prefill_split_tile_size is None
    assert untouched(backend, before)
    with pytest.raises(RuntimeError), mode():
        assert not untouched(backend, before)
        raise RuntimeError("out of memory")
    assert untouched(backend, before)


def test_negative_control_outside_of_the_mode_nothing_is_fixed(backend):
    """An ordinary prefill of the same shape: ragged and paged kernel, merged, split at will."""
    BACKENDS["flashinfer"].mode_of(backend)
    run_pass(backend)
    paged, ragged = backend.prefill_wrappers_paged[0], backend.prefill_wrapper_ragged
    assert "disable_split_kv" not in paged.plans[0]
    assert ragged.runs == paged.runs == ["forward_return_lse"]


def test_the_installed_wrapper_plans_under_both_names():
    plan = inspect.signature(REAL.plan)
    assert REAL.begin_forward is REAL.plan
    assert plan.parameters["disable_split_kv"].default is False
    assert plan.parameters["fixed_split_size"].default is None


@pytest.mark.parametrize("wrappers", [1, 2])
def test_sliding_windows_and_subclasses_are_refused(backend, wrappers):
    class Other(FlashInferAttnBackend):
        pass

    backend.num_wrappers = wrappers
    if wrappers == 1:
        backend.__class__ = Other
    with pytest.raises(UnsupportedError, match="no canonical mode"):
        BACKENDS["flashinfer"].mode_of(backend)

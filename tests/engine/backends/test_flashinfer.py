"""FlashInfer: what SGLang's own planning and attention code gives a wrapper, in our mode.

It runs on the CPU around mocks of FlashInfer's wrappers, which enforce their signatures. What
FlashInfer makes of a plan: `test_flashinfer_planner.py`; that a mode leaves nothing behind:
`test_mode.py`. Checked by hand, each fails a test here: dropping `disable_split_kv`, `use_paged`,
`prefill_wrappers_paged`, `prefill_split_tile_size` or `forward_metadata` from the mode, giving the
fast path's workspace to the wrapper.
"""

import inspect
from types import SimpleNamespace
from unittest.mock import create_autospec

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

from llm42_sglang.engine.errors import UnsupportedError
from llm42_sglang.engine.passes.backends import BACKENDS

PAGED = flashinfer.BatchPrefillWithPagedKVCacheWrapper
RAGGED = flashinfer.BatchPrefillWithRaggedKVCacheWrapper
T, SLOTS, HEADS, DIM = 16, 2, 2, 4
PREFIXES = [T, 3 * T]


def wrapper(kind: type = PAGED):
    """Takes what the installed one takes, and remembers it."""
    made = create_autospec(kind, instance=True, is_cuda_graph_enabled=False)
    made.forward.side_effect = lambda q, *args, **kwargs: torch.zeros_like(q)
    made.forward_return_lse.side_effect = lambda q, *args, **kwargs: (q, torch.zeros(q.shape[:2]))
    return made


def planned(call) -> dict:
    """The arguments of a plan, by name."""
    return inspect.signature(PAGED.plan).bind(None, *call.args, **call.kwargs).arguments


class Plain(SimpleNamespace):
    """Has every attribute; None, where nothing is said."""

    def __getattr__(self, name: str) -> None:
        return None


@pytest.fixture
def backend(monkeypatch) -> FlashInferAttnBackend:
    """As `FlashInferAttnBackend.__init__` leaves it for a plain model, wrappers replaced."""
    monkeypatch.setattr(flashinfer, PAGED.__name__, create_autospec(PAGED, return_value=wrapper()))
    monkeypatch.setattr(
        flashinfer_backend, "_safe_merge_state", lambda out, *others: (out, None), raising=False
    )
    monkeypatch.setattr(flashinfer_backend.KVWriteLoc, "for_layer", lambda *args, **kwargs: None)
    for each in (FlashInferAttnBackend, FlashInferIndicesUpdaterPrefill):  # what is not said is off
        monkeypatch.setattr(each, "__getattr__", Plain.__getattr__, raising=False)
    monkeypatch.setattr(FlashInferAttnBackend, "_kv_write_scales", lambda self, layer: ())
    backend = object.__new__(FlashInferAttnBackend)
    workspace = torch.empty(16, dtype=torch.uint8)
    shared = {
        "kv_indptr": [torch.zeros(9, dtype=torch.int32)],
        "qo_indptr": [torch.zeros(9, dtype=torch.int32)],
        "kv_last_page_len": torch.ones(8, dtype=torch.int32),
        "prefill_wrapper_ragged": wrapper(RAGGED),
    }
    vars(backend).update(
        **shared,
        prefill_backend="fa2",
        num_wrappers=1,
        workspace_buffer=workspace,
        prefill_wrappers_paged=[wrapper()],
        prefill_split_tile_size=None,
        use_paged=False,
        forward_metadata="of the last decode step",
        kv_index_translator=Plain(pack_read_stream=lambda *args, **kwargs: None),
        token_to_kv_pool=SimpleNamespace(
            get_kv_buffer=lambda layer: ("keys", "values"), set_kv_buffer=lambda *args: None
        ),
    )
    updater = object.__new__(FlashInferIndicesUpdaterPrefill)
    heads = {"num_qo_heads": HEADS, "num_kv_heads": HEADS, "head_dim": DIM}
    vars(updater).update(
        **shared, **heads, attn_backend=backend, update=updater.update_single_wrapper
    )
    backend.indices_updater_prefill = updater
    return backend


def run_pass(backend: FlashInferAttnBackend) -> None:
    """SGLang's planning and one layer of its extend, in the shape of a canonical pass."""
    prefixes = torch.tensor(PREFIXES)
    batch = Plain(
        forward_mode=ForwardMode.EXTEND,
        req_pool_indices=torch.arange(SLOTS),
        seq_lens=prefixes + T,
        seq_lens_cpu=prefixes + T,
        seq_lens_sum=int((prefixes + T).sum()),
        extend_prefix_lens=prefixes,
        extend_prefix_lens_cpu=PREFIXES,
        extend_seq_lens_cpu=[T] * SLOTS,
    )
    heads = dict.fromkeys(("tp_q_head_num", "tp_k_head_num", "tp_v_head_num"), HEADS)
    layer = Plain(**heads, head_dim=DIM, sliding_window_size=-1, attn_type=AttentionType.DECODER)
    backend.init_forward_metadata(batch)
    rows = torch.zeros(SLOTS * T, HEADS * DIM)
    FlashInferAttnBackend.forward_extend(backend, rows, rows, rows, layer, batch)


def test_passes_are_planned_unsplit_over_a_wrapper_and_workspace_of_their_own(backend):
    backend.prefill_split_tile_size = 4096  # as in SGLang's deterministic mode
    before, mode = dict(vars(backend)), BACKENDS["flashinfer"].mode_of(backend)
    (made,) = flashinfer.BatchPrefillWithPagedKVCacheWrapper.call_args_list
    for _ in range(2):
        with mode():
            (own,) = backend.prefill_wrappers_paged
            run_pass(backend)
        assert all(vars(backend)[name] is value for name, value in before.items())
    plans = [planned(call) for call in own.begin_forward.func.call_args_list]
    assert own.forward.call_count == len(plans) == 2
    for plan in plans:
        assert plan["disable_split_kv"] is True
        assert plan.get("fixed_split_size") is None
        assert plan["page_size"] == 1
        assert plan["qo_indptr"].tolist() == [0, T, 2 * T]
        assert plan["paged_kv_indptr"].tolist() == [0, 2 * T, 6 * T]
    assert made.kwargs == {"backend": backend.prefill_backend}
    assert made.args[0].data_ptr() != backend.workspace_buffer.data_ptr()
    for other in (*backend.prefill_wrappers_paged, backend.prefill_wrapper_ragged):
        assert other is not own and other.method_calls == []


def test_negative_control_outside_of_the_mode_nothing_is_fixed(backend):
    """An ordinary prefill of the same shape: ragged and paged kernel, merged, split at will."""
    run_pass(backend)
    (paged,), ragged = backend.prefill_wrappers_paged, backend.prefill_wrapper_ragged
    (plan,) = map(planned, paged.begin_forward.call_args_list)
    assert "disable_split_kv" not in plan
    assert inspect.signature(PAGED.plan).parameters["disable_split_kv"].default is False
    for each in (paged, ragged):
        assert each.forward_return_lse.called and not each.forward.called
    assert PAGED.begin_forward is PAGED.plan  # SGLang plans by the former name


@pytest.mark.parametrize("wrappers", [1, 2])
def test_sliding_windows_and_subclasses_are_refused(backend, wrappers):
    backend.num_wrappers = wrappers
    if wrappers == 1:
        backend.__class__ = type("Other", (FlashInferAttnBackend,), {})
    with pytest.raises(UnsupportedError, match="no canonical mode"):
        BACKENDS["flashinfer"].mode_of(backend)

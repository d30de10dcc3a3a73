"""FlashInfer: what SGLang's own planning and attention code gives a wrapper, in our mode.

It runs on the CPU around fake wrappers, which take what the installed wrapper takes (its signatures
are enforced) and remember it. What FlashInfer makes of a plan: `test_flashinfer_planner.py`.
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
        self.plans.append(inspect.signature(REAL.plan).bind(self, *args, **kwargs).arguments)

    def forward(self, q, *args, **kwargs):
        self.runs.append("forward")
        return torch.zeros_like(q)

    def forward_return_lse(self, q, *args, **kwargs):
        self.runs.append("forward_return_lse")
        return torch.zeros_like(q), torch.zeros(q.shape[:2])


class Ragged(FakeWrapper):
    def begin_forward(self, *args, **kwargs):
        self.plans.append(kwargs)


class Plain(SimpleNamespace):
    """Has every attribute; None, where nothing is said."""

    def __getattr__(self, name: str) -> None:
        return None


@pytest.fixture
def backend(monkeypatch) -> FlashInferAttnBackend:
    """As `FlashInferAttnBackend.__init__` leaves it for a plain model, wrappers replaced."""
    monkeypatch.setattr(flashinfer, REAL.__name__, FakeWrapper)
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
        "prefill_wrapper_ragged": Ragged(workspace, "NHD"),
    }
    vars(backend).update(
        **shared,
        prefill_backend="fa2",
        num_wrappers=1,
        workspace_buffer=workspace,
        prefill_wrappers_paged=[FakeWrapper(workspace, "NHD")],
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
    fast, mode = backend.prefill_wrappers_paged[0], BACKENDS["flashinfer"].mode_of(backend)
    for _ in range(2):
        with mode():
            own = backend.prefill_wrappers_paged[0]
            run_pass(backend)
    assert own.runs == ["forward"] * 2 and len(own.plans) == 2
    for plan in own.plans:
        assert plan["disable_split_kv"] is True
        assert plan.get("fixed_split_size") is None
        assert plan["page_size"] == 1
        assert plan["qo_indptr"].tolist() == [0, T, 2 * T]
        assert plan["paged_kv_indptr"].tolist() == [0, 2 * T, 6 * T]
    assert own.made["backend"] == backend.prefill_backend
    workspace = own.made["float_workspace_buffer"]
    assert workspace.data_ptr() != backend.workspace_buffer.data_ptr()
    for other in (fast, backend.prefill_wrapper_ragged):
        assert other.plans == other.runs == []


@pytest.mark.parametrize("split", [None, 4096])
def test_the_fast_path_is_as_it_was_even_after_an_exception(backend, split):
    backend.prefill_split_tile_size = split
    mode, before = BACKENDS["flashinfer"].mode_of(backend), dict(vars(backend))

    def untouched() -> bool:
        return all(vars(backend)[name] is value for name, value in before.items())

    with mode():
        run_pass(backend)
        assert backend.prefill_split_tile_size is None
    assert untouched()
    with pytest.raises(RuntimeError), mode():
        assert not untouched()
        raise RuntimeError("out of memory")
    assert untouched()


def test_negative_control_outside_of_the_mode_nothing_is_fixed(backend):
    """An ordinary prefill of the same shape: ragged and paged kernel, merged, split at will."""
    BACKENDS["flashinfer"].mode_of(backend)
    run_pass(backend)
    paged, ragged = backend.prefill_wrappers_paged[0], backend.prefill_wrapper_ragged
    assert "disable_split_kv" not in paged.plans[0]
    assert inspect.signature(REAL.plan).parameters["disable_split_kv"].default is False
    assert ragged.runs == paged.runs == ["forward_return_lse"]
    assert REAL.begin_forward is REAL.plan  # SGLang plans by the former name


@pytest.mark.parametrize("wrappers", [1, 2])
def test_sliding_windows_and_subclasses_are_refused(backend, wrappers):
    backend.num_wrappers = wrappers
    if wrappers == 1:
        backend.__class__ = type("Other", (FlashInferAttnBackend,), {})
    with pytest.raises(UnsupportedError, match="no canonical mode"):
        BACKENDS["flashinfer"].mode_of(backend)

"""Which shapes a canonical pass takes, around a pretended model. No server."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from llm42_sglang.core.config import Config
from llm42_sglang.engine.passes import canonical
from llm42_sglang.engine.passes.canonical import CanonicalForward, Slot
from llm42_sglang.engine.passes.shape import Shape

T, VOCABULARY = 16, 5


class Runner:
    """Logits are the number of the row in the pass; remembers what was run."""

    device = "cpu"
    model_config = spec_algorithm = token_to_kv_pool_allocator = None
    prefill_cuda_graph_runner = None

    def __init__(self):
        rows = torch.arange(40 * 64, dtype=torch.int32).view(40, 64)
        self.req_to_token_pool = SimpleNamespace(req_to_token=rows)
        self.batches: list = []
        self.shapes: list[tuple[int, int]] = []  # rows of the pass, rows of the head

    def forward(self, batch):
        rows = torch.arange(len(batch.input_ids)).float()[:, None].expand(-1, VOCABULARY)
        kept, *_ = canonical.keep_head_rows(None, None, rows, None, None, None)
        self.batches.append(batch)
        self.shapes.append((len(rows), len(kept)))
        logits = SimpleNamespace(next_token_logits=kept)
        return SimpleNamespace(logits_output=logits, can_run_graph=False)


@pytest.fixture
def forward(monkeypatch) -> CanonicalForward:
    plain = SimpleNamespace(init_new=lambda batch, runner, **_: batch)
    monkeypatch.setattr(canonical, "ForwardBatch", plain)
    return CanonicalForward(Runner(), Config(page=T, group=8))


def slots(*scored: bool) -> list[Slot]:
    return [Slot(row, 1, (7, 8), wanted) for row, wanted in enumerate(scored, start=1)]


@pytest.mark.parametrize(
    ("widths", "scored", "shape"),
    [
        ((8,), (True,), (8 * T, 8 * T)),  # nothing narrower is certified: dummies
        ((1, 2, 4, 8), (True,), (T, T)),
        ((1, 2, 4, 8), (True, True, True), (4 * T, 4 * T)),
        ((1, 2, 4, 8), (False, True, False, False, True), (8 * T, 2 * T)),
        ((1, 2, 4, 8), (False, True, False, True), (4 * T, 2 * T)),
        ((8,), (False, True), (8 * T, 8 * T)),
        ((1, 8), (False, True, True), (8 * T, 8 * T)),
        ((1, 2, 4, 8), (False, False), (2 * T, 1)),  # no head: one row, that nobody reads
    ],
)
def test_pass_and_head_have_certified_shapes(forward, widths, scored, shape):
    forward.shape = Shape(widths)
    given = forward(slots(*scored))
    assert forward.runner.shapes == [shape]
    for slot, (logits, wanted) in enumerate(zip(given, scored, strict=True)):
        own = list(range(slot * T, (slot + 1) * T))
        assert (logits[:, 0].tolist() == own) if wanted else logits is None


def test_a_page_is_whole_and_its_own(forward):
    """Padding writes behind the tokens, into the same page."""
    forward.shape = Shape((1,))
    forward(slots(True))
    (batch,) = forward.runner.batches
    assert batch.input_ids.tolist() == [7, 8, *[canonical.PADDING_TOKEN] * (T - 2)]
    assert batch.out_cache_loc.tolist() == list(range(64 + T, 64 + 2 * T))
    assert (batch.prefix_lens, batch.extend_lens) == ([T], [T])


def test_the_pass_leaves_nothing_behind_even_if_it_fails(forward):
    """The backend's mode covers the forward and nothing else, and so do the head's rows."""
    inside = []

    def run(batch):
        assert inside == ["mode"]
        raise RuntimeError("out of memory")

    @contextmanager
    def mode():
        inside.append("mode")
        try:
            yield
        finally:
            inside.pop()

    forward.mode, forward.runner.forward = mode, run
    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of memory"):
            forward(slots(True))
        assert inside == []
        states = canonical.keep_head_rows(lambda *args: "pruned", None, None, None, None, None)
        assert states == "pruned"

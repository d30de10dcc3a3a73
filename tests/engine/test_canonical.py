"""Which shapes a canonical pass takes, around a pretended model. No server."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from llm42_sglang.core.config import Config
from llm42_sglang.engine import canonical
from llm42_sglang.engine.canonical import CanonicalForward, Slot

T, VOCABULARY = 16, 5


class Runner:
    """Logits are the number of the row in the pass; remembers what was run."""

    device = "cpu"
    model_config = spec_algorithm = token_to_kv_pool_allocator = None
    prefill_cuda_graph_runner = None

    def __init__(self):
        rows = torch.arange(40 * 64, dtype=torch.int32).view(40, 64)
        self.req_to_token_pool = SimpleNamespace(req_to_token=rows)
        self.shapes: list[tuple[int, int]] = []  # rows of the pass, rows of the head

    def forward(self, batch):
        rows = torch.arange(len(batch.input_ids)).float()[:, None].expand(-1, VOCABULARY)
        kept, *_ = canonical.keep_head_rows(None, None, rows, None, None, None)
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
        ((8,), (False, True), (8 * T, 8 * T)),
        ((1, 8), (False, True, True), (8 * T, 8 * T)),
        ((1, 2, 4, 8), (False, False), (2 * T, 1)),  # no head: one row, that nobody reads
    ],
)
def test_pass_and_head_have_certified_shapes(forward, widths, scored, shape):
    forward.widths = widths
    given = forward(slots(*scored))
    assert forward.runner.shapes == [shape]
    assert [logits is not None for logits in given] == list(scored)


def test_every_slot_gets_its_own_rows(forward):
    forward.widths = (1, 2, 4, 8)
    given = forward(slots(False, True, False, True))
    for slot in (1, 3):
        assert given[slot][:, 0].tolist() == list(range(slot * T, (slot + 1) * T))


def decode_rows(count: int) -> canonical.DecodeRows:
    """Requests of the rows from 4 on, each with 40 tokens and one more."""
    requests, lengths = torch.arange(4, 4 + count), torch.full((count,), 41)
    return canonical.DecodeRows(torch.full((count,), 9), requests, lengths, 64 * requests + 40)


@pytest.mark.parametrize(
    ("rows", "carrying", "pages"),
    [
        (1, (), 0),
        (1, (2, 4), 1),
        (T, (2, 4), 1),
        (T, (4,), 3),
        (T + 1, (2, 4), 2),
        (2 * T + 1, (2, 4), 1),
        (3 * T + 1, (2, 4), 0),
    ],
)
def test_pages_ride_in_what_decode_rows_leave_of_the_narrowest_pass(forward, rows, carrying, pages):
    forward.carriers = carrying
    assert forward.seats_beside(rows) == pages


@pytest.mark.parametrize("rows", [1, 3, T])
def test_a_pass_carries_decode_rows_behind_its_pages(forward, monkeypatch, rows):
    """In the shape of any other pass of as many slots; pages and rows get their own logits."""
    seen = []
    real = forward.runner.forward
    monkeypatch.setattr(
        forward.runner, "forward", lambda batch: (seen.append(batch), real(batch))[1]
    )
    forward.widths, forward.carriers = (1, 2, 4, 8), (4,)
    decode = decode_rows(rows)
    (of_page,), run = forward.carry(slots(True), decode)
    assert forward.runner.shapes == [(4 * T, 2 * T)]  # two slots are dummies: no head for them
    assert of_page[:, 0].tolist() == list(range(T))
    of_rows = run.logits_output.next_token_logits[:, 0].tolist()
    assert of_rows == list(range(3 * T, 3 * T + rows))
    (batch,), padding = seen, T - rows
    assert batch.extend_lens == [T, T, T, *[1] * rows, *[padding] * bool(padding)]
    assert batch.prefix_lens == [T, 0, 0, *[40] * rows, *[0] * bool(padding)]
    behind = slice(3 * T, 3 * T + rows)
    assert torch.equal(batch.out_cache_loc[behind], decode.out_cache_loc)
    assert torch.equal(batch.input_ids[behind], decode.input_ids)
    assert batch.seq_lens.tolist()[3 : 3 + rows] == [41] * rows
    assert batch.req_pool_indices.tolist()[3:] == [*range(4, 4 + rows), *[0] * bool(padding)]
    assert batch.out_cache_loc[3 * T + rows :].tolist() == list(range(padding))  # nobody's KV


def test_a_page_is_whole_and_its_own(forward):
    """Padding writes behind the tokens, into the same page."""
    batch = forward._batch(slots(True))
    assert batch.input_ids.tolist() == [7, 8, *[canonical.PADDING_TOKEN] * (T - 2)]
    assert batch.out_cache_loc.tolist() == list(range(64 + T, 64 + 2 * T))
    assert (batch.prefix_lens, batch.extend_lens) == ([T], [T])


def test_a_failed_pass_leaves_ordinary_forwards_alone(forward, monkeypatch):
    @contextmanager
    def failing():
        raise RuntimeError("out of memory")
        yield

    monkeypatch.setattr(forward.runner, "forward", lambda batch: failing().__enter__())
    with pytest.raises(RuntimeError):
        forward(slots(True))
    states = canonical.keep_head_rows(lambda *args: "pruned", None, None, None, None, None)
    assert states == "pruned"


def test_the_backends_mode_covers_the_forward_and_nothing_else(forward, monkeypatch):
    inside, seen = [False], []

    @contextmanager
    def mode():
        inside[0] = True
        try:
            yield
        finally:
            inside[0] = False

    real = forward.runner.forward
    monkeypatch.setattr(
        forward.runner, "forward", lambda batch: (seen.append(inside[0]), real(batch))[1]
    )
    forward.mode = mode
    for _ in range(2):
        forward(slots(True))
        assert not inside[0]
    assert seen == [True, True]

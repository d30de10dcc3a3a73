"""Which decode steps certification finds canonical (A4), around a pretended model. No server.

The model has two layers and sums integers, so its decode rows are exactly canonical ones, until a
fault makes some of them differ. On a real model: `test_certify.py`.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from llm42_sglang.core.config import Config
from llm42_sglang.engine.passes import canonical
from llm42_sglang.engine.passes.canonical import CanonicalForward
from llm42_sglang.engine.passes.ranks import Ranks
from llm42_sglang.engine.passes.shape import Shape
from llm42_sglang.engine.start import step_exam
from llm42_sglang.engine.start.step_exam import MOST, StepExam, shapes

T, VOCABULARY = 16, 50
SHAPE = Shape((1, 4))
ALL = tuple(range(1, MOST + 1))


class Step(NamedTuple):
    """What a fault may change: the rows of one decode step."""

    lengths: torch.Tensor  # [n], the new row included
    locations: torch.Tensor  # [n] KV slots
    logits: torch.Tensor  # [n, vocab]
    values: torch.Tensor  # [KV slots, 1, 1] of the first layer


class Toy:
    """A model runner. Layer 0 keeps a number of token and position, layer 1 sums those it sees."""

    device = "cpu"
    spec_algorithm = prefill_cuda_graph_runner = None

    def __init__(self, fault: Callable[[Step], None], context=1100, requests=70, pages=200):
        self.fault = fault
        self.sizes: list[int] = []  # of the decode steps that were run
        self.decode_cuda_graph_capture_bs: list[int] = []
        self.model_config = SimpleNamespace(context_len=context, vocab_size=VOCABULARY)
        table = torch.zeros(1 + requests, context + 4, dtype=torch.int32)
        self.req_to_token_pool = SimpleNamespace(req_to_token=table, size=requests)
        self.token_to_kv_pool_allocator = SimpleNamespace(size=pages * T)
        self.buffers = torch.zeros(2, 2, (1 + pages) * T, 1, 1, dtype=torch.int64)
        self.token_to_kv_pool = SimpleNamespace(
            start_layer=0,
            layer_num=2,
            get_key_buffer=lambda layer: self.buffers[layer, 0],
            get_value_buffer=lambda layer: self.buffers[layer, 1],
        )

    def forward(self, batch) -> SimpleNamespace:
        decode = batch.forward_mode.is_decode()
        lengths = batch.seq_lens.tolist()
        new = [1] * len(lengths) if decode else batch.extend_lens
        rows = [
            (request, position)
            for request, length, count in zip(batch.req_pool_indices, lengths, new, strict=True)
            for position in range(length - count, length)
        ]
        where, positions = batch.out_cache_loc, torch.tensor([position for _, position in rows])
        self.buffers[0, 0, where, 0, 0] = batch.input_ids + positions
        self.buffers[0, 1, where, 0, 0] = batch.input_ids * 2 + 1
        seen = self.buffers[0, 0] * self.buffers[0, 1] % 1009
        table = self.req_to_token_pool.req_to_token.long()
        sums = torch.stack([seen[table[row, : position + 1]].sum() for row, position in rows])
        self.buffers[1, :, where, 0, 0] = sums
        logits = sums[:, None] * torch.arange(1, 1 + VOCABULARY)
        if decode:
            self.sizes.append(len(rows))
            self.fault(Step(batch.seq_lens, where, logits, self.buffers[0, 1]))
        else:
            logits, *_ = canonical.keep_head_rows(None, None, logits, None, None, None)
        output = SimpleNamespace(next_token_logits=logits)
        return SimpleNamespace(logits_output=output, can_run_graph=False)


@pytest.fixture(autouse=True)
def plain_batches(monkeypatch) -> None:
    plain = SimpleNamespace(init_new=lambda batch, runner, **_: batch)
    for module in (canonical, step_exam):
        monkeypatch.setattr(module, "ForwardBatch", plain)
    monkeypatch.setattr(step_exam, "SECONDS", 1e9)


def examined(toy: Toy) -> tuple[int, ...]:
    return StepExam(CanonicalForward(toy, Config(page=T, group=4)), SHAPE).canonical_sizes()


def sound(step: Step) -> None:
    pass


def one_row(step: Step) -> None:
    """The kernel for one row sums otherwise."""
    if len(step.logits) == 1:
        step.logits[:] += 1


def many_rows(step: Step) -> None:
    """Another kernel from 33 rows on, and nothing but KV shows it."""
    if len(step.logits) > 32:
        step.values[step.locations] += 1


def fourth_row(step: Step) -> None:
    step.logits[3:4] += 1


def long_context(step: Step) -> None:
    step.logits[step.lengths > 512] += 1


def full_page(step: Step) -> None:
    """The row that fills its page."""
    step.logits[step.lengths % T == 0] += 1


def short_beside_long(step: Step) -> None:
    if step.lengths.max() > 1000:
        step.logits[step.lengths < 100] += 1


def one_row_of_ten(step: Step) -> None:
    """The kernel for one row sums otherwise, and rounding hides that in most rows."""
    if len(step.logits) == 1 and step.lengths % 10 == 7:
        step.logits[:] += 1


def neighbours_kv(step: Step) -> None:
    """A row's KV depends on its neighbour's length."""
    step.values[step.locations, 0, 0] += step.lengths.roll(1) - step.lengths


def pool_location(step: Step) -> None:
    step.logits[step.locations >= 61 * T] += 1


@pytest.mark.parametrize(
    ("fault", "sizes"),
    [
        (sound, ALL),
        (one_row, ALL[1:]),
        (one_row_of_ten, ALL[1:]),
        (many_rows, ALL[:32]),
        (fourth_row, ALL[:3]),
        (long_context, ()),
        (full_page, ()),
        (short_beside_long, ALL[:1]),
        (neighbours_kv, ALL[:1]),
        (pool_location, ALL[:28]),
    ],
)
def test_sizes_whose_rows_may_differ_are_left_out(fault, sizes):
    assert examined(Toy(fault)) == sizes


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"requests": 5}, 5),  # nobody can reach more
        ({"context": 100}, MOST),
        ({"pages": 40}, 12),  # 28 hold the text twice
        ({"pages": 8}, 0),
    ],
)
def test_sizes_are_those_that_the_server_has_room_for(limits, most):
    toy = Toy(sound, **limits)
    assert examined(toy) == ALL[:most]
    assert {*toy.sizes} == {*ALL[:most]}


def test_every_size_meets_every_length(monkeypatch):
    met: dict[int, set[int]] = {}
    toy = Toy(lambda step: met.setdefault(len(step.lengths), set()).update(step.lengths.tolist()))
    examined(toy)
    edges = {1, T, T + 1, *step_exam.EDGES, *(edge + 1 for edge in step_exam.EDGES)}
    assert all(lengths >= edges for lengths in met.values())
    assert len({frozenset(lengths) for lengths in met.values()}) == 1


def test_sizes_of_one_graph_are_certified_together():
    """The smallest and the largest of them are run; all of them are padded to one shape."""
    toy = Toy(sound, requests=20)
    toy.decode_cuda_graph_capture_bs = [1, 2, 4, 8, 16, 24]
    assert examined(toy) == ALL[:20]
    assert {*toy.sizes} == {1, 2, 3, 4, 5, 8, 9, 16, 17, 20}
    toy.fault = fourth_row
    assert examined(toy) == ALL[:2]  # of 3 and 4, one fails
    assert [*shapes([2, 4], 6)] == [range(1, 3), range(3, 5), range(5, 6), range(6, 7)]


def test_what_is_not_begun_in_time_is_left_out(monkeypatch):
    monkeypatch.setattr(step_exam, "SECONDS", 0)
    toy = Toy(sound)
    assert examined(toy) == () and not toy.sizes


def test_one_rank_that_differs_is_enough():
    class Two(Ranks):
        def gather(self, value):
            return [value, toy.sizes[-1:] != [2]]

    toy = Toy(sound, requests=2)
    forward = CanonicalForward(toy, Config(page=T, group=4), ranks=Two())
    assert StepExam(forward, SHAPE).canonical_sizes() == (1,)

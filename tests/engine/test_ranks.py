"""Ranks that agree go on, others stop before the pass. Real process groups, no server."""

import multiprocessing
from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from llm42_sglang.core.drafts import Costs
from llm42_sglang.engine.errors import RanksDisagreeError
from llm42_sglang.engine.loop.audit import Audit
from llm42_sglang.engine.passes.ranks import Ranks
from llm42_sglang.engine.service import Service
from llm42_sglang.engine.start import certify, timing
from tests.engine.fakes import Forward, T, decoding


def _rank(rank: int, folder, behave, said) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    try:
        said.put((rank, behave(Ranks(dist.group.WORLD, 2, rank))))
    except RanksDisagreeError as error:
        said.put((rank, str(error)))
    said.close()
    said.join_thread()


def on_two_ranks(folder, behave) -> list:
    """What `behave` returns on each rank, or the error's text."""
    folder.mkdir(exist_ok=True)
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    ranks = [context.Process(target=_rank, args=(i, folder, behave, said)) for i in (0, 1)]
    for rank in ranks:
        rank.start()
    heard = dict(said.get(timeout=120) for _ in ranks)
    for rank in ranks:
        rank.join(60)
    return [heard[0], heard[1]]


def passes(ranks: Ranks, tokens_of_rank_1: int) -> str:
    """Two passes; what rank 1 drew from the first is given."""
    ranks.note("pass", [1, 2])
    ranks.agree()
    ranks.note("tokens", tokens_of_rank_1 if ranks.rank else 7)
    ranks.agree()
    return "went on"


def test_ranks_that_decide_alike_go_on_and_one_that_drew_another_token_stops_all(tmp_path):
    assert on_two_ranks(tmp_path / "alike", lambda ranks: passes(ranks, 7)) == ["went on"] * 2
    for said in on_two_ranks(tmp_path / "another", lambda ranks: passes(ranks, 8)):
        assert "rank 1 disagrees with rank 0" in said and "\n" not in said


def test_a_rank_that_does_not_come_stops_the_one_that_waits(tmp_path):
    def absent(ranks: Ranks) -> str:
        ranks.agree()  # both have met by now
        if ranks.rank == 1:
            return "elsewhere"
        ranks.agree()
        return "went on"

    waited, elsewhere = on_two_ranks(tmp_path, absent)
    assert elsewhere == "elsewhere"
    assert "another rank has not come to" in waited and "\n" not in waited


def beside(other) -> Ranks:
    """The first of two ranks; the other one always reports `other`."""
    return SimpleNamespace(gather=lambda mine: [mine, other])


def page(value: float) -> list:
    tensor = torch.full((2, 3), value)
    return [certify.Bits(tensor, tensor)]


@pytest.mark.parametrize(
    ("there", "here", "told"),
    [(None, 1, None), ("seen there", 1, "seen there"), (None, 2, "assumption A1")],
)
def test_a_difference_on_another_rank_is_everybodys(there, here, told):
    with pytest.raises(certify.CertificationError, match=told) if told else nullcontext():
        assert certify._compared_by_all(beside(there), "A1", page(1), page(here)) == 2


def test_every_rank_decides_about_drafts_by_the_costs_of_the_first(monkeypatch):
    forward = Forward(widths=(1, 8))
    forward.req_to_token = torch.zeros(5, 64)
    forward.runner = SimpleNamespace(req_to_token_pool=SimpleNamespace(size=4))
    monkeypatch.setattr(timing, "pass_seconds", lambda forward, shape, page: shape.widths[0] + page)
    monkeypatch.setattr(timing, "decode_seconds", lambda forward, rows, context: rows / context)
    mine = timing.measure_costs(forward)
    assert mine == Costs({1: 4, 8: 11}, {1: 1 / 64, 4: 4 / 64}, context=64)
    first = Costs({1: 2.0}, {1: 1.0})
    forward.ranks = SimpleNamespace(gather=lambda mine: [first, mine])
    assert timing.measure_costs(forward) == first


@pytest.mark.parametrize("other", [True, False])
def test_an_audit_fails_on_all_ranks_or_on_none(other):
    forward = Forward(audit=1)
    forward.ranks, audit = beside(other), Audit(forward, Service())
    rider = decoding(prompt=range(T))
    rider.audited_len = 0
    audit.committed(rider)
    (page,) = audit.riders(1)
    assert audit.compare(page, torch.zeros(T, 1)) is other
    assert audit.service.live is other

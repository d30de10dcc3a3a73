"""The running audit, on a forward that is made up. On a real server: `test_audit_fails.py`."""

from types import SimpleNamespace

import pytest
import torch

from llm42_sglang.engine.audit import PERIOD, Audit
from llm42_sglang.engine.request import DeterministicReq
from tests.engine.fakes import Forward, T, decoding

PROMPT = 5


def rider(row: int, tokens: int) -> DeterministicReq:
    """A request whose first `tokens` - 1 rows are canonical."""
    return decoding(row=row, prompt=range(PROMPT), output=range(PROMPT, tokens))


def rows_of(job) -> torch.Tensor:
    """Logits from which its tokens follow: token i + 1 after token i."""
    return torch.eye(4 * T)[[token + 1 for token in job.tokens]]


def picked(audit: Audit, riders: list, passes: int, seats: int = 4) -> list:
    return [job for _ in range(passes) if (job := audit.pick(riders, seats)) is not None]


def test_every_period_a_full_page_of_the_past_is_picked():
    audit, riders = Audit(Forward()), [rider(1, T), rider(2, 3 * T)]
    jobs = picked(audit, riders, 5 * PERIOD)
    assert len(jobs) == 5
    for job in jobs:
        assert job.request is riders[1]  # of the first one no page is full and canonical
        assert job.page in (0, 1) and job.tokens == tuple(range(job.page * T, (job.page + 1) * T))


def test_full_passes_put_the_audit_off_but_not_for_ever():
    audit, riders = Audit(Forward()), [rider(1, 2 * T), rider(2, 2 * T)]
    assert len(picked(audit, riders, 2 * PERIOD - 1, seats=2)) == 0
    assert len(picked(audit, riders, 1, seats=2)) == 1
    assert len(picked(audit, riders[:1], PERIOD, seats=2)) == 1


@pytest.mark.parametrize(("found", "equal"), [(1.0, True), (1.0 + 2**-20, False), (-1.0, False)])
def test_one_other_bit_fails_it_for_good(found, equal):
    forward = Forward()
    audit, riders = Audit(forward), [rider(1, T + 1)]
    (job,) = picked(audit, riders, PERIOD)
    forward.kv[1, 0] = found
    assert audit.compare(job, rows_of(job)) == equal and audit.failed != equal
    (job,) = picked(audit, riders, PERIOD)
    assert audit.compare(job, rows_of(job)) and audit.failed != equal


@pytest.mark.parametrize(
    ("row", "equal"), [(PROMPT - 2, True), (PROMPT - 1, False), (T - 1, False)]
)
def test_another_token_of_a_greedy_request_fails_it(row, equal):
    """Rows inside the prompt give tokens that nobody took."""
    audit = Audit(Forward())
    (job,) = picked(audit, [rider(1, T + 1)], PERIOD)
    rows = rows_of(job)
    rows[row] = rows[row].roll(1)
    assert audit.compare(job, rows) == equal
    job.request.chooser = SimpleNamespace(plain=False)  # what it would have drawn: another question
    assert audit.compare(job, rows)

"""The running audit, on a forward that is made up. On a real server: `test_audit_fails.py`."""

from types import SimpleNamespace

import pytest
import torch

from llm42_sglang.core.track import Retracted, Stepped
from llm42_sglang.engine.loop.audit import Audit, Audited
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.service import Service
from tests.engine.fakes import Forward, Loop, T, batch_of, decoding, end, lane, prompt

PROMPT = 5


def writing(tokens: int, row: int = 1) -> DeterministicReq:
    """A request whose first `tokens` - 1 rows are canonical, the output's since the last look."""
    req = decoding(row=row, prompt=range(PROMPT), output=range(PROMPT, tokens))
    req.audited_len = PROMPT
    return req


def rows_of(job) -> torch.Tensor:
    """Logits from which its tokens follow: token i + 1 after token i."""
    return torch.eye(4 * T)[[token + 1 for token in job.tokens]]


def pages_of(audited: list[Audited]) -> list[tuple[int, int]]:
    """Page and rows of each."""
    return [(one.job.page, len(one.job.tokens)) for one in audited]


@pytest.mark.parametrize(
    ("tokens", "ended", "pages"),
    [
        (T, False, []),  # its last row is not written yet
        (T + 1, False, [(0, T)]),
        (2 * T + 4, False, [(0, T), (1, T)]),
        (T + 4, True, [(0, T), (1, 3)]),
        (PROMPT + 3, True, [(0, PROMPT + 2)]),
    ],
)
def test_pages_that_an_output_fills_and_the_one_it_ends_in(tokens, ended, pages):
    audit, req = Audit(Forward(audit=1), Service()), writing(tokens)
    if ended:
        end(req)
    audit.committed(req)
    assert pages_of(audit.leaving(req, busy=False) if ended else audit.riders(9)) == pages
    audit.committed(req)
    assert audit.leaving(req, busy=False) == []  # once


def test_one_of_so_many_is_picked_and_waits_for_a_slot():
    audit = Audit(Forward(audit=3), Service())
    for _ in range(9):
        audit.committed(writing(T + 1))
    assert audit.riders(0) == []
    assert [len(audit.riders(2)) for _ in range(3)] == [2, 1, 0]


def test_while_others_decode_an_audit_waits_for_a_full_pass():
    """Every second page is picked. One that leaves before its turn is made up for by the next."""
    audit = Audit(Forward(widths=(2,), audit=2), Service())
    reqs = [writing(T + 1, row) for row in range(5)]
    for req in reqs[:2]:
        audit.committed(req)
    assert audit.leaving(end(reqs[1]), busy=True) == []
    for req in reqs[2:4]:
        audit.committed(req)  # the third in place of the second, and the fourth
    audited = audit.leaving(end(reqs[3]), busy=True)
    assert [one.job.request for one in audited] == [reqs[3], reqs[2]]
    audit.committed(reqs[4])
    assert audit.riders(9) == []  # nothing is owed any more


def test_no_more_than_a_pass_is_owed_however_short_the_answers_are():
    """Each has one page, and is gone as soon as it is picked."""
    audit, run = Audit(Forward(widths=(2,), audit=1), Service()), 0
    for _ in range(20):
        req = end(writing(PROMPT + 3))
        audit.committed(req)
        run += len(audit.leaving(req, busy=True))
    assert run >= 20 - 2


def test_a_prompts_own_pages_are_not_audited():
    audit, req = Audit(Forward(audit=1), Service()), writing(3 * T)
    req.audited_len = None  # nothing of it was seen before
    audit.committed(req)
    assert audit.riders(9) == []
    for _ in range(T):
        req.apply(Stepped(0))
        req.output_ids.append(0)
        audit.committed(req)
    assert pages_of(audit.riders(9)) == [(2, T)]  # its last row is the first that a step writes


def test_what_a_retraction_has_taken_is_not_audited():
    audit, req = Audit(Forward(audit=1), Service()), writing(T + 1)
    audit.committed(req)
    req.apply(Retracted(T + 1))
    assert audit.leaving(end(req), busy=False) == []  # its place in the pool is somebody else's
    again = writing(T + 1)
    audit.committed(again)
    again.apply(Retracted(T + 1))
    assert audit.riders(9) == []


@pytest.mark.parametrize(("found", "equal"), [(1.0, True), (1.0 + 2**-20, False), (-1.0, False)])
def test_one_other_bit_fails_it_for_good(found, equal):
    forward = Forward(audit=1)
    audit, reqs = Audit(forward, Service()), [writing(T + 1), writing(T + 1, row=2)]
    for req in reqs:
        audit.committed(req)
    one, another = audit.riders(2)
    forward.kv[1, 0] = found
    assert audit.compare(one, rows_of(one.job)) == equal and audit.service.live == equal
    assert audit.compare(another, rows_of(another.job)) and audit.service.live == equal


@pytest.mark.parametrize(
    ("row", "equal"), [(PROMPT - 2, True), (PROMPT - 1, False), (T - 1, False)]
)
def test_another_token_of_a_greedy_request_fails_it(row, equal):
    """Rows inside the prompt give tokens that nobody took."""
    audit, req = Audit(Forward(audit=1), Service()), writing(T + 1)
    audit.committed(req)
    (one,) = audit.riders(1)
    rows = rows_of(one.job)
    rows[row] = rows[row].roll(1)
    assert audit.compare(one, rows) == equal
    req.chooser = SimpleNamespace(plain=False)  # what it would have drawn: another question
    assert audit.compare(one, rows)


@pytest.mark.parametrize("equal", [True, False])
def test_a_request_is_audited_before_it_leaves(equal):
    made, req = lane(1, 8, audit=1), end(decoding(row=3, output=[0] * 4))
    loop, req.audited_len = Loop(req, lane=made), 0
    run = made.forward.__class__.__call__

    def spoil(self, slots):
        self.kv[3, 0] = 1.0 if equal else 2.0
        return run(self, slots)

    made.forward.kv[3, 0] = 1.0
    made.forward.__class__ = type("Spoiling", (made.forward.__class__,), {"__call__": spoil})
    req.chooser = SimpleNamespace(plain=False, plan=None)
    made.committed(req, stepped=True, busy=False)
    assert loop.events == ["pass"]
    assert made.service.live == equal


def test_after_a_failed_audit_nothing_comes_of_a_pass_and_nothing_is_audited():
    made, due = lane(8, audit=1), decoding(row=2, candidates=T)
    leaving = end(decoding(row=3, output=[0] * 4))
    leaving.audited_len = 0
    made.service.end()
    made.committed(leaving, stepped=False, busy=False)
    assert made.forward.passes == []
    batch = batch_of(prompt())
    _, verified = made.prefill(batch, made.prompt_pages(batch), [due])
    assert verified == []

"""Pages of prompts and due pages in one pass, on a forward that is made up. No server."""

from types import SimpleNamespace

import pytest
import torch

from llm42_sglang.core.packing import PageJob
from llm42_sglang.engine.lane import CanonicalLane
from tests.engine.fakes import T, batch_of, decoding, lane, logits_of, prompt

PROMPT_ROW, DUE_ROW = 1, 2


def due():
    """A request whose page is full; 5 of its rows are canonical."""
    return decoding(row=DUE_ROW, prompt=range(5), candidates=T - 6)


@pytest.mark.parametrize(
    ("pages", "widths", "spare"),
    [(1, (4,), 3), (3, (4,), 1), (4, (4,), 0), (5, (4,), 3), (3, (1, 2, 4), 1), (2, (1, 2, 4), 0)],
)
def test_due_pages_are_offered_what_the_last_pass_would_run_empty(pages, widths, spare):
    offered = []
    lane(*widths).prefill(batch_of(prompt(pages * T)), lambda n: offered.append(n) or ())
    assert offered == [spare]


def test_a_due_page_rides_behind_the_prompt_and_gets_its_own_rows():
    made, host, guest, read = lane(4), prompt(2 * T + 3, PROMPT_ROW), due(), []
    host.read_prompt = lambda rows, start: read.append((start, len(rows)))
    host.prefilled = lambda upto, last_row: int(last_row)
    tokens, (verified,) = made.prefill(batch_of(host), lambda free: [guest][:free])
    prompt_pages = [(PROMPT_ROW, 0, False), (PROMPT_ROW, 1, False), (PROMPT_ROW, 2, True)]
    assert made.forward.passes == [[*prompt_pages, (DUE_ROW, 0, True)]]
    assert tokens == [100 * PROMPT_ROW + 2]  # of the prompt's last real row
    assert read == [(2 * T, 3)]
    assert verified.req is guest
    assert torch.equal(verified.rows, logits_of(DUE_ROW)[5:])


def test_pages_of_one_prompt_share_passes_in_order():
    made = lane(2)
    made.prefill(batch_of(prompt(3 * T)), lambda free: ())
    assert [[page for _, page, _ in slots] for slots in made.forward.passes] == [[0, 1], [2]]


DECODE = SimpleNamespace(input_ids=[0, 0, 0])
OLD = PageJob(decoding(row=9), 4, tuple(range(T)))


def with_audit(made: CanonicalLane, picks: PageJob | None, equal: bool = True) -> None:
    """The audit picks this page, and finds it as it was or not."""

    def compare(job, rows) -> bool:
        assert job is picks and torch.equal(rows, logits_of(9))
        made.audit.failed = not equal
        return equal

    made.audit = SimpleNamespace(failed=False, pick=lambda reqs, n: picks, compare=compare)


@pytest.mark.parametrize(
    ("seats", "audited", "riding"), [(1, None, 1), (1, OLD, 0), (2, OLD, 1), (3, OLD, 2)]
)
def test_a_decode_step_carries_due_pages_and_an_audit_takes_the_last_seat(seats, audited, riding):
    made, guests = lane(4, seats=seats), [due(), due()]
    with_audit(made, audited)
    verified, output = made.carry(guests[:seats], DECODE)
    old = [(9, 4, True)] if audited else []
    assert made.forward.passes == [[*[(DUE_ROW, 0, True)] * riding, *old]]
    assert [one.req for one in verified] == guests[:riding]
    assert all(torch.equal(one.rows, logits_of(DUE_ROW)[5:]) for one in verified)
    assert output == "output"


def test_nothing_comes_of_what_rode_beside_a_failed_audit_but_the_step_itself():
    made = lane(4, seats=2)
    with_audit(made, OLD, equal=False)
    assert made.carry([due()], DECODE) == ([], "output")

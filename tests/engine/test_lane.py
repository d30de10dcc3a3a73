"""Pages of prompts and due pages in one pass, on a forward that is made up. No server."""

import pytest
import torch

from llm42_sglang.engine.passes.shape import Shape, fitting
from tests.engine.fakes import T, batch_of, decoding, lane, logits_of, prompt

PROMPT_ROW, DUE_ROW = 1, 2


def due():
    """A request whose page is full; 5 of its rows are canonical."""
    return decoding(row=DUE_ROW, prompt=range(5), candidates=T - 6)


@pytest.mark.parametrize(
    ("pages", "widths", "spare"),
    [(1, (4,), 3), (3, (4,), 1), (4, (4,), 0), (5, (4,), 3), (3, (1, 2, 4), 1), (2, (1, 2, 4), 0)],
)
def test_free_slots_are_what_the_last_pass_would_run_empty(pages, widths, spare):
    assert Shape(widths).free_slots(pages) == spare


def test_a_due_page_rides_behind_the_prompt_and_gets_its_own_rows():
    made, host, guest, read = lane(4), prompt(2 * T + 3, PROMPT_ROW), due(), []
    host.read_prompt = lambda rows, start: read.append((start, len(rows)))
    host.prefilled = lambda upto, last_row: int(last_row)
    batch = batch_of(host)
    tokens, (verified,) = made.prefill(batch, made.prompt_pages(batch), [guest])
    prompt_pages = [(PROMPT_ROW, 0, False), (PROMPT_ROW, 1, False), (PROMPT_ROW, 2, True)]
    assert made.forward.passes == [[*prompt_pages, (DUE_ROW, 0, True)]]
    assert tokens == [100 * PROMPT_ROW + 2]  # of the prompt's last real row
    assert read == [(2 * T, 3)]
    assert verified.req is guest
    assert torch.equal(verified.rows, logits_of(DUE_ROW)[5:])


def test_pages_of_one_prompt_share_passes_in_order():
    made = lane(2)
    batch = batch_of(prompt(3 * T))
    made.prefill(batch, made.prompt_pages(batch), [])
    assert [[page for _, page, _ in slots] for slots in made.forward.passes] == [[0, 1], [2]]


@pytest.mark.parametrize(
    ("group", "requests", "slots"),
    [(16, 4096, 16), (16, 16, 16), (16, 15, 8), (16, 3, 2), (16, 2, 1), (16, 1, 1), (1, 99, 1)],
)
def test_a_pass_has_at_most_as_many_slots_as_the_server_runs_requests(group, requests, slots):
    """SGLang's buffers hold no larger batch: such a pass ends in an exception."""
    assert fitting(group, requests) == slots

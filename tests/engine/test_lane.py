"""Pages of prompts and due pages in one pass, on a forward that is made up. No server."""

from types import SimpleNamespace

import pytest
import torch

from llm42_sglang.core.config import Config
from llm42_sglang.core.track import Track
from llm42_sglang.engine.canonical import CanonicalForward
from llm42_sglang.engine.lane import CanonicalLane
from llm42_sglang.engine.metrics import LaneMetrics
from llm42_sglang.engine.ranks import Ranks

T = 16
PROMPT_ROW, DUE_ROW = 1, 2


class Forward:
    """Logits say whose row they are; every pass is kept."""

    width_for = CanonicalForward.width_for

    def __init__(self, widths: tuple[int, ...]):
        self.widths, self.ranks, self.passes = widths, Ranks(), []

    def __call__(self, slots) -> list[torch.Tensor | None]:
        self.passes.append([(slot.row, slot.page, slot.scored) for slot in slots])
        return [logits_of(slot.row) if slot.scored else None for slot in slots]


def logits_of(row: int) -> torch.Tensor:
    """[T, 1]: the request's row, and which of its page's positions it is."""
    return 100 * row + torch.arange(float(T)).unsqueeze(1)


def lane(*widths: int) -> CanonicalLane:
    metrics = LaneMetrics({}, enabled=False)
    return CanonicalLane(Forward(widths), Config(page=T, group=widths[-1]), metrics)


class Prompt(SimpleNamespace):
    """A request whose prompt has so many tokens; only its end is read."""

    def __init__(self, tokens: int):
        ids = list(range(tokens))
        kv = SimpleNamespace(req_pool_idx=PROMPT_ROW)
        super().__init__(prefix_len=0, extend_end=tokens, full_untruncated_fill_ids=ids, kv=kv)

    def begin_prefill(self) -> None:
        self.read = []

    def reads_page(self, page: int, tokens: int) -> bool:
        return page * T + tokens == self.extend_end

    def read_prompt(self, rows: torch.Tensor, start: int) -> None:
        self.read.append((start, len(rows)))

    def prefilled(self, upto: int, last_row: torch.Tensor) -> int:
        assert upto == self.extend_end
        return int(last_row)


def due(tokens: int = T) -> SimpleNamespace:
    """A request whose page is full; 5 of its rows are canonical, one more token is committed."""
    candidates = tuple(range(6, tokens))
    track = Track(T, 6, canonical_len=5, candidates=candidates, decoding=True)
    kv = SimpleNamespace(req_pool_idx=DUE_ROW)
    return SimpleNamespace(track=track, kv=kv, known_tokens=list(range(tokens)))


@pytest.mark.parametrize(
    ("pages", "widths", "spare"),
    [(1, (4,), 3), (3, (4,), 1), (4, (4,), 0), (5, (4,), 3), (3, (1, 2, 4), 1), (2, (1, 2, 4), 0)],
)
def test_due_pages_are_offered_what_the_last_pass_would_run_empty(pages, widths, spare):
    offered = []
    lane(*widths).prefill(
        SimpleNamespace(reqs=[Prompt(pages * T)]), lambda n: offered.append(n) or ()
    )
    assert offered == [spare]


def test_a_due_page_rides_behind_the_prompt_and_gets_its_own_rows():
    made, prompt, guest = lane(4), Prompt(2 * T + 3), due()
    tokens, (verified,) = made.prefill(SimpleNamespace(reqs=[prompt]), lambda free: [guest][:free])
    prompt_pages = [(PROMPT_ROW, 0, False), (PROMPT_ROW, 1, False), (PROMPT_ROW, 2, True)]
    assert made.forward.passes == [[*prompt_pages, (DUE_ROW, 0, True)]]
    assert tokens == [100 * PROMPT_ROW + 2]  # of the prompt's last real row
    assert prompt.read == [(2 * T, 3)]
    assert verified.req is guest
    assert torch.equal(verified.rows, logits_of(DUE_ROW)[5:])


def test_pages_of_one_prompt_share_passes_in_order():
    made = lane(2)
    made.prefill(SimpleNamespace(reqs=[Prompt(3 * T)]), lambda free: ())
    assert [[page for _, page, _ in slots] for slots in made.forward.passes] == [[0, 1], [2]]

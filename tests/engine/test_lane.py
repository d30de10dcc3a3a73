"""Pages of prompts and due pages in one pass, on a forward that is made up. No server."""

from types import SimpleNamespace

import pytest
import torch

from llm42_sglang.core.config import Config
from llm42_sglang.core.packing import PageJob
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
        self.widths, self.ranks, self.passes, self.seats = widths, Ranks(), [], 1

    def seats_beside(self, rows: int) -> int:
        return self.seats

    def carry(self, slots, decode) -> tuple[list[torch.Tensor | None], str]:
        return self(slots), "output"

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


DECODE = SimpleNamespace(input_ids=[0, 0, 0])
OLD = PageJob(SimpleNamespace(kv=SimpleNamespace(req_pool_idx=9)), 4, tuple(range(T)))


def with_audit(made: CanonicalLane, picks: PageJob | None, equal: bool = True) -> list[int]:
    """The audit picks this page, and finds it as it was or not; returns the seats it is told."""
    seats: list[int] = []
    made.audit = SimpleNamespace(failed=False, pick=lambda reqs, n: seats.append(n) or picks)

    def compare(job, rows) -> bool:
        assert job is picks and torch.equal(rows, logits_of(9))
        made.audit.failed = not equal
        return equal

    made.audit.compare = compare
    return seats


def test_a_decode_step_carries_due_pages_and_gives_its_own_output():
    made, guest = lane(4), due()
    seats = with_audit(made, None)
    (verified,), output = made.carry([guest], DECODE)
    assert made.forward.passes == [[(DUE_ROW, 0, True)]]
    assert verified.req is guest and torch.equal(verified.rows, logits_of(DUE_ROW)[5:])
    assert (output, seats) == ("output", [1])


@pytest.mark.parametrize(("seats", "riding"), [(1, 0), (2, 1), (3, 2)])
def test_an_audit_takes_a_seat_and_the_last_riders_if_none_is_free(seats, riding):
    made, guests = lane(4), [due(), due()]
    made.forward.seats = seats
    with_audit(made, OLD)
    verified, output = made.carry(guests[:seats], DECODE)
    assert made.forward.passes == [[*[(DUE_ROW, 0, True)] * riding, (9, 4, True)]]
    assert [one.req for one in verified] == guests[:riding]
    assert output == "output"


def test_nothing_comes_of_what_rode_beside_a_failed_audit_but_the_step_itself():
    made = lane(4)
    made.forward.seats = 2
    with_audit(made, OLD, equal=False)
    assert made.carry([due()], DECODE) == ([], "output")

"""FlashInfer's own planner: with `disable_split_kv` nothing of a slot's plan is its neighbours'.

The plan's arguments are those that `test_flashinfer.py` sees SGLang give in the canonical mode.
"""

import math
from itertools import count

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from llm42_sglang.core.config import GROUPS, PAGE_SIZES
from tests.engine.backends.flashinfer_planner import NoCompilerError, Shape, Work, library, plan

EXAMPLES = 400
CANONICAL = {"disable_split_kv": True}
DEFAULT: dict = {}  # chunks by a search over all slots
FIXED = {"fixed_split": 2048}  # tokens; what SGLang's deterministic mode does, by default with 4096
# Multiprocessors of T4, L4, A10, A100, H100 PCIe, H100 SXM and H200, B200, RTX PRO 6000.
SMS = (40, 58, 72, 108, 114, 132, 148, 188)

shapes = st.builds(
    Shape,
    page=st.sampled_from(PAGE_SIZES),
    kv_heads=st.sampled_from((1, 2, 3, 4, 8, 16)),
    heads_per_kv=st.sampled_from((1, 2, 3, 4, 5, 7, 8)),
    head_dim=st.sampled_from((64, 128, 256)),
    sms=st.sampled_from(SMS),
)
PAGES = st.integers(1, 256)  # of a slot's context, its own page included


@pytest.fixture(autouse=True)
def compiled():
    try:
        library()
    except NoCompilerError as error:
        pytest.skip(str(error))


@st.composite
def passes(draw) -> tuple[Shape, Shape, list[int], list[list[int]]]:
    """A pass, and another for each of its slots: the same slot elsewhere, beside others, on a
    device of another size. Lengths are in tokens."""
    shape = draw(shapes)
    group = draw(st.sampled_from(GROUPS))
    lengths = draw(st.lists(PAGES, min_size=group, max_size=group))
    others = draw(st.lists(PAGES, max_size=max(GROUPS) - 1))
    place = draw(st.integers(0, len(others)))
    elsewhere = [[*others[:place], own, *others[place:]] for own in lengths]
    tokens = [[pages * shape.page for pages in each] for each in (lengths, *elsewhere)]
    return shape, shape._replace(sms=draw(st.sampled_from(SMS))), place, tokens


def unsplit(shape: Shape, tile: int) -> Work:
    """One item a tile of queries: the whole context, and no merge."""
    tiles = math.ceil(shape.page * shape.heads_per_kv / tile)
    return Work(False, tile, 0, tuple((i, 0) for i in range(tiles)))


def compare(mode: dict, phases=tuple(Phase)) -> tuple[int, int]:
    """Plans made, and slots whose plan was the same elsewhere. Raises where one was not."""
    plans, slots = count(), count()

    @seed(42)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=phases)
    @given(passes())
    def every_slot_keeps_its_plan(example):
        shape, other_shape, place, (lengths, *elsewhere) = example
        works = plan(shape, lengths, **mode)
        next(plans)
        for work, beside in zip(works, elsewhere, strict=True):
            assert work == plan(other_shape, beside, **mode)[place], "a neighbour shows"
            assert mode is not CANONICAL or work == unsplit(shape, work.tile)
            next(plans), next(slots)

    every_slot_keeps_its_plan()
    return next(plans), next(slots)


def test_a_slots_plan_is_its_own(record_property):
    plans, slots = compare(CANONICAL)
    record_property("plans", plans)
    print(f"{plans} plans made by FlashInfer, {slots} slots compared")
    assert slots > 5 * EXAMPLES


@pytest.mark.parametrize("mode", [DEFAULT, FIXED], ids=["default", "fixed split"])
def test_negative_control_other_modes_fail_the_same_comparison(mode):
    with pytest.raises(AssertionError, match="a neighbour shows"):
        compare(mode, phases=(Phase.generate,))


def test_negative_control_one_long_neighbour():
    """G = 8, T = 32, 32 heads over 8, an H100: one slot of 200 pages beside short ones."""
    shape = Shape(page=32, kv_heads=8, heads_per_kv=4, head_dim=128, sms=132)
    short = [32 * pages for pages in range(1, 8)]
    long = 32 * 200
    items = {}
    for name, mode in {"canonical": CANONICAL, "default": DEFAULT, "fixed": FIXED}.items():
        beside = plan(shape, [long, *short], **mode)
        alone = plan(shape, short, **mode)
        items[name] = sum(len(work.items) for work in beside)
        assert (beside[1:] == alone) == (mode is CANONICAL)
        assert {work.split_kv for work in beside} == {mode is not CANONICAL}
    assert items == {"canonical": 8, "default": 33, "fixed": 11}
    farther = plan(shape, [2 * long, *short])[1]
    assert plan(shape, [long, *short])[1].chunk < farther.chunk  # the longest neighbour shows

"""Tuning chooses among what certification has room for. No server."""

from types import SimpleNamespace

import pytest

from llm42_sglang.core.config import Config
from llm42_sglang.engine import tune
from llm42_sglang.engine.exam import OWN, has_room
from llm42_sglang.engine.ranks import Ranks


def forward(rows: int, pages: int) -> SimpleNamespace:
    config = Config(page=16)
    return SimpleNamespace(
        config=config,
        ranks=Ranks(),
        runner=SimpleNamespace(
            req_to_token_pool=SimpleNamespace(size=rows),
            token_to_kv_pool_allocator=SimpleNamespace(size=pages * config.page),
        ),
    )


@pytest.mark.parametrize(
    ("rows", "pages", "most"),
    [(100, 1000, 16), (8, 1000, 4), (9, 1000, 8), (100, 9 * OWN, 8), (100, 9 * OWN - 1, 4)],
)
def test_a_shape_without_room_is_not_chosen(monkeypatch, rows, pages, most):
    """The wider, the better, it is pretended: without the rule the choice were 16 every time."""
    monkeypatch.setattr(tune, "measure", lambda forward, groups: {})
    monkeypatch.setattr(tune, "_tokens_per_second", lambda config, *_: config.group)
    given = forward(rows, pages)
    assert tune.tune(given).group == most
    assert has_room(given, most)

"""How the fingerprint names the weights. No server."""

from types import SimpleNamespace

import pytest
import torch

from llm42_sglang.core import receipts
from llm42_sglang.engine.weights import identity, naming
from llm42_sglang.engine.weights.digest import WeightsDigest
from llm42_sglang.engine.weights.naming import ByContent, ByVersion


@pytest.fixture
def serving(monkeypatch) -> SimpleNamespace:
    """SGLang's configuration of this process."""
    serving = SimpleNamespace(weight_version="v1")
    for module in (naming, identity):
        monkeypatch.setattr(module, "get_serving", lambda: serving)
    return serving


@pytest.fixture
def runner() -> SimpleNamespace:
    return SimpleNamespace(model=torch.nn.Linear(2, 2))


def ranks(*others: str) -> SimpleNamespace:
    return SimpleNamespace(gather=lambda mine: [mine, *others])


def test_the_weights_of_every_rank_count(runner):
    names = {ByContent(runner, ranks(*others)).name for others in ((), ("a",), ("b",))}
    assert len(names) == 3 and WeightsDigest(runner.model).value in names


def test_by_content_a_written_tensor_counts_and_its_version_does_not(runner, serving):
    named = ByContent(runner, ranks())
    mine = identity.Identity({"page": 16}, named)
    first = mine.fingerprint
    serving.weight_version = "v2"
    assert not mine.follow() and mine.facts["weight_version"] == "v2"
    with named.watching():
        runner.model.weight.data[0, 0] += 1
    assert mine.follow() and mine.fingerprint != first
    assert mine.fingerprint == receipts.fingerprint(mine.facts)
    with named.watching():
        runner.model.weight.data[0, 0] -= 1
    assert mine.follow() and mine.fingerprint == first


def test_by_version_nothing_is_hashed(runner, serving, monkeypatch):
    monkeypatch.setattr(naming, "WeightsDigest", lambda model: pytest.fail("hashed"))
    mine = identity.Identity({}, ByVersion())
    assert mine.facts["weights"] == "version:v1"
    serving.weight_version = "v2"
    assert mine.follow() and mine.facts["weights"] == "version:v2"
    with pytest.raises(pytest.fail.Exception, match="hashed"):
        ByContent(runner, ranks())


def test_by_version_an_update_must_name_another_version(runner, serving):
    named = ByVersion()
    assert "other than 'v1'" in named.refusal(None, whole=True)
    assert named.refusal("v1", whole=True) and named.refusal("v1", whole=False)
    assert named.refusal("", whole=True) is None  # a session begins
    assert named.refusal("v2", whole=False) is None
    serving.weight_version = "v2"
    assert named.refusal("v2", whole=False) is None, "the next load of the session"
    assert named.refusal("v2", whole=True)
    assert named.refusal("", whole=True) is None
    assert named.refusal("v2", whole=False), "the next session"
    assert ByContent(runner, ranks()).refusal(None, whole=True) is None, "content needs no name"

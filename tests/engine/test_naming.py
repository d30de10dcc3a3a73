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
    first, weight = mine.fingerprint, runner.model.weight.data.clone()
    serving.weight_version = "v2"
    assert not mine.follow() and mine.facts["weight_version"] == "v2"
    with named.watching():
        runner.model.weight.data[0, 0] += 1
    assert mine.follow() and mine.fingerprint == receipts.fingerprint(mine.facts) != first
    with named.watching():
        runner.model.weight.data.copy_(weight)
    assert mine.follow() and mine.fingerprint == first


def test_by_version_nothing_is_hashed(runner, serving, monkeypatch):
    monkeypatch.setattr(naming, "WeightsDigest", lambda model: pytest.fail("hashed"))
    mine = identity.Identity({}, ByVersion(runner, ranks()))
    assert mine.facts["weights"] == "version:v1"
    serving.weight_version = "v2"
    assert mine.follow() and mine.facts["weights"] == "version:v2"
    with pytest.raises(pytest.fail.Exception, match="hashed"):
        ByContent(runner, ranks())


def test_by_version_a_write_is_noticed_though_the_name_stays(runner, serving):
    named = ByVersion(runner, ranks())
    with named.watching():
        torch.zeros(3).add_(1)
    assert not named.refresh(everything=False), "no weight was written"
    with named.watching():
        runner.model.weight.data[0, 0] += 1
    assert named.refresh(everything=False)
    with named.watching():
        pass
    assert ByVersion(runner, ranks(True)).refresh(everything=False), "another rank's counts"


def test_by_version_the_middle_of_a_session_has_names_of_its_own(runner, serving):
    named = ByVersion(runner, ranks())
    names = [named.name]
    named.session(is_open=True)
    serving.weight_version = "v2"
    for _ in range(2):
        names.append(named.name)
        with named.watching():
            runner.model.weight.data[0, 0] += 1
        named.refresh(everything=False)
    names.append(named.name)
    named.session(is_open=False)
    names.append(named.name)
    assert len({*names}) == 5 and names[-1] == "version:v2"


def test_by_version_an_update_must_name_another_version(runner, serving):
    named = ByVersion(runner, ranks())
    for version in (None, "", "v1"):
        assert "other than 'v1'" in named.refusal(version, mended=False)
    assert named.refusal("v1", mended=True) is None, "the old weights, after a failure"
    assert named.refusal("", mended=True)
    named.session(is_open=True)
    assert named.refusal("v2", mended=False) is None
    serving.weight_version = "v2"
    assert named.refusal("v2", mended=False) is None, "the next load of the session"
    named.session(is_open=False)
    assert named.refusal("v2", mended=False), "an update by itself"
    named.session(is_open=True)
    assert named.refusal("v2", mended=False), "the next session"
    assert ByContent(runner, ranks()).refusal(None, False) is None, "content needs no name"

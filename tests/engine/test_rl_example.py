"""Two steps of examples/rl, with a tiny model: deterministic rollouts train the same weights."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytestmark = pytest.mark.server("other weights")

FILE = Path(__file__).parents[2] / "examples" / "rl" / "train.py"
STEPS = 2
LOAD = 4  # requests of others, at a time


@pytest.fixture
def example() -> Iterator[ModuleType]:
    """The example as a module. Torch's switches that it sets are as before afterwards."""
    spec = importlib.util.spec_from_file_location("rl_example", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads, sharing = torch.get_num_threads(), torch.multiprocessing.get_sharing_strategy()
    try:
        yield module
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
        torch.multiprocessing.set_sharing_strategy(sharing)


@pytest.fixture
def train(example, url, weights):
    """Train under a load; the digest of the final weights."""

    def run(load: int, deterministic: bool = True) -> str:
        with example.load(url, load):
            server = example.Server(url, deterministic)
            return example.train(server, str(weights.plain), STEPS)

    return run


def test_the_final_weights_do_not_depend_on_the_load(train):
    assert train(load=0) == train(load=LOAD)


def test_negative_control_ordinary_rollouts_train_other_weights(train):
    assert train(LOAD, deterministic=False) != train(LOAD, deterministic=False)


def test_the_answers_of_a_group_differ(example, url):
    """Else a group would have no advantage, and nothing would be learnt."""
    ((ids, logprobs),) = example.Server(url).rollouts([[1, 2, 3]], first_seed=0)
    assert ids.shape == logprobs.shape == (example.GROUP, example.NEW_TOKENS)
    assert len({tuple(answer) for answer in ids.tolist()}) == example.GROUP

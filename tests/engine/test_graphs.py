"""Passes from CUDA graphs: through SGLang's own graph runner, with the graph itself emulated.

Checked by hand: graphs of any size, graphs that hold attention, graphs nobody compared with the
eager pass, and old KV left in the pages that are compared each fail a test here.
"""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from llm42_sglang.engine import graphs
from tests.engine import tiny_models

WIDTHS = [1, 2, 4]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> dict[str, dict]:
    """By fault, of a process of its own: SGLang's state is one per process."""
    model = tiny_models.make("qwen3", tmp_path_factory.mktemp("models"))
    command = [sys.executable, "-m", "tests.engine.emulated_graphs", str(model)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("fault", "replayed"),
    [
        ("none", WIDTHS),
        ("other-bits", []),
        ("raises", []),
        ("other-sizes", []),
        ("attention", []),
        ("no-kv", []),
    ],
)
def test_passes_come_from_graphs_that_give_the_eager_bits(certificates, fault, replayed):
    certificate = certificates[fault]
    assert certificate["widths"] == WIDTHS  # whatever the graphs do, the server starts
    assert certificate["replayed"] == replayed


@pytest.mark.parametrize("how", [graphs.eager, graphs.replayed])
def test_ordinary_prefills_keep_their_graphs(how):
    runner = SimpleNamespace(prefill_cuda_graph_runner="graphs", graph_shared_output="logits")
    with pytest.raises(RuntimeError), how(runner):
        assert (runner.prefill_cuda_graph_runner is None) == (how is graphs.eager)
        assert (runner.graph_shared_output is None) == (how is graphs.replayed)
        raise RuntimeError("out of memory")
    assert vars(runner) == {"prefill_cuda_graph_runner": "graphs", "graph_shared_output": "logits"}

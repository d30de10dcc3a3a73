"""What certification refuses and leaves out. On real servers: `test_start_refused.py`.

Passes from CUDA graphs go through SGLang's own graph runner, with the graph itself emulated.
Checked by hand: graphs of any size, graphs that hold attention, graphs nobody compared with the
eager pass, and old KV left in the pages that are compared each fail a test here.
"""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from llm42_sglang.engine.passes import graphs
from tests.engine import tiny_models
from tests.engine.certify_tiny import GRAPHS
from tests.engine.servers import ENV

WIDTHS = [1, 2, 4]
TOGETHER = ("together", "later", "first")


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, dict]:
    """By fault, by a process of its own: SGLang's state is one per process."""
    model = tiny_models.make("qwen3", tmp_path_factory.mktemp("models"))
    command = [sys.executable, "-m", "tests.engine.certify_tiny", str(model)]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENV)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("a1", "assumption A1 (same inputs, run again)"),
        ("a1-kv", "assumption A1 (same inputs, run again)"),
        ("a2", "assumption A2 (other slots, beside other requests)"),
        ("a3", "assumption A3 (other rows after it)"),
        ("place", "assumption A2 (other request row and KV pages)"),
        *((fault, "assumption A2 (several pages in one pass)") for fault in TOGETHER),
        ("head", "assumption A2 (language-model head over one slot)"),
    ],
)
def test_each_false_assumption_is_refused_by_name(said, fault, why):
    refused = said["passes"][fault]["refused"]
    assert why in refused
    assert ("the KV of page" in refused) == (fault == "a1-kv")


@pytest.mark.parametrize(
    ("fault", "widths"),
    [
        ("none", WIDTHS),
        ("width", WIDTHS[-1:]),
    ],
)
def test_narrower_passes_of_other_bits_are_left_out(said, fault, widths):
    assert said["passes"][fault]["widths"] == widths


def test_a_small_server_is_certified_with_one_neighbour(said):
    rooms = said["rooms"]
    assert rooms["12 pages, width"]["widths"] == WIDTHS[-1:]
    assert "A2 (other slots, beside other requests)" in rooms["12 pages, a2"]["refused"]
    assert (
        "needs 12 KV pages and 3 request rows, the server has 11 and 3"
        in (rooms["11 pages, a2"]["refused"])
    )


def test_sizes_of_decode_steps_with_other_bits_are_left_out(said):
    """On a real model, with the kernels of our CPU platform; more faults in `test_step_exam.py`."""
    sizes = said["passes"]["none"]["step_sizes"]
    assert {*range(2, 9)} <= {*sizes}, "two rows or more share a kernel with canonical passes"
    assert said["passes"]["step"]["step_sizes"] == [size for size in sizes if size % 2 == 0]
    assert said["passes"]["step"]["widths"] == WIDTHS


def test_with_tiles_all_passes_have_the_bits_of_decode_steps(said):
    """AMX has another kernel for more than 32 rows: `platform/tiles.py`. Both are emulated."""
    certificate = said["tiles"]["few rows at a time"]
    assert certificate["widths"] == WIDTHS
    assert certificate["step_sizes"] == [*range(1, 9)]


def test_negative_control_with_tiles_a_wide_pass_has_the_bits_of_no_decode_step(said):
    certificate = said["tiles"]["all rows at once"]
    assert certificate["widths"] == WIDTHS[-1:]
    assert certificate["step_sizes"] == []


@pytest.mark.parametrize("fault", GRAPHS)
def test_passes_come_from_graphs_that_give_the_eager_bits(said, fault):
    certificate = said["graphs"][fault]
    assert certificate["widths"] == WIDTHS  # whatever the graphs do, the server starts
    assert certificate["replayed"] == (WIDTHS if fault == "none" else [])


def test_costs_are_measured_of_passes_and_steps_that_there_is_room_for(said):
    costs = said["costs"]
    assert [list(costs[kind]) for kind in ("pass", "decode")] == [["1", "4"], ["1"]]
    assert all(s > 0 for kind in costs.values() for by in kind.values() for s in by.values())


@pytest.mark.parametrize("how", [graphs.eager, graphs.replayed])
def test_ordinary_prefills_keep_their_graphs(how):
    runner = SimpleNamespace(prefill_cuda_graph_runner="graphs", graph_shared_output="logits")
    with pytest.raises(RuntimeError), how(runner):
        assert (runner.prefill_cuda_graph_runner is None) == (how is graphs.eager)
        assert (runner.graph_shared_output is None) == (how is graphs.replayed)
        raise RuntimeError("out of memory")
    assert vars(runner) == {"prefill_cuda_graph_runner": "graphs", "graph_shared_output": "logits"}

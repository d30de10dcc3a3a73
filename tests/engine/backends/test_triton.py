"""Triton: the extend kernel as it is divides its work per slot; the decode kernel does not.

`triton_probe` runs both in Triton's interpreter, in a process of its own: the interpreter is chosen
when Triton is imported. Checked by hand: with a `BLOCK_N` that follows the number of requests (32
for one, 16 for more) "other slot and neighbours" and "other pages" are false.
"""

import ast
import json
import os
import subprocess
import sys

import pytest

from llm42_sglang.cli.upstream.sources import installed
from llm42_sglang.engine.backends import BACKENDS
from llm42_sglang.engine.backends.mode import unchanged


@pytest.fixture(scope="module")
def same_bits() -> dict[str, bool]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.backends.triton_probe"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "varied", ["run again", "other slot and neighbours", "other pages", "other rows after it"]
)
def test_a_slot_of_an_extend_has_the_same_bits(same_bits, varied):
    assert same_bits[varied]


def test_the_comparison_sees_a_row_that_changed(same_bits):
    assert not same_bits["other rows after it show"]


def test_negative_control_a_decode_row_depends_on_its_company(same_bits):
    """SGLang splits its context by the longest one and the size of the batch."""
    assert not same_bits["decode, in company"]


def test_nothing_needs_to_be_switched_because_extend_knows_no_splits():
    assert BACKENDS["triton"].mode_of is unchanged
    source = installed()("sglang/kernels/ops/attention/extend_attention.py")
    named = {getattr(node, "name", ""): node for node in ast.parse(source).body}
    launch = named["extend_attention_fwd"]
    grid = [node for node in ast.walk(launch) if isinstance(node, ast.Assign)]
    grids = {ast.unparse(node.value) for node in grid if ast.unparse(node.targets[0]) == "grid"}
    tiles = "(batch_size, head_num, triton.cdiv(max_len_extend, BLOCK_M))"
    assert grids == {tiles, "(compact_q_tiles, head_num)"}  # the second one on AMD
    assert "split" not in ast.unparse(launch.args)

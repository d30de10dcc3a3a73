"""Triton: the extend kernel as it is divides its work per slot; the decode kernel does not.

`triton_probe` runs both in Triton's interpreter, in a process of its own: the interpreter is chosen
when Triton is imported. Checked by hand: with a `BLOCK_N` that follows the number of requests (32
for one, 16 for more) "other slot and neighbours" and "other pages" are false.
"""

import json
import os
import subprocess
import sys

import pytest


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

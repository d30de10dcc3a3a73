"""SGLang's own determinism test, which sends no per-request flag: `--llm42-default` is for it."""

import json
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.server("tiny")


# Batch n of a run holds n requests. SGLang's full sizes, 12 and 8 trials of 100 tokens, take ten
# times as long; batches of 4 and 5 from four prompts always hold some prompt more than once.
TOKENS = ["--max-new-tokens", "40"]  # a page's end or two
RUNS = {
    "single": ["--n-trials", "2", *TOKENS],
    "prefix": ["--n-start", "4", "--n-trials", "2", "--return-logprob", *TOKENS],
    "p_vs_d": ["--n-trials", "2", "--max-new-tokens", "40"],
    "radix_cache": [],
}
# All in one process, for SGLang takes long to import. The test draws token ids up to 50000; the
# model has 49152.
MAIN = """
import contextlib, io, json, random, runpy, sys
draw = random.randint
random.randint = lambda low, high: draw(low, min(high, 49000))
said = {}
for mode, flags in json.loads(sys.argv[1]).items():
    sys.argv[1:] = ["--test-mode", mode, *flags]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_module("sglang.test.test_deterministic", run_name="__main__")
    said[mode] = out.getvalue()
print(json.dumps(said))
"""
SUMMARY = re.compile(r"[Tt]otal samples: (\d+), Unique samples: (\d+)")


@pytest.fixture(scope="module")
def said(recorded, servers) -> dict[str, str]:
    """What SGLang's own determinism test prints, by its mode."""
    where = ["--host", "127.0.0.1", "--port", str(urlsplit(servers.url("tiny")).port)]
    runs = json.dumps({mode: [*flags, *where] for mode, flags in RUNS.items()})
    command = [sys.executable, "-c", MAIN, runs]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("mode", ["single", "prefix"])
def test_sglangs_own_test_finds_one_answer_per_prompt(said, mode):
    """It sends no per-request flag."""
    require_no_complaint(said[mode])
    counts = [(int(total), int(unique)) for total, unique in SUMMARY.findall(said[mode])]
    assert max(total for total, _ in counts) > 1, said[mode]
    assert all(unique == min(total, 1) for total, unique in counts), said[mode]


@pytest.mark.parametrize(
    ("mode", "success"), [("p_vs_d", "Logprobs match"), ("radix_cache", "TEST PASSED")]
)
def test_sglangs_own_test_finds_equal_logprobs(said, mode, success):
    """Generated and scored, cached and not."""
    require_no_complaint(said[mode])
    assert success in said[mode]


def require_no_complaint(output: str) -> None:
    assert "✗" not in output and "❌" not in output, output

"""`--llm42-default`, which the base server has: requests that do not say are deterministic."""

import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.engine import client

pytestmark = pytest.mark.server


# SGLang's full run would be `--n-trials 12` and 8; trial n sends n requests at once, so these few
# take a tenth of the time.
@pytest.mark.parametrize(("mode", "trials"), [("single", 3), ("prefix", 1)])
def test_sglangs_own_determinism_test(url, mode, trials):
    """It sends no per-request flag."""
    command = [sys.executable, "-m", "sglang.test.test_deterministic", "--test-mode", mode]
    where = ["--host", "127.0.0.1", "--port", str(urlsplit(url).port)]
    result = subprocess.run(
        [*command, "--n-trials", str(trials), *where], capture_output=True, text=True, timeout=900
    )
    unique = [int(n) for n in re.findall(r"[Uu]nique samples: (\d+)", result.stdout)]
    assert result.returncode == 0, result.stdout + result.stderr
    assert unique and set(unique) == {1}, result.stdout


def test_a_request_that_does_not_say_is_deterministic(url, reference):
    answer = client.generate(url, client.prompts()[0], deterministic=None, max_new_tokens=40)
    assert answer.meta["llm42"]["verified"] is True
    assert answer.ids == reference[0].ids[:40]


def test_a_request_can_object(url):
    answer = client.generate(url, client.prompts()[0], deterministic=False, max_new_tokens=4)
    assert "llm42" not in answer.meta


def test_an_option_that_cannot_be_kept_is_refused_not_ignored(url):
    request = client.body(client.prompts()[0], deterministic=None, temperature=0.7)
    response = client.post(url, request)
    assert response.status_code == 400
    assert "temperature" in response.json()["error"]["message"]

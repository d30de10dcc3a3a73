"""Fake endpoints, a suite, and the commands as a user calls them."""

from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from llm42_sglang.cli.main import main
from tests.repro.fake_endpoint import FakeEndpoint

SUITE = """
sampling: {max_tokens: 12}
cases:
  - id: sea
    prompt: The sea is
  - id: greeting
    messages: [{role: user, content: "Say hello, please."}]
    tags: [chat]
  - id: sampled
    prompt: A poem about winter
    sampling: {temperature: 0.8, seed: 7}
"""


class Done(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def fake():
    """A function that starts a fake endpoint; all of them end with the test."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(FakeEndpoint(*options))


@pytest.fixture
def llm42(capsys):
    """Run a command in this process."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(list(map(str, arguments)))
        return Done(left.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def suite(tmp_path) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def golden(tmp_path, suite, fake, llm42) -> Path:
    """The suite as recorded on a server of ours."""
    path = tmp_path / "golden.json"
    done = llm42("record", suite, "--url", fake().url, "--out", path)
    assert done.status == 0, done.err
    return path

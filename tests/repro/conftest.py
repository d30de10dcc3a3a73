"""Fake endpoints, a suite, and the commands as a user calls them."""

import shutil
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
    input_ids: [65, 66, 67]
    sampling: {temperature: 0.8, seed: 7, top_logprobs: 2}
"""


class Command(NamedTuple):
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The line of the mistake. Asserts status 2, and nothing else on stderr but progress."""
        assert self.status == 2
        *progress, line = self.err.splitlines()
        assert line.startswith("llm42: error: ")
        assert all(text.startswith("llm42: ") for text in progress)
        return line


@pytest.fixture
def fake():
    """A function that starts a fake endpoint, which ends with the test."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(FakeEndpoint(*options))


def status_of(*arguments: object) -> int:
    """Run a command in this process and return its exit status."""
    with pytest.raises(SystemExit) as exit_info:
        main(list(map(str, arguments)))
    return exit_info.value.code


@pytest.fixture
def llm42(capsys):
    """A function that runs a command and returns what it printed."""

    def run(*arguments: object) -> Command:
        capsys.readouterr()
        return Command(status_of(*arguments), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def recording(tmp_path_factory) -> Path:
    """A folder with the suite, its recording on an llm42 server, and receipts."""
    folder = tmp_path_factory.mktemp("recording")
    suite, golden, receipts = (folder / name for name in ("suite.yaml", "golden.json", "receipts"))
    suite.write_text(SUITE)
    with FakeEndpoint() as server:
        files = ("--out", golden, "--receipts", receipts)
        assert status_of("record", suite, "--url", server.url, *files) == 0
    return folder


def of_recording(name: str):
    """A fixture with a copy of this file or folder of the recording."""

    @pytest.fixture
    def copy(tmp_path, recording) -> Path:
        return shutil.copytree(recording, tmp_path, dirs_exist_ok=True) / name

    return copy


suite, golden, receipts = map(of_recording, ("suite.yaml", "golden.json", "receipts"))

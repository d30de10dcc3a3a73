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


class Done(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line on stderr besides progress, no traceback, status 2."""
        assert self.status == 2
        *progress, line = self.err.splitlines()
        assert line.startswith("llm42: error: ")
        assert all(text.startswith("llm42: ") for text in progress)
        return line


@pytest.fixture
def fake():
    """A function that starts a fake endpoint; all of them end with the test."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(FakeEndpoint(*options))


def status_of(*arguments: object) -> int:
    """Of a command, run in this process."""
    with pytest.raises(SystemExit) as left:
        main(list(map(str, arguments)))
    return left.value.code


@pytest.fixture
def llm42(capsys):
    """Run a command, and see what it prints."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        return Done(status_of(*arguments), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def recording(tmp_path_factory) -> Path:
    """A folder with the suite, as recorded on a server of ours, and receipts of its cases."""
    folder = tmp_path_factory.mktemp("recording")
    suite, golden, receipts = (folder / name for name in ("suite.yaml", "golden.json", "receipts"))
    suite.write_text(SUITE)
    with FakeEndpoint() as server:
        asked = ("record", suite, "--url", server.url)
        assert status_of(*asked, "--out", golden, "--receipts", receipts) == 0
    return folder


def of_recording(name: str):
    """A fixture: this file or folder of the recording, for one test."""

    @pytest.fixture
    def copy(tmp_path, recording) -> Path:
        return shutil.copytree(recording, tmp_path, dirs_exist_ok=True) / name

    return copy


suite, golden, receipts = map(of_recording, ("suite.yaml", "golden.json", "receipts"))

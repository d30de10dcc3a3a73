"""Fake servers in place of real ones, and a model folder that has a tokenizer and nothing else."""

import sys
from pathlib import Path

import pytest

from llm42_sglang.cli import launch
from llm42_sglang.cli.bench import servers
from llm42_sglang.cli.launch import ServerProcess

FAKE = str(Path(__file__).parents[1] / "fake_server.py")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A function that makes a ServerProcess around the fake server."""
    monkeypatch.setattr(launch, "POLL_S", 0.05)

    def make(*options: str, name: str = "server") -> ServerProcess:
        argv = [sys.executable, FAKE, "{port}", *options]
        return ServerProcess(argv=argv, log_path=tmp_path / f"{name}.log")

    return make


@pytest.fixture
def fakes(fake, monkeypatch):
    """Options of the fake servers that commands start from here on, by name; filled by the test."""
    options: dict[str, list[str]] = {"stock": [], "serial": [], "ours": []}
    for name in options:
        monkeypatch.setattr(servers, name, lambda flags, name=name: fake(*options[name], name=name))
    return options


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """With a token per word; unknown words are token 0."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = ["[UNK]", "the", "a", "of", "to", "is", "and", "in", "be", "class", "def", "object"]
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    folder = tmp_path_factory.mktemp("model")
    made.save(str(folder / "tokenizer.json"))
    return folder

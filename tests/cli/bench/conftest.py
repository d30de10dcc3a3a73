"""Fake servers in place of real ones, and a model folder that has a tokenizer and nothing else."""

from pathlib import Path

import pytest

from llm42_sglang.cli.bench import servers


@pytest.fixture
def fakes(fake, monkeypatch):
    """Options of the fake servers that commands start from here on, by name; filled by the test."""
    options: dict[str, list[str]] = {"stock": [], "serial": [], "ours": []}
    for name in options:
        monkeypatch.setattr(servers, name, lambda flags, name=name: fake(*options[name], name=name))
    return options


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """It knows two words; all others are token 0."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    made = Tokenizer(WordLevel({"[UNK]": 0, "the": 1, "of": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    folder = tmp_path_factory.mktemp("model")
    made.save(str(folder / "tokenizer.json"))
    return folder

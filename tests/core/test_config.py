"""The settings are checked once, and child processes get them unchanged."""

import itertools
from typing import Any

import pytest

from llm42_sglang.core.config import GROUPS, PAGE_SIZES, Config, ConfigError


def test_defaults_are_the_documented_ones() -> None:
    config = Config()
    assert (config.page, config.group, config.default, config.wait) == (32, 8, False, 16)


def test_every_supported_value_survives_the_environment() -> None:
    for page, group, default in itertools.product(PAGE_SIZES, GROUPS, (False, True)):
        config = Config(page, group, default)
        assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("fields", "flag", "remedy"),
    [
        ({"page": 48}, "--llm42-page 48", "16, 32, 64"),
        ({"page": 0}, "--llm42-page 0", "16, 32, 64"),
        ({"group": 3}, "--llm42-group 3", "1, 2, 4, 8, 16, 32"),
        ({"group": -1}, "--llm42-group -1", "1, 2, 4, 8, 16, 32"),
        ({"wait": -1}, "--llm42-wait -1", "0 to 32"),
        ({"page": 16, "wait": 17}, "--llm42-wait 17", "0 to 16"),
        ({"weights_digest": "sha256"}, "--llm42-weights-digest sha256", "content, version"),
        ({"drafts": "on"}, "--llm42-drafts on", "off, ngram"),
    ],
)
def test_a_bad_value_is_named_with_its_remedy(
    fields: dict[str, Any], flag: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**fields)
    assert flag in str(error.value) and remedy in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "7", '"x"', '{"pages": 32}', '{"page": 48}', '{"page": "32"}']
)
def test_malformed_json_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        Config.from_json(text)

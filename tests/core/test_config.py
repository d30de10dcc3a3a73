"""The settings are checked once, and child processes get them unchanged."""

import itertools
from dataclasses import asdict
from typing import Any

import pytest

from llm42_sglang.core.config import GROUPS, PAGE_SIZES, Config, ConfigError


def test_defaults_are_the_documented_ones() -> None:
    assert asdict(Config()) == {
        **{"page": 32, "group": 16, "default": False, "wait": 16, "verify": "uncertified"},
        **{"audit": 32, "weights_digest": "content", "recheck": True, "max_n": 64},
        **{"signing_key": None, "drafts": "off"},
    }


def test_every_supported_value_survives_the_environment() -> None:
    assert (PAGE_SIZES, GROUPS) == ((16, 32, 64), (1, 2, 4, 8, 16, 32))
    for page, group, default in itertools.product(PAGE_SIZES, GROUPS, (False, True)):
        config = Config(page, group, default)
        assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "fields",
    [
        *({"wait": wait} for wait in (0, 32)),
        *({"audit": audit} for audit in (1, 1_000_000)),
        *({"max_n": most} for most in (1, 4096)),
        *({"verify": verify} for verify in ("uncertified", "always")),
        *({"weights_digest": digest} for digest in ("content", "version")),
        *({"drafts": drafts} for drafts in ("off", "ngram")),
        *({"signing_key": file} for file in (None, "key.pem")),
    ],
    ids=str,
)
def test_the_last_value_that_is_supported_is_supported(fields: dict[str, Any]) -> None:
    config = Config(**fields)
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
        ({"verify": "never"}, "--llm42-verify never", "uncertified, always"),
        ({"audit": 0}, "--llm42-audit 0", "1 to 1000000"),
        ({"audit": 1_000_001}, "--llm42-audit 1000001", "1 to 1000000"),
        ({"max_n": 0}, "--llm42-max-n 0", "1 to 4096"),
        ({"max_n": 4097}, "--llm42-max-n 4097", "1 to 4096"),
        ({"max_n": True}, "--llm42-max-n True", "1 to 4096"),  # True == 1
        ({"default": 1}, "--llm42-default", "on or off, not 1"),
        ({"recheck": "no"}, "--llm42-recheck", "on or off, not 'no'"),
        ({"signing_key": 7}, "--llm42-signing-key", "names a file, got 7"),
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

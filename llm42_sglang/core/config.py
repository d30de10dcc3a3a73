"""The `--llm42-*` settings. They are checked once, and all processes of a server get the same."""

import json
from dataclasses import asdict, dataclass

PAGE_SIZES = (16, 32, 64)
GROUPS = (1, 2, 4, 8, 16, 32)
VERIFY = ("uncertified", "always")
DIGESTS = ("content", "version")
DRAFTS = ("off", "ngram")


class ConfigError(ValueError):
    """A setting is wrong. The message is one line for the user and says what to choose."""


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of a server. The flag `--llm42-page` sets `page`, and so on.

    Raises ConfigError for a value that is not supported.
    """

    page: int = 32  # T, tokens; also SGLang's KV page size
    group: int = 16  # G, slots
    default: bool = False  # whether a request is deterministic that does not say
    # Decode steps that a full page may wait, so that several pages share one pass. The request
    # decodes on meanwhile, so this is also how many candidates it may have past the page's end.
    wait: int = 16
    # "always" verifies every token; "uncertified" commits the tokens of canonical steps without a
    # pass. Both give the same bits.
    verify: str = "uncertified"
    audit: int = 32  # the audit runs one of so many committed pages again
    # How weights are named in the fingerprint: by a digest of all tensors, or by SGLang's
    # weight_version, which is believed.
    weights_digest: str = "content"
    recheck: bool = True  # whether a small part of certification runs again after a weight update
    max_n: int = 64  # the largest `n` of any request; each sample is a request of its own
    signing_key: str | None = None  # the file with the key that signs receipts
    # "ngram": a request's own text proposes candidates, where verifying them saves time.
    drafts: str = "off"

    def __post_init__(self) -> None:
        _expect_one_of("--llm42-page", self.page, PAGE_SIZES)
        _expect_one_of("--llm42-group", self.group, GROUPS)
        _expect_between("--llm42-wait", self.wait, 0, self.page)
        _expect_between("--llm42-audit", self.audit, 1, 1_000_000)
        _expect_one_of("--llm42-verify", self.verify, VERIFY)
        _expect_one_of("--llm42-weights-digest", self.weights_digest, DIGESTS)
        _expect_between("--llm42-max-n", self.max_n, 1, 4096)
        _expect_one_of("--llm42-drafts", self.drafts, DRAFTS)
        if not isinstance(self.signing_key, str | None):
            raise ConfigError(f"--llm42-signing-key names a file, got {self.signing_key!r}")
        for flag, value in (("default", self.default), ("recheck", self.recheck)):
            if type(value) is not bool:
                raise ConfigError(f"--llm42-{flag} is on or off, not {value!r}")

    def to_json(self) -> str:
        """Return the settings as text, for the environment of child processes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Return the settings that `to_json` wrote. Raises ConfigError for any other text."""
        try:
            fields = json.loads(text)
            return cls(**fields)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"malformed llm42 configuration {text!r}: {error}") from None


def _expect_between(flag: str, value: int, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ConfigError(f"{flag} {value} is not supported; choose {least} to {most}")


def _expect_one_of(flag: str, value: object, allowed: tuple[object, ...]) -> None:
    if type(value) is not type(allowed[0]) or value not in allowed:
        choices = ", ".join(map(str, allowed))
        raise ConfigError(f"{flag} {value} is not supported; choose one of {choices}")

"""T and G, validated once; every process of a server reads the same values."""

import json
from dataclasses import asdict, dataclass

PAGE_SIZES = (16, 32, 64)
GROUPS = (1, 2, 4, 8, 16, 32)
VERIFY = ("uncertified", "always")


class ConfigError(ValueError):
    """A setting the user can mend; the message says how."""


@dataclass(frozen=True, slots=True)
class Config:
    """Shape of a canonical pass, and whether requests are deterministic by default."""

    page: int = 32  # T, tokens; also SGLang's KV page size
    group: int = 8  # G, slots
    default: bool = False  # requests that do not say are deterministic
    # Decode steps a full page may wait, so that several pages share one pass. Its request decodes
    # on meanwhile, a token a step: so many tokens past the page's end, at most.
    wait: int = 16
    # What is verified: what steps of uncertified sizes propose, or every token. The same bits.
    verify: str = "uncertified"
    audit: int = 32  # of so many pages of outputs one is run again
    max_n: int = 64  # n of any request, at most; each sample is a request of its own

    def __post_init__(self) -> None:
        _expect_one_of("--llm42-page", self.page, PAGE_SIZES)
        _expect_one_of("--llm42-group", self.group, GROUPS)
        _expect_between("--llm42-wait", self.wait, 0, self.page)
        _expect_between("--llm42-audit", self.audit, 1, 1_000_000)
        _expect_one_of("--llm42-verify", self.verify, VERIFY)
        _expect_between("--llm42-max-n", self.max_n, 1, 4096)
        if type(self.default) is not bool:
            raise ConfigError(f"--llm42-default is on or off, not {self.default!r}")

    def to_json(self) -> str:
        """For the environment of child processes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Inverse of `to_json`. Raises ConfigError on anything else."""
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

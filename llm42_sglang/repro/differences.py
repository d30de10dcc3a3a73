"""The facts in which two fingerprints differ, by name."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from llm42_sglang.repro.documents import Strict

_HASH = re.compile(r"[0-9a-f]{32,}")
_MAX_LENGTH = 60  # characters of a value that is shown


class Fingerprint(Strict):
    """A server's fingerprint: a hash, and the facts that it is a hash of."""

    digest: str
    facts: dict[str, Any]


def digest_of(fingerprint: Fingerprint | None) -> str | None:
    """The hash; None of an endpoint without a fingerprint."""
    return fingerprint.digest if fingerprint else None


class FactChange(NamedTuple):
    """One fact that is not what it was. A side without this fact has None."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name} is new: {self.after}"
        if self.after is None:
            return f"{self.name} is gone: {self.before}"
        if is_hash(self.before) and is_hash(self.after):
            return f"{self.name} changed"
        return f"{self.name} {self.before} -> {self.after}"


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FactChange]:
    """The facts that differ, sorted by name. A nested fact is named like `model.rms_norm_eps`."""
    old, new = dict(flat(before)), dict(flat(after))
    return [
        FactChange(name, _shown(old, name), _shown(new, name))
        for name in sorted(old.keys() | new.keys())
        if name not in old or name not in new or old[name] != new[name]
    ]


def explain(before: Fingerprint | None, after: Fingerprint | None) -> str:
    """One line that says what changed, or why that is not known."""
    if before is None or after is None:
        return "nothing was recorded" if before is None else "the endpoint has no fingerprint"
    return ", ".join(map(str, changes(before.facts, after.facts))) or "the same"


def flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names and values. A nested fact is named like `model.rms_norm_eps`."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _shown(facts: Mapping[str, Any], name: str) -> str | None:
    if name not in facts:
        return None
    text = str(facts[name])
    return text if len(text) <= _MAX_LENGTH or is_hash(text) else f"{text[:_MAX_LENGTH]}…"


def is_hash(text: str) -> bool:
    """Whether the text is a hash, which tells a person no more than that something changed."""
    return _HASH.fullmatch(text) is not None

"""What two fingerprints differ in, by name."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from llm42_sglang.repro.suite import Strict

_HASH = re.compile(r"[0-9a-f]{32,}")
_LONGEST = 60  # characters of a value that is shown


class Fingerprint(Strict):
    """A server's fingerprint, and the facts it is a hash of."""

    digest: str
    facts: dict[str, Any]


class Change(NamedTuple):
    """One fact that is not what it was. None: it is not there."""

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


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Facts that differ, by name; facts inside facts as `model.rms_norm_eps`."""
    old, new = dict(flat(before)), dict(flat(after))
    return [
        Change(name, _shown(old, name), _shown(new, name))
        for name in sorted(old.keys() | new.keys())
        if name not in old or name not in new or old[name] != new[name]
    ]


def explain(before: Fingerprint | None, after: Fingerprint | None) -> str:
    """One line: what changed, or why nobody can tell."""
    if before is None or after is None:
        return "nothing was recorded" if before is None else "the endpoint has no fingerprint"
    return ", ".join(map(str, changes(before.facts, after.facts))) or "the same"


def flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Facts inside facts as `model.rms_norm_eps`."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _shown(facts: Mapping[str, Any], name: str) -> str | None:
    if name not in facts:
        return None
    text = str(facts[name])
    return text if len(text) <= _LONGEST or is_hash(text) else f"{text[:_LONGEST]}…"


def is_hash(text: str) -> bool:
    """Whether a person learns nothing from it but that it has changed."""
    return _HASH.fullmatch(text) is not None

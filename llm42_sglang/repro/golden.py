"""The golden file: what was asked, and what came back. JSON that a person can diff.

Keys are sorted, cases keep the suite's order, and nothing in it changes from run to run: recording
the same suite on the same server again gives the same bytes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from llm42_sglang.errors import UserError
from llm42_sglang.files import write_whole
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.documents import read_model
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.suite import Case, Cases, Strict


class Recorded(Case):
    """A case with its answer."""

    output: Output


class Golden(Strict):
    """The whole file."""

    format: Literal["llm42-golden"] = "llm42-golden"
    version: Literal[1] = 1
    model: str  # as the endpoint names it
    fingerprint: Fingerprint | None = None  # None: the endpoint has none
    cases: Cases[Recorded]

    def selected(self, ids: Sequence[str], tags: Sequence[str] = ()) -> list[Recorded]:
        """The cases of these ids and those with one of these tags; all if nothing is named.

        Raises UserError for an id or a tag that no case has.
        """
        known_ids = [case.id for case in self.cases]
        known_tags = list(dict.fromkeys(tag for case in self.cases for tag in case.tags))
        named = (("case", ids, known_ids), ("case with tag", tags, known_tags))
        for what, wanted, known in named:
            for unknown in (one for one in wanted if one not in known):
                there = ", ".join(known) or "none"
                raise UserError(f"no {what} {unknown!r}; there are {there}")
        return [
            case
            for case in self.cases
            if not (ids or tags) or case.id in ids or not {*case.tags}.isdisjoint(tags)
        ]


def load_golden(path: Path) -> Golden:
    """Raises UserError."""
    return read_model(Golden, path)


def save_golden(golden: Golden, path: Path) -> None:
    """Whole or not at all. Raises UserError."""
    write_whole(path, _layout(golden.model_dump(mode="json", exclude_none=True)) + "\n")


def _layout(value: Any, indent: str = "", name: str = "") -> str:
    """JSON with sorted keys; ids and tokens in one line, texts line by line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        start, end = "{}"
        parts = [f"{json.dumps(key)}: {_layout(value[key], inner, key)}" for key in sorted(value)]
    elif isinstance(value, list) and (name == "text" or any(isinstance(v, dict) for v in value)):
        start, end = "[]"
        parts = [_layout(one, inner) for one in value]
    else:
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    lines = ",\n".join(inner + part for part in parts)
    return f"{start}\n{lines}\n{indent}{end}" if parts else start + end

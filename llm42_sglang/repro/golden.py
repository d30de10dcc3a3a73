"""The golden file: what was asked, and what came back. It is JSON that a person can diff.

Keys are sorted, and cases keep the suite's order. It holds nothing that changes from run to run, so
recording the same suite on the same server again gives the same bytes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from llm42_sglang.errors import UserError
from llm42_sglang.files import write_whole
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.documents import read_document
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.suite import Case, Cases, Strict


class RecordedCase(Case):
    """A case with its recorded answer."""

    output: Output


class GoldenFile(Strict):
    """The whole content of a golden file."""

    format: Literal["llm42-golden"] = "llm42-golden"
    version: Literal[1] = 1
    model: str  # as the endpoint names it
    fingerprint: Fingerprint | None = None  # None if the endpoint had none
    cases: Cases[RecordedCase]

    def selected(self, ids: Sequence[str], tags: Sequence[str] = ()) -> list[RecordedCase]:
        """The cases that have one of these ids or tags. If none is named, all cases.

        Raises UserError for an id or a tag that no case has.
        """
        known_ids = [case.id for case in self.cases]
        known_tags = list(dict.fromkeys(tag for case in self.cases for tag in case.tags))
        for kind, names, known in (("case", ids, known_ids), ("case with tag", tags, known_tags)):
            for unknown in (name for name in names if name not in known):
                choices = ", ".join(known) or "none"
                raise UserError(f"no {kind} {unknown!r}; there are {choices}")
        return [
            case
            for case in self.cases
            if not (ids or tags) or case.id in ids or not {*case.tags}.isdisjoint(tags)
        ]


def load_golden(path: Path) -> GoldenFile:
    """Read a golden file. Raises UserError."""
    return read_document(GoldenFile, path)


def save_golden(golden: GoldenFile, path: Path) -> None:
    """Write a golden file, as a whole or not at all. Raises UserError."""
    write_whole(path, _layout(golden.model_dump(mode="json", exclude_none=True)) + "\n")


def _layout(value: Any, indent: str = "", name: str = "") -> str:
    """JSON with sorted keys. Lists of ids and tokens are one line each, texts a line per line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        start, end = "{}"
        parts = [f"{json.dumps(key)}: {_layout(value[key], inner, key)}" for key in sorted(value)]
    elif isinstance(value, list) and (name == "text" or any(isinstance(v, dict) for v in value)):
        start, end = "[]"
        parts = [_layout(item, inner) for item in value]
    else:
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    lines = ",\n".join(inner + part for part in parts)
    return f"{start}\n{lines}\n{indent}{end}" if parts else start + end

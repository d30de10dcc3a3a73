"""The golden file: what was asked, and what came back. JSON that a person can diff.

Keys are sorted, cases keep the suite's order, and nothing in it changes from run to run: recording
the same suite on the same server again gives the same bytes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm42_sglang.errors import UserError
from llm42_sglang.files import write_whole
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.documents import read_object, require_format, validated
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.suite import Case, require_unique

FORMAT = "llm42-golden"
VERSION = 1


class Recorded(Case):
    """A case with its answer."""

    output: Output


class Golden(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["llm42-golden"] = FORMAT
    version: Literal[1] = VERSION
    model: str  # as the endpoint names it
    fingerprint: Fingerprint | None = None  # None: the endpoint has none
    cases: list[Recorded] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique_ids(self) -> "Golden":
        require_unique(case.id for case in self.cases)
        return self

    def selected(self, ids: Sequence[str], tags: Sequence[str] = ()) -> list[Recorded]:
        """The cases of these ids and those with one of these tags; all if nothing is named.

        Raises UserError for an id or a tag that no case has.
        """
        _require_known("case", ids, [case.id for case in self.cases])
        _require_known("case with tag", tags, [tag for case in self.cases for tag in case.tags])
        return [
            case
            for case in self.cases
            if not (ids or tags) or case.id in ids or not {*case.tags}.isdisjoint(tags)
        ]


def _require_known(what: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [one for one in wanted if one not in known]:
        there = ", ".join(dict.fromkeys(known)) or "none"
        raise UserError(f"no {what} {unknown[0]!r}; there are {there}")


def load_golden(path: Path) -> Golden:
    """Raises UserError."""
    content = read_object(path)
    require_format(path, content, FORMAT, VERSION)
    return validated(Golden, content, path)


def save_golden(golden: Golden, path: Path) -> None:
    """Whole or not at all. Raises UserError."""
    write_whole(path, layout(golden.model_dump(mode="json", exclude_none=True)))


def layout(content: Mapping[str, Any]) -> str:
    """JSON with sorted keys; ids and tokens in one line, texts line by line."""
    return _laid_out(content, "") + "\n"


def _laid_out(value: Any, indent: str, name: str = "") -> str:
    inner = indent + "  "
    if isinstance(value, Mapping) and value:
        items = [
            f"{inner}{_plain(key)}: {_laid_out(value[key], inner, key)}" for key in sorted(value)
        ]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    by_line = isinstance(value, list) and (
        name == "text" or any(isinstance(v, dict) for v in value)
    )
    if by_line and value:
        return "[\n" + ",\n".join(inner + _laid_out(v, inner) for v in value) + f"\n{indent}]"
    return _plain(value)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)

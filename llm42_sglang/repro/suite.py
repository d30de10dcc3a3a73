"""A suite: the questions whose answers must not change."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from llm42_sglang.errors import UserError
from llm42_sglang.repro.documents import read_text, validated
from llm42_sglang.tools import require

STRICT = ConfigDict(extra="forbid", frozen=True)
# In tables, XML and file names; no white space at the ends, no control characters.
Id = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f]([^\x00-\x1f]*[^\s\x00-\x1f])?$")]


class Message(BaseModel):
    """One message of a conversation."""

    model_config = STRICT

    role: str
    content: str


class Sampling(BaseModel):
    """How to sample, in one vocabulary for every API; what is not set is not sent.

    By default greedy. An unknown name is an error: a typing mistake would sample otherwise.
    """

    model_config = STRICT

    temperature: float = 0
    max_tokens: int = Field(64, ge=1)
    min_tokens: int | None = None
    seed: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    regex: str | None = None
    json_schema: str | None = None  # JSON text
    top_logprobs: int | None = Field(None, ge=1)  # alternatives to each token; compared too

    def given(self) -> dict[str, Any]:
        """What is to be sent."""
        return self.model_dump(exclude_none=True)


class Case(BaseModel):
    """One question: a text or token ids to go on with, or messages of a conversation."""

    model_config = STRICT

    id: Id
    prompt: str | None = None
    input_ids: list[int] | None = Field(None, min_length=1)
    messages: list[Message] | None = Field(None, min_length=1)
    sampling: Sampling = Sampling()
    tags: list[str] = []

    @model_validator(mode="after")
    def _one_question(self) -> "Case":
        if [self.prompt, self.input_ids, self.messages].count(None) != 2:
            raise ValueError("a case has one of prompt, input_ids and messages")
        return self

    @property
    def question(self) -> str:
        """The prompt, or the last message."""
        if self.messages is not None:
            return self.messages[-1].content
        return f"{len(self.input_ids or ())} token ids" if self.prompt is None else self.prompt


class Suite(BaseModel):
    """Cases with ids of their own; `sampling` holds for those that do not say otherwise."""

    model_config = STRICT

    sampling: dict[str, Any] = {}
    cases: list[Case] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, content: Any) -> Any:
        """What is malformed is left for the validation of the fields."""
        if not isinstance(content, dict):
            return content
        default, cases = content.get("sampling", {}), content.get("cases")
        if not isinstance(default, dict) or not isinstance(cases, list):
            return content
        return content | {"cases": [_under(default, case) for case in cases]}

    @model_validator(mode="after")
    def _unique_ids(self) -> "Suite":
        require_unique(case.id for case in self.cases)
        return self


def require_unique(ids) -> None:
    """Raises ValueError, which pydantic reports."""
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise ValueError(f"the id {one!r} stands twice")
        seen.add(one)


def load_suite(path: Path) -> Suite:
    """From YAML (a list of cases, or `sampling` and `cases`) or JSONL. Raises UserError."""
    text = read_text(path)
    content = _json_lines(path, text) if path.suffix == ".jsonl" else _yaml(path, text)
    if isinstance(content, list):
        content = {"cases": content}
    return validated(Suite, content, path)


def _under(default: Mapping[str, Any], case: Any) -> Any:
    own = case.get("sampling", {}) if isinstance(case, dict) else None
    return case | {"sampling": {**default, **own}} if isinstance(own, dict) else case


def _json_lines(path: Path, text: str) -> list[Any]:
    cases = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            cases.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON: {error}") from None
    return cases


def _yaml(path: Path, text: str) -> Any:
    require(f"reading {path}", "yaml")
    from llm42_sglang.repro.yaml_text import parse

    return parse(path, text)

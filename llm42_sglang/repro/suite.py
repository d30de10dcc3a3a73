"""A suite: the questions whose answers must not change."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from llm42_sglang.errors import UserError, printable
from llm42_sglang.repro.documents import read_text, validated
from llm42_sglang.tools import require

Item = TypeVar("Item")
_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair
_LINE_END = re.compile("[\x85\u2028\u2029]")  # for YAML, and for hardly anything else


def _one_line(text: str) -> str:
    if text != printable(text) or not re.fullmatch(r"\S([^\n\t]*\S)?", text):
        raise ValueError("an id is one line, without control characters and spaces at its ends")
    return text


Id = Annotated[str, AfterValidator(_one_line)]  # in tables, XML and file names


class Strict(BaseModel):
    """An unknown name is an error: a typing mistake would mean something else."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Message(Strict):
    """One message of a conversation."""

    role: str
    content: str


class Sampling(Strict):
    """How to sample, in one vocabulary for every API; what is not set is not sent. By default
    greedy."""

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


class Case(Strict):
    """One question: a text or token ids to go on with, or messages of a conversation."""

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


def _unique(cases: list) -> list:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise ValueError(f"the id {case.id!r} stands twice")
        seen.add(case.id)
    return cases


Cases = Annotated[list[Item], Field(min_length=1), AfterValidator(_unique)]


class Suite(Strict):
    """Cases with ids of their own; `sampling` holds for those that do not say otherwise."""

    sampling: dict[str, Any] = {}
    cases: Cases[Case]

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, content: Any) -> Any:
        """A list is the cases. What is malformed is left for the validation of the fields."""
        content = {"cases": content} if isinstance(content, list) else content
        match content:
            case {"sampling": dict(default), "cases": list(cases)}:
                return content | {"cases": [_under(default, case) for case in cases]}
        return content

    @model_validator(mode="after")
    def _sendable(self) -> "Suite":
        for case in self.cases:
            if half := _HALF.search(json.dumps(case.model_dump(), ensure_ascii=False)):
                told = f"case {case.id!r} has half a character, {half[0]!r}: write it whole"
                raise ValueError(told)
        return self


def _under(default: dict[str, Any], case: Any) -> Any:
    own = case.get("sampling", {}) if isinstance(case, dict) else None
    return case | {"sampling": default | own} if isinstance(own, dict) else case


def load_suite(path: Path) -> Suite:
    """From YAML (a list of cases, or `sampling` and `cases`) or JSONL. Raises UserError."""
    read = _json_lines if path.suffix == ".jsonl" else _yaml
    return validated(Suite, read(path, read_text(path)), path)


def _json_lines(path: Path, text: str) -> list[Any]:
    cases = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            cases += [json.loads(line, strict=False)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not JSON: {error}") from None
    return cases


def _yaml(path: Path, text: str) -> Any:
    require(f"reading {path}", "yaml")
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice, where YAML would silently take the last."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen:
                    twice = f"{key.value} twice"
                    raise yaml.MarkedYAMLError(problem=twice, problem_mark=key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    if wrong := yaml.reader.Reader.NON_PRINTABLE.search(text) or _LINE_END.search(text):
        line = text.count("\n", 0, wrong.start()) + 1
        told = f"write \\u{ord(wrong[0]):04x} in double quotes for what stands there"
        raise UserError(f"{path}, line {line}: not YAML: {told}")
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None

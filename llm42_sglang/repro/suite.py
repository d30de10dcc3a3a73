"""A suite: the questions whose answers must not change."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from llm42_sglang.errors import UserError, printable
from llm42_sglang.repro.conversation import (
    ChosenTool,
    Message,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from llm42_sglang.repro.documents import Strict, read_text, validated
from llm42_sglang.tools import require

AnyCase = TypeVar("AnyCase")
_HALF = re.compile("[\ud800-\udfff]")  # one half of a surrogate pair
_LINE_END = re.compile("[\x85\u2028\u2029]")  # only YAML takes these for ends of lines


def _one_line(text: str) -> str:
    if text != printable(text) or not re.fullmatch(r"\S([^\n\t]*\S)?", text):
        raise ValueError("an id is one line, without control characters and spaces at its ends")
    return text


def _text_of_number(key: Any) -> Any:
    return str(key) if type(key) is int else key  # YAML has numbers for keys


Id = Annotated[str, AfterValidator(_one_line)]  # appears in tables, XML and file names
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
TokenName = Annotated[str, BeforeValidator(_text_of_number), Field(pattern="^[0-9]{1,10}$")]
MOST_TOKENS = 4096  # that a case names
MOST_SAMPLES = 128
MOST_TOOLS = 128
ORDERED = ("tools", "response_format")  # fields of a case in which the order of names counts


class Sampling(Strict):
    """How to sample: greedily by default. Names are the same for every API; None is not sent."""

    temperature: float = 0
    max_tokens: int = Field(64, ge=1)
    min_tokens: int | None = None
    seed: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[TokenId] | None = Field(None, min_length=1, max_length=MOST_TOKENS)
    ignore_eos: bool | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[TokenName, float] | None = Field(None, max_length=MOST_TOKENS)
    regex: str | None = None
    json_schema: str | None = None  # JSON text
    top_logprobs: int | None = Field(None, ge=1)  # alternatives to each token, which are compared
    n: int | None = Field(None, ge=1, le=MOST_SAMPLES)  # choices; each is compared

    def given(self) -> dict[str, Any]:
        """The parameters that are set, by name."""
        return self.model_dump(exclude_none=True)


class Case(Strict):
    """One question: a text or token ids to go on with, or the messages of a conversation."""

    id: Id
    prompt: str | None = None
    input_ids: list[int] | None = Field(None, min_length=1)
    messages: list[Message] | None = Field(None, min_length=1)
    tools: list[Tool] | None = Field(None, min_length=1, max_length=MOST_TOOLS)
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    sampling: Sampling = Sampling()
    tags: list[str] = Field([])

    @model_validator(mode="after")
    def _one_question(self) -> "Case":
        if [self.prompt, self.input_ids, self.messages].count(None) != 2:
            raise ValueError("a case has one of prompt, input_ids and messages")
        return self

    @model_validator(mode="after")
    def _choice_among_tools(self) -> "Case":
        names = [tool.function.name for tool in self.tools or ()]
        if self.tool_choice is not None and not names:
            raise ValueError("tool_choice needs tools to choose from")
        chosen = self.tool_choice.function if isinstance(self.tool_choice, ChosenTool) else None
        if chosen is not None and chosen.name not in names:
            raise ValueError(f"tool_choice: no tool is called {chosen.name!r}")
        return self

    def asks_the_same(self, other: "Case") -> bool:
        """Whether both ask one question in one way. Tags do not count."""
        return _asked(self) == _asked(other)

    @property
    def samples(self) -> int:
        """How many choices the answer is to have."""
        return self.sampling.n or 1

    @property
    def question(self) -> str:
        """The prompt or the last message, for a person to read."""
        if self.messages is not None:
            return self.messages[-1].text
        return f"{len(self.input_ids or ())} token ids" if self.prompt is None else self.prompt


def _asked(case: Case) -> dict[str, Any]:
    """What a case asks. The order of names in a schema counts: the model reads it in the prompt."""
    fields = case.model_dump(include={*Case.model_fields} - {"tags"})
    return fields | {name: json.dumps(fields[name]) for name in ORDERED}


def _unique(cases: list) -> list:
    ids: set[str] = set()
    for case in cases:
        if case.id in ids:
            raise ValueError(f"the id {case.id!r} stands twice")
        ids.add(case.id)
    return cases


Cases = Annotated[list[AnyCase], Field(min_length=1), AfterValidator(_unique)]


class Suite(Strict):
    """Cases with different ids. `sampling` has defaults for what a case does not set itself."""

    sampling: dict[str, Any] = Field({})
    cases: Cases[Case]

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, content: Any) -> Any:
        """Read a list as the cases, and fill in defaults. Mistakes are left to the validation."""
        content = {"cases": content} if isinstance(content, list) else content
        match content:
            case {"sampling": dict(default), "cases": list(cases)}:
                return content | {"cases": [_under(default, case) for case in cases]}
        return content

    @model_validator(mode="after")
    def _sendable(self) -> "Suite":
        for case in self.cases:
            if half := _HALF.search(json.dumps(case.model_dump(), ensure_ascii=False)):
                raise ValueError(
                    f"case {case.id!r} has half a character, {half[0]!r}: write it whole"
                )
        return self


def _under(default: dict[str, Any], case: Any) -> Any:
    """The case, with defaults below its own sampling."""
    own = case.get("sampling", {}) if isinstance(case, dict) else None
    return case | {"sampling": default | own} if isinstance(own, dict) else case


def load_suite(path: Path) -> Suite:
    """Read a suite. Raises UserError.

    A file named *.jsonl has a case in each line. Any other is YAML: a list of cases, or an object
    with `sampling` and `cases`.
    """
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
        """A loader that refuses a key that stands twice. PyYAML silently takes the last one."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys: set[str] = set()
            for key, _ in node.value:
                if key.value in keys:
                    twice = f"{key.value} twice"
                    raise yaml.MarkedYAMLError(problem=twice, problem_mark=key.start_mark)
                keys.add(key.value)
            return super().construct_mapping(node, deep)

    if wrong := yaml.reader.Reader.NON_PRINTABLE.search(text) or _LINE_END.search(text):
        line = text.count("\n", 0, wrong.start()) + 1
        remedy = f"write \\u{ord(wrong[0]):04x} in double quotes for the character there"
        raise UserError(f"{path}, line {line}: not YAML: {remedy}")
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None

"""What a chat is asked besides its sampling: messages, tools, and the format of the answer.

The shapes are OpenAI's, so that a request can be copied into a suite. A suite asks with text only.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from llm42_sglang.repro.documents import Strict

MOST_LEVELS = 32  # of a JSON value that a person writes
MOST_VALUES = 1_000_000  # in it, characters and values counted alike; YAML can repeat by reference
_SCALARS = (str, int, float, type(None))


def _plain(value: Any) -> Any:
    """The value itself. Raises ValueError if it is not JSON, or too deep or too large."""
    left, level = MOST_VALUES, [value]
    for _ in range(MOST_LEVELS):
        below: list[Any] = []
        for item in level:
            inner = [*item, *item.values()] if isinstance(item, dict) else item
            if isinstance(item, dict) and not all(isinstance(name, str) for name in item):
                raise ValueError("the names in an object are strings")
            if not isinstance(item, dict | list):
                inner = []
                if not isinstance(item, _SCALARS):
                    raise ValueError(f"JSON has no {type(item).__name__}: write it as a string")
                if isinstance(item, float) and not math.isfinite(item):
                    raise ValueError("a number is finite")
            left -= len(item) if isinstance(item, str) else len(inner)
            if left < 0:
                raise ValueError(f"more than {MOST_VALUES} characters and values")
            below += inner
        if not below:
            return value
        level = below
    raise ValueError(f"more than {MOST_LEVELS} levels of lists and objects")


PlainObject = Annotated[dict[str, Any], Field(strict=True), AfterValidator(_plain)]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class TextPart(Strict):
    """A part of a message whose content is a list."""

    type: Literal["text"]
    text: str


class CalledFunction(Strict):
    """A function that an earlier answer has called, with its arguments as JSON text."""

    name: Name
    arguments: str


class EarlierCall(Strict):
    """A tool call of an assistant's message."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Strict):
    """One message of a conversation. An assistant may call tools; role `tool` answers a call."""

    role: str
    content: str | list[TextPart] | None = None
    tool_calls: list[EarlierCall] | None = Field(None, min_length=1)
    tool_call_id: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text_only(cls, content: Any) -> Any:
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else part
            if kind != "text":
                raise ValueError(
                    f"{kind!s:.40}: a suite asks with text only; put a part of type text in its "
                    "place, or leave the case out"
                )
        return content

    @model_validator(mode="after")
    def _complete(self) -> "Message":
        if self.content is None and self.tool_calls is None:
            raise ValueError("a message has content, or an assistant's has tool_calls")
        if self.tool_calls is not None and self.role != "assistant":
            raise ValueError(f"tool_calls are an assistant's, not of role {self.role!r:.40}")
        if self.tool_call_id is not None and self.role != "tool":
            raise ValueError("tool_call_id says which call a message of role 'tool' answers")
        return self

    @property
    def text(self) -> str:
        """The content, or the functions that are called, for a person to read."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        calls = (call.function.name for call in self.tool_calls or ())
        return self.content if self.content is not None else ", ".join(calls)


class Function(Strict):
    """A function that the model may call. `parameters` is a JSON schema."""

    name: Name
    description: str | None = None
    parameters: PlainObject | None = None
    strict: bool | None = None


class Tool(Strict):
    """A tool that the model may use."""

    type: Literal["function"] = "function"
    function: Function


class ChosenFunction(Strict):
    """The name of a function."""

    name: Name


class ChosenTool(Strict):
    """The tool that the model must use."""

    type: Literal["function"] = "function"
    function: ChosenFunction


ToolChoice = Literal["auto", "required", "none"] | ChosenTool


class JsonSchema(Strict):
    """A JSON schema that the answer must follow."""

    name: Name
    description: str | None = None
    of: PlainObject = Field(alias="schema")  # a model cannot have a field `schema`
    strict: bool | None = None


class PlainFormat(Strict):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class JsonSchemaFormat(Strict):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class StructuralTagFormat(Strict):
    """Text with tagged structures, in either of the two forms that SGLang reads."""

    type: Literal["structural_tag"]
    format: PlainObject | None = None
    structures: list[PlainObject] | None = None
    triggers: list[str] | None = None


ResponseFormat = Annotated[
    PlainFormat | JsonSchemaFormat | StructuralTagFormat, Field(discriminator="type")
]

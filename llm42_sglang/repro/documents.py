"""Read files that people write or keep. A mistake in one is a line that names the place."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from llm42_sglang.errors import UserError

_NAME, _COMPLAINT = 100, 600  # characters of names in a file, and of complaints, that are shown
Document = TypeVar("Document", bound=BaseModel)


class Strict(BaseModel):
    """A model in which an unknown name is an error, so that a typing mistake is noticed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True
    )


def read_text(path: Path) -> str:
    """The text of a UTF-8 file. Raises UserError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: byte {error.start}") from None


def read_document(kind: type[Document], path: Path) -> Document:
    """The content of a JSON file. Raises UserError if it is not JSON, or not of this kind."""
    return parsed(kind, read_text(path), path)


def parsed(kind: type[Document], text: str, where: object) -> Document:
    """JSON text as a document of this kind; `where` names the file. Raises UserError."""
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON, or was cut off: {error}") from None
    return validated(kind, content, where)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names stand once each: of two, as a merge may leave them, one would win."""
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{twice!r:.60} stands twice in an object")
    return content


def validated(kind: type[Document], content: Any, where: object) -> Document:
    """Content that has been parsed, as a document of this kind.

    Raises UserError with the first complaint; `where` names the file, or what else was read.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {first_complaint(error)}") from None


def first_complaint(error: ValidationError) -> str:
    """One line that says where the first mistake is, and what it is."""
    first = error.errors(include_url=False)[0]
    complaint = first["msg"].removeprefix("Value error, ")
    place = ".".join(str(name)[:_NAME] for name in first["loc"])
    text = ": ".join(filter(None, (place, complaint)))
    return " ".join(text.split())[:_COMPLAINT]

"""Reading files that people write or keep: every mistake is one line that names the place."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llm42_sglang.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def read_text(path: Path) -> str:
    """A UTF-8 file. Raises UserError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: byte {error.start}") from None


def read_model(kind: type[Model], path: Path) -> Model:
    """A JSON file. Raises UserError; a file that was cut off is one that is not JSON."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON, or was cut off: {error}") from None
    return validated(kind, content, path)


def validated(kind: type[Model], content: Any, where: object) -> Model:
    """Raises UserError with the first complaint. where: the file, or what else is being read."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {first_complaint(error)}") from None


def first_complaint(error: ValidationError) -> str:
    """One line: where, and what is wrong there."""
    first = error.errors(include_url=False)[0]
    complaint = first["msg"].removeprefix("Value error, ")
    text = ": ".join(filter(None, (".".join(map(str, first["loc"])), complaint)))
    return " ".join(text.split())

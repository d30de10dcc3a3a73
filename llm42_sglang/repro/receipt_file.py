"""A request with its response: what `llm42 replay` takes.

JSON: `{"request": BODY, "response": BODY}`, both as they went over the wire, on any of the paths
below; `llm42 record --receipts` adds `path` and the `fingerprint` with its facts.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from llm42_sglang.errors import UserError
from llm42_sglang.files import write_whole
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.documents import read_object, require_format, validated
from llm42_sglang.repro.wire import CHAT, COMPLETIONS, GENERATE, Answer, answer_of

FORMAT = "llm42-receipt"
VERSION = 1
_OBJECTS = {"chat.completion": CHAT, "text_completion": COMPLETIONS}


class Saved(BaseModel):
    """The file's content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["llm42-receipt"] = FORMAT
    version: Literal[1] = VERSION
    path: Literal["/generate", "/v1/completions", "/v1/chat/completions"]
    request: dict[str, Any]
    response: dict[str, Any]
    fingerprint: Fingerprint | None = None


def load_saved(path: Path) -> tuple[Saved, Answer]:
    """The file, and its response as an answer with a receipt. Raises UserError."""
    content = read_object(path)
    if "format" in content:
        require_format(path, content, FORMAT, VERSION)
    if isinstance(content.get("response"), dict) and "path" not in content:
        content["path"] = _path_of(path, content["response"])
    saved = validated(Saved, content, path)
    if len(saved.response.get("choices") or [0]) > 1:
        raise UserError(f"{path} has several choices; a replay compares one")
    try:
        answer = answer_of(saved.path, saved.response)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if answer.output.receipt is None:
        raise UserError(f"{path}: the response carries no receipt, so there is nothing to replay")
    return saved, answer


def save_exchange(answer: Answer, fingerprint: Fingerprint | None, path: Path) -> None:
    """Whole or not at all. Raises UserError."""
    assert answer.exchange is not None, "a stream has no one response"
    saved = Saved(**answer.exchange._asdict(), fingerprint=fingerprint)
    write_whole(path, json.dumps(saved.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")


def _path_of(path: Path, response: dict[str, Any]) -> str:
    found = GENERATE if "meta_info" in response else _OBJECTS.get(response.get("object", ""))
    if found is None:
        raise UserError(f"{path}: the response is of no path known here; add a `path`")
    return found

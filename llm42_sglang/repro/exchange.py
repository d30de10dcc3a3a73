"""The file of a saved answer: a request and its response, as they went over the wire.

It is JSON: `{"request": BODY, "response": BODY}`, on any of the paths below. `llm42 record
--receipts` adds `path`, and `fingerprint` with its facts.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from llm42_sglang.errors import UserError
from llm42_sglang.files import write_whole
from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.documents import Strict, read_document
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.wire import CHAT, COMPLETIONS, Answer, answer_of


class SavedExchange(Strict):
    """The content of the file: a request and its response."""

    format: Literal["llm42-receipt"] = "llm42-receipt"
    version: Literal[1] = 1
    path: Literal["/generate", "/v1/completions", "/v1/chat/completions"]
    request: dict[str, Any]
    response: dict[str, Any] | list[dict[str, Any]]  # a list: n samples of /generate
    fingerprint: Fingerprint | None = None

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Samples of /generate, or choices of OpenAI's paths."""
        if isinstance(self.response, list):
            return self.response
        choices = self.response.get("choices")
        return choices if isinstance(choices, list) and choices else [self.response]

    @model_validator(mode="before")
    @classmethod
    def _has_both_bodies(cls, content: Any) -> Any:
        """Somebody who saved the response alone must be told so first."""
        if isinstance(content, dict) and not {"request", "response"} <= content.keys():
            raise ValueError(
                'needs {"request": BODY, "response": BODY}, what was sent and what came'
            )
        return cls._with_path(content)

    @classmethod
    def _with_path(cls, content: Any) -> Any:
        match content:
            case {"response": {"meta_info": _} | [{"meta_info": _}, *_]}:
                path = GENERATE
            case {"response": {"object": "chat.completion"}}:
                path = CHAT
            case {"response": {"object": "text_completion"}}:
                path = COMPLETIONS
            case {"response": _} if "path" not in content:
                raise ValueError("the response is of none of the paths that can be checked")
            case _:
                return content  # the fields say what is wrong
        return {"path": path, **content}


def load_exchange(path: Path) -> tuple[SavedExchange, Output]:
    """The file's content, and its response as an output with a receipt. Raises UserError."""
    exchange = read_document(SavedExchange, path)
    if len(exchange.answers) > 1:
        raise UserError(f"{path} has several choices; a replay compares one")
    claimed = claimed_in(exchange, path)
    if claimed.receipt is None:
        raise UserError(f"{path}: the response carries no receipt, so there is nothing to replay")
    return exchange, claimed


def claimed_in(exchange: SavedExchange, where: object) -> Output:
    """The response of one answer as an output. where: the file. Raises UserError naming it."""
    try:
        return answer_of(exchange.path, [exchange.response]).output
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def save_exchange(answer: Answer, fingerprint: Fingerprint | None, path: Path) -> None:
    """Write an answer's request and response, as a whole or not at all. Raises UserError."""
    assert answer.exchange is not None, "a stream is not one response"
    exchange = SavedExchange(**answer.exchange, fingerprint=fingerprint)
    content = exchange.model_dump(mode="json")
    write_whole(path, json.dumps(content, indent=1, sort_keys=True) + "\n")

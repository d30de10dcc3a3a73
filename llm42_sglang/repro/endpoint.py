"""A server that answers prompts: an llm42 server, stock SGLang, or one with OpenAI's API."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import ValidationError

from llm42_sglang.core.receipts import FACTS_PATH, fingerprint
from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import GENERATE, Connection, short
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.suite import Case
from llm42_sglang.repro.wire import (
    COMPLETIONS,
    DETAILS,
    Answer,
    Api,
    answer_of,
    body_of,
    claiming,
    path_of,
)


@dataclass
class Endpoint(AbstractContextManager):
    """A connected server, for many threads at once. `connect` makes one."""

    connection: Connection
    api: Api  # the one that prompts are sent to
    model: str  # as the server names it
    fingerprint: Fingerprint | None  # None unless it is an llm42 server
    public_key: str | None = None  # in base64, if the server signs receipts
    _details: dict[str, int] = field(default_factory=dict)  # by path: index into DETAILS

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    @property
    def ours(self) -> bool:
        """Whether it is an llm42 server, which knows deterministic requests."""
        return self.fingerprint is not None

    def ask(
        self,
        case: Case,
        deterministic: bool = True,
        stream: bool = False,
        claim: Sequence[int] | None = None,
    ) -> Answer:
        """Ask one case and return its whole answer.

        claim: token ids that the answer should have; an llm42 server checks them in place of
        generating. If they are wrong, the answer is `refuted`.

        `deterministic` is sent to llm42 servers only; others do not know the field. A detail that
        the endpoint refuses, such as logprobs, is left out and the case asked again.
        Raises UserError if the endpoint refuses the request or stops answering.
        """
        path = path_of(case, self.api)
        flag = deterministic if self.ours else None
        for level in range(self._details.get(path, 0), len(DETAILS)):
            body = body_of(case, path, self.model, flag, stream, DETAILS[level])
            if claim is not None:
                body = claiming(path, body, claim)
            reply = self.connection.post(path, body)
            if reply.status not in (400, 422) or path == GENERATE:
                break
        if reply.status in (404, 405) and path == COMPLETIONS:
            raise UserError(f"{path} was answered with {reply.status}; write prompts as messages")
        reply.require_ok()
        self._details[path] = level  # kept only after a success: a refusal may be about one case
        if stream:
            answer = answer_of(path, [event.data for event in reply.events])
            if not all(choice.finish_reason for choice in answer.output.choices):
                raise UserError("the stream ended before the answer did")
            answer = replace(answer, first_token_s=reply.events[0].at_s - reply.sent_s)
        else:
            response = reply.json(several=case.samples > 1)
            exchange = {"path": path, "request": body, "response": response}
            answer = replace(answer_of(path, [response]), exchange=exchange)
        if (got := len(answer.output.choices)) != case.samples:
            raise UserError(f"{path} was asked for {case.samples} choices, and has answered {got}")
        return replace(answer, end_to_end_s=reply.done_s - reply.sent_s)

    def flush(self) -> None:
        """Empty the prefix cache. Nothing happens on a server that cannot, or is not idle."""
        if self.api == "native":
            with suppress(UserError):
                self.connection.flush()


def connect(
    url: str, api: Api | None = None, model: str | None = None, api_key: str | None = None
) -> Endpoint:
    """Connect to the server at a URL, after asking it what it is.

    `api` None takes the native API where there is one. `model` None takes the first that the server
    names. Raises UserError if nobody answers, or the answers are not those of a known server.
    """
    connection = Connection(url, api_key)
    try:
        proof = _get(connection, FACTS_PATH)
        facts = _fingerprint(connection.url, proof)
        info = _get(connection, "/model_info")
        native = "model_path" in info
        if api == "native" and not native:
            raise UserError(f"{url} has no native SGLang API; leave --api out")
        if model is None:
            models = _get(connection, "/v1/models").get("data") or [{}]
            model = models[0].get("id") or info.get("model_path")
        if model is None:
            raise UserError(f"{url} names no model at /v1/models; name one with --model")
        api = api or ("native" if native else "openai")
        return Endpoint(connection, api, model, facts, proof.get("public_key") if facts else None)
    except BaseException:
        connection.close()
        raise


def _fingerprint(url: str, body: dict[str, Any]) -> Fingerprint | None:
    """The server's fingerprint in what it has answered, None if it is no llm42 server.

    Raises UserError if an llm42 server cannot serve, or its facts do not give its fingerprint.
    """
    try:
        of_server = Fingerprint(digest=body["fingerprint"], facts=body["facts"])
    except (KeyError, ValidationError):
        return None
    if fingerprint(of_server.facts) != of_server.digest:
        raise UserError(f"{url}: the facts do not hash to the fingerprint beside them")
    return of_server


def _get(connection: Connection, path: str) -> dict[str, Any]:
    """The JSON object at a path, an empty one if there is none. Raises UserError."""
    try:
        response = connection.client.get(path)
    except httpx.HTTPError as error:
        raise UserError(f"no server answers at {connection.url}: {error!r}") from None
    if response.status_code in (401, 403):
        raise UserError(f"{connection.url} asks for an API key: set LLM42_API_KEY")
    if response.status_code == 503 and "llm42" in response.text:
        raise UserError(f"{connection.url} does not serve: {short(response.text)}")
    try:
        body = response.json() if response.status_code == 200 else None
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}

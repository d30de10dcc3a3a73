"""A server that answers prompts: ours, stock SGLang, or anything that speaks OpenAI's API."""

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
from llm42_sglang.repro.wire import COMPLETIONS, DETAILS, Answer, Api, answer_of, body_of, path_of


@dataclass
class Endpoint(AbstractContextManager):
    """A connected server, for many threads at once. Made by `connect`."""

    connection: Connection
    api: Api  # which one prompts go to
    model: str  # as the server names it
    fingerprint: Fingerprint | None  # None unless the server is ours
    _details: dict[str, int] = field(default_factory=dict)  # by path: index into DETAILS

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    @property
    def ours(self) -> bool:
        """Whether it knows what a deterministic request is."""
        return self.fingerprint is not None

    def ask(self, case: Case, deterministic: bool = True, stream: bool = False) -> Answer:
        """One request to its end. Only a server of ours is told whether it is deterministic.

        Raises UserError if the endpoint refuses it or stops answering.
        """
        path = path_of(case, self.api)
        wish = deterministic if self.ours else None
        for level in range(self._details.get(path, 0), len(DETAILS)):
            body = body_of(case, path, self.model, wish, stream, DETAILS[level])
            reply = self.connection.post(path, body)
            if reply.status not in (400, 422) or path == GENERATE:
                break
        if reply.status in (404, 405) and path == COMPLETIONS:
            raise UserError(f"{path} was answered with {reply.status}; write it as messages")
        reply.require_ok()
        self._details[path] = level  # what is refused of one case alone says nothing of the others
        if stream:
            answer = answer_of(path, [event.data for event in reply.events])
            if answer.output.finish_reason is None:
                raise UserError("the stream ended before the answer did")
            answer = replace(answer, first_token_s=reply.events[0].at_s - reply.sent_s)
        else:
            whole = reply.json()
            exchange = {"path": path, "request": body, "response": whole}
            answer = replace(answer_of(path, [whole]), exchange=exchange)
        return replace(answer, end_to_end_s=reply.done_s - reply.sent_s)

    def flush(self) -> None:
        """Empty the prefix cache, where the server has a way to and is idle."""
        if self.api == "native":
            with suppress(UserError):
                self.connection.flush()


def connect(
    url: str, api: Api | None = None, model: str | None = None, api_key: str | None = None
) -> Endpoint:
    """Find out what answers there. api: None takes the native one where there is one.

    Raises UserError if nobody answers, or nobody that is known.
    """
    connection = Connection(url, api_key)
    try:
        facts = _fingerprint(connection)
        info = _get(connection, "/model_info")
        native = "model_path" in info
        if api == "native" and not native:
            raise UserError(f"{url} has no native SGLang API; leave --api out")
        if model is None:
            models = _get(connection, "/v1/models").get("data") or [{}]
            model = models[0].get("id") or info.get("model_path")
        if model is None:
            raise UserError(f"{url} names no model at /v1/models; name one with --model")
        return Endpoint(connection, api or ("native" if native else "openai"), model, facts)
    except BaseException:
        connection.close()
        raise


def _fingerprint(connection: Connection) -> Fingerprint | None:
    """None where nobody knows such a thing. Raises UserError if a server of ours cannot serve, or
    its facts are not what its fingerprint is a hash of."""
    body = _get(connection, FACTS_PATH)
    try:
        claimed = Fingerprint(digest=body["fingerprint"], facts=body["facts"])
    except (KeyError, ValidationError):
        return None
    if fingerprint(claimed.facts) != claimed.digest:
        raise UserError(f"{connection.url}: the facts do not hash to the fingerprint beside them")
    return claimed


def _get(connection: Connection, path: str) -> dict[str, Any]:
    """An object; an empty one where the server has none."""
    try:
        response = connection.client.get(path)
    except httpx.HTTPError as error:
        raise UserError(f"no server answers at {connection.url}: {error!r}") from None
    if response.status_code in (401, 403):
        raise UserError(f"{connection.url} wants a key: set LLM42_API_KEY")
    if response.status_code == 503 and "llm42" in response.text:
        raise UserError(f"{connection.url} does not serve: {short(response.text)}")
    try:
        body = response.json() if response.status_code == 200 else None
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}

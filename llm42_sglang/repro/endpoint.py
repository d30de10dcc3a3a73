"""A server that answers prompts: ours, stock SGLang, or anything that speaks OpenAI's API."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from llm42_sglang.core.receipts import fingerprint
from llm42_sglang.errors import UserError
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.suite import Case
from llm42_sglang.repro.wire import (
    DETAILS,
    GENERATE,
    Answer,
    Api,
    Exchange,
    answer_of,
    body_of,
    path_of,
    streamed_answer,
)

TIMEOUT_S = 900
CONNECT_S = 10
FLUSH_S = 30  # the server flushes only when idle; it may finish what just ended
FACTS_PATH = "/llm42/fingerprint"
_NOT_THERE = (404, 405)
_REFUSED = (400, 422)


class Endpoint:
    """A connected server, for many threads at once. Made by `connect`.

    api: which one prompts go to. model: as the server names it. fingerprint: None unless the
    server is ours.
    """

    def __init__(
        self,
        client: httpx.Client,
        api: Api,
        model: str,
        fingerprint: Fingerprint | None,
    ) -> None:
        self.client = client
        self.api: Api = api
        self.model = model
        self.fingerprint = fingerprint
        self._details: dict[str, int] = {}  # by path: index into DETAILS

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return str(self.client.base_url).rstrip("/")

    @property
    def ours(self) -> bool:
        """Whether it knows what a deterministic request is."""
        return self.fingerprint is not None

    def ask(self, case: Case, deterministic: bool = True, stream: bool = False) -> Answer:
        """One request to its end. Only a server of ours is told whether it is deterministic.

        Raises UserError if the endpoint refuses it or stops answering.
        """
        path = path_of(case, self.api)
        wanted = deterministic if self.ours else None
        while True:
            level = self._details.get(path, 0)
            body = body_of(case, path, self.model, wanted, stream, DETAILS[level])
            sent_s = time.perf_counter()
            response, events, first_s = self._send(path, body)
            if response.status_code in _REFUSED and path != GENERATE and level + 1 < len(DETAILS):
                self._details[path] = level + 1
                continue
            _require_ok(response, f"case {case.id}: ")
            seconds = time.perf_counter() - sent_s
            if stream:
                answer = streamed_answer(path, events)
                return replace(
                    answer, end_to_end_s=seconds, first_token_s=first_s and first_s - sent_s
                )
            answer = answer_of(path, whole := _json(response))
            return replace(answer, end_to_end_s=seconds, exchange=Exchange(path, body, whole))

    def send(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One body as it stands. Raises UserError."""
        response, _, _ = self._send(path, body | {"stream": False})
        _require_ok(response)
        return _json(response)

    def flush(self) -> None:
        """Empty the prefix cache, where the server has a way to and is idle."""
        if self.api == "native":
            self._request("POST", "/flush_cache", params={"timeout": FLUSH_S})

    def _send(
        self, path: str, body: dict[str, Any]
    ) -> tuple[httpx.Response, list[Any], float | None]:
        """The response, with the events of a stream and the time of the first one."""
        events: list[Any] = []
        first_s = None
        try:
            with self.client.stream("POST", path, json=body) as response:
                if not body.get("stream") or response.status_code != 200:
                    response.read()
                    return response, events, None
                for event in _events(response):
                    first_s = first_s or time.perf_counter()
                    events.append(event)
                return response, events, first_s
        except httpx.HTTPError as error:
            raise UserError(f"{self.url} stopped answering: {error!r}") from None

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self.client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise UserError(f"{self.url} stopped answering: {error!r}") from None


def connect(
    url: str, api: Api | None = None, model: str | None = None, api_key: str | None = None
) -> Endpoint:
    """Find out what answers there. api: None takes the native one where there is one.

    Raises UserError if nobody answers, or nobody that is known.
    """
    client = _client(url, api_key)
    try:
        found = _fingerprint(client)
        info = _get(client, "/model_info")
        native = info is not None and "model_path" in info
        if api == "native" and not native:
            raise UserError(f"{url} has no native SGLang API; leave --api out")
        if model is None:
            model = _only_model(client) or (info or {}).get("model_path")
        if model is None:
            raise UserError(f"{url} names no model at /v1/models; name one with --model")
        return Endpoint(client, api or ("native" if native else "openai"), model, found)
    except BaseException:
        client.close()
        raise


def _client(url: str, api_key: str | None) -> httpx.Client:
    """Users give OpenAI's base URLs with their /v1 and without. Proxies of the environment apply,
    but not for this machine."""
    url = url.rstrip("/").removesuffix("/v1")
    host = urlsplit(url).hostname
    if not url.startswith(("http://", "https://")) or not host:
        raise UserError(f"{url!r} is no URL; it looks like http://localhost:30000")
    return httpx.Client(
        base_url=url,
        timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_S),
        headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
        trust_env=host not in ("localhost", "127.0.0.1", "::1"),
        limits=httpx.Limits(max_connections=None),
    )


def _fingerprint(client: httpx.Client) -> Fingerprint | None:
    """None where nobody knows such a thing. Raises UserError if a server of ours cannot serve, or
    its facts are not what its fingerprint is a hash of."""
    try:
        response = client.get(FACTS_PATH)
    except httpx.HTTPError as error:
        raise UserError(f"no server answers at {client.base_url}: {error!r}") from None
    if response.status_code == 503 and "llm42" in response.text:
        raise UserError(f"{client.base_url} does not serve: {_short(response.text)}")
    try:
        body = response.json() if response.status_code == 200 else {}
        if "fingerprint" not in body:
            return None
        found = Fingerprint(digest=body["fingerprint"], facts=body["facts"])
    except (ValueError, KeyError, TypeError, ValidationError):
        return None
    if fingerprint(found.facts) != found.digest:
        raise UserError(f"{client.base_url}: the facts do not hash to the fingerprint beside them")
    return found


def _only_model(client: httpx.Client) -> str | None:
    models = (_get(client, "/v1/models") or {}).get("data") or [{}]
    return models[0].get("id")


def _get(client: httpx.Client, path: str) -> dict[str, Any] | None:
    """An object, or None where there is none."""
    try:
        response = client.get(path)
        body = response.json() if response.status_code == 200 else None
    except httpx.HTTPError as error:
        raise UserError(f"{client.base_url} stopped answering: {error!r}") from None
    except ValueError:
        return None
    if response.status_code in (401, 403):
        raise UserError(f"{client.base_url} wants a key: set LLM42_API_KEY")
    return body if isinstance(body, dict) else None


def _events(response: httpx.Response) -> Iterator[Any]:
    for line in response.iter_lines():
        if line.startswith("data: {"):
            try:
                yield json.loads(line.removeprefix("data: "))
            except ValueError:
                raise UserError(f"a stream has an event that is not JSON: {line[:200]}") from None


def _require_ok(response: httpx.Response, where: str = "") -> None:
    if response.status_code == 200:
        return
    path, status = response.request.url.path, response.status_code
    hint = "; write it as messages" if status in _NOT_THERE and path == "/v1/completions" else ""
    raise UserError(f"{where}{path} was answered with {status}: {_short(response.text)}{hint}")


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        raise UserError(f"the answer is not JSON: {_short(response.text)}") from None
    if not isinstance(body, dict):
        raise UserError(f"the answer is not one object: {_short(response.text)}")
    return body


def _short(text: str) -> str:
    return " ".join(text.split())[:300]

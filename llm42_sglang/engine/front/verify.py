"""POST /llm42/verify: check a claimed answer. The server asks itself, as `llm42 verify` asks it.

A thread of its own does that, for the checks read and compare whole answers. Its requests go to
the app in this process, through all of its middleware, with the API key that came with the claim.
It ends when the client leaves.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

import anyio.to_thread
import httpx
from fastapi import Request
from fastapi.responses import JSONResponse

from llm42_sglang.core.receipts import VERIFY_PATH
from llm42_sglang.errors import TOO_DEEP, UserError, one_line
from llm42_sglang.frontend.bodies import error_response
from llm42_sglang.repro.claims import verify, worst
from llm42_sglang.repro.connection import Connection
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.documents import parsed
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.exchange import SavedExchange
from llm42_sglang.repro.replay import WORDS

CHECKS = anyio.CapacityLimiter(8)  # that run at once; each has a thread
LOOK_S = 1.0  # how often it is asked whether the client is still there


class InProcess(httpx.BaseTransport):
    """Hands requests of a thread to an ASGI app on an event loop."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop):
        self._app = httpx.ASGITransport(app)
        self._loop = loop
        self._under_way: Future[httpx.Response] | None = None
        self._given_up = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and wait for the whole response."""
        if self._given_up:
            raise httpx.ReadError("the client has gone")
        self._under_way = asyncio.run_coroutine_threadsafe(self._answer(request), self._loop)
        try:
            return self._under_way.result()
        except CancelledError:
            raise httpx.ReadError("the client has gone") from None

    def give_up(self) -> None:
        """End the request that is under way, and let no other begin."""
        self._given_up = True
        if self._under_way is not None:
            self._under_way.cancel()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._app.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)


async def answer(
    request: Request, proof: Mapping[str, Any], keys: Mapping[str, Any], most: int
) -> JSONResponse:
    """The verdict on the exchange in the body of a request, in JSON.

    proof: the server's fingerprint and facts. keys: its public key, if it signs. most: samples that
    a request may have.
    """
    transport = InProcess(request.app, asyncio.get_running_loop())
    api_key = request.headers.get("authorization", "").removeprefix("Bearer ") or None
    facts = Fingerprint(digest=proof["fingerprint"], facts=proof["facts"])
    body = await request.body()
    try:
        connection = Connection("http://127.0.0.1", api_key, transport=transport)
        endpoint = Endpoint(connection, "native", "", facts, keys.get("public_key"))
        check = partial(_verdict, endpoint, body, most)
        under_way = asyncio.create_task(anyio.to_thread.run_sync(check, limiter=CHECKS))
        while not (await asyncio.wait([under_way], timeout=LOOK_S))[0]:
            if await request.is_disconnected():
                transport.give_up()
        return JSONResponse(await under_way)
    except UserError as error:
        return error_response(400, one_line(str(error)))
    except RecursionError:
        return error_response(400, TOO_DEEP)
    finally:
        transport.give_up()


def _verdict(endpoint: Endpoint, body: bytes, most: int) -> dict[str, Any]:
    exchange = parsed(SavedExchange, body.decode(errors="replace"), VERIFY_PATH)
    if len(exchange.answers) > most:
        raise UserError(f"{len(exchange.answers)} answers; at most {most} (--llm42-max-n)")
    results = verify(endpoint, exchange, None, VERIFY_PATH)
    if len(results) == 1:
        return results[0].as_dict()
    samples = [result.as_dict() for result in results]
    return {"verdict": WORDS[worst(results)], "samples": samples}

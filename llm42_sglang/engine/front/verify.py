"""POST /llm42/verify: check a claimed answer. The server asks itself, as `llm42 verify` asks it.

A thread of its own does that, for the checks read and compare whole answers. Its requests go to
the app in this process, through all of its middleware, with the API key that came with the claim.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from llm42_sglang.core.receipts import VERIFY_PATH
from llm42_sglang.errors import UserError
from llm42_sglang.frontend.bodies import error_response
from llm42_sglang.repro.claims import verify, worst
from llm42_sglang.repro.connection import Connection
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.documents import parsed
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.exchange import SavedExchange
from llm42_sglang.repro.replay import WORDS


class InProcess(httpx.BaseTransport):
    """Hands requests of a thread to an ASGI app on an event loop."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop):
        self._app = httpx.ASGITransport(app)
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and wait for the whole response."""
        return asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._app.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)


async def answer(request: Request, proof: Mapping[str, Any], keys: Mapping[str, Any]) -> Any:
    """The verdict on the exchange in the body of a request, in JSON.

    proof: the server's fingerprint and facts. keys: its public key, if it signs.
    """
    transport = InProcess(request.app, asyncio.get_running_loop())
    api_key = request.headers.get("authorization", "").removeprefix("Bearer ") or None
    facts = Fingerprint(digest=proof["fingerprint"], facts=proof["facts"])
    try:
        connection = Connection("http://127.0.0.1", api_key, transport=transport)
        endpoint = Endpoint(connection, "native", "", facts, keys.get("public_key"))
        verdict = await run_in_threadpool(_verdict, endpoint, await request.body())
    except UserError as error:
        return error_response(400, str(error))
    return JSONResponse(verdict)


def _verdict(endpoint: Endpoint, body: bytes) -> dict[str, Any]:
    exchange = parsed(SavedExchange, body.decode(errors="replace"), VERIFY_PATH)
    results = verify(endpoint, exchange, None, VERIFY_PATH)
    if len(results) == 1:
        return results[0].as_dict()
    samples = [result.as_dict() for result in results]
    return {"verdict": WORDS[worst(results)], "samples": samples}

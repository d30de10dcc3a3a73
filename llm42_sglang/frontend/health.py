"""Health: ready, busy or gone.

SGLang's probe asks the scheduler for a token and gives up after 20 seconds, in which a long prefill
answers nobody. A scheduler that has requests is not asked: it is busy as long as its process lives,
for SGLang's watchdog ends one that hangs.
"""

from collections.abc import Callable
from typing import Any

from fastapi.responses import JSONResponse

from llm42_sglang.frontend.bodies import App, error_response

HEALTH_PATHS = ("/health", "/health_generate", "/ready", "/ping")
PROBED = ("/health", "/health_generate")


class HealthGate:
    """ASGI middleware: 503 with the reason while there is a problem, 200 that says busy while
    `in_flight` requests are with schedulers that live, else the app's own answer."""

    def __init__(
        self, app: App, problem: Callable[[], str | None], in_flight: Callable[[], int] = lambda: 0
    ):
        self.app = app
        self.problem = problem
        self.in_flight = in_flight

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope.get("path")
        reason = self.problem() if path in HEALTH_PATHS else None
        if reason is not None:
            await error_response(503, reason)(scope, receive, send)
        elif path in PROBED and (busy := self.in_flight()):
            body = {"status": "busy", "requests_in_flight": busy}
            await JSONResponse(body)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

"""Health of a server: ready, busy or broken.

SGLang's health probe asks the scheduler for a token and gives up after 20 seconds. A long prefill
takes longer, so a busy server would look broken. Therefore a scheduler that has requests is not
asked. It counts as busy while its process lives, and SGLang's watchdog ends a process that hangs.
Nor is one that a trainer has paused: the probe would wait for the end of the pause.
"""

from collections.abc import Callable
from typing import Any

from fastapi.responses import JSONResponse

from llm42_sglang.frontend.bodies import App, error_response

HEALTH_PATHS = ("/health", "/health_generate", "/ready", "/ping")
PROBED = ("/health", "/health_generate")  # these ask the scheduler


class HealthGate:
    """ASGI middleware for the health endpoints.

    While there is a problem the answer is 503 with the reason. While live schedulers have requests
    it is 200 with `{"status": "busy", "requests_in_flight"}`, and while they are paused without any
    it is 200 with `{"status": "paused"}`. Otherwise the app answers itself.

    problem: returns the reason in one line, or None.
    in_flight: returns how many requests live schedulers have.
    paused: returns whether live schedulers are paused.
    """

    def __init__(
        self,
        app: App,
        problem: Callable[[], str | None],
        in_flight: Callable[[], int] = lambda: 0,
        paused: Callable[[], bool] = lambda: False,
    ):
        self.app = app
        self.problem = problem
        self.in_flight = in_flight
        self.paused = paused

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope.get("path")
        reason = self.problem() if path in HEALTH_PATHS else None
        if reason is not None:
            await error_response(503, reason)(scope, receive, send)
        elif path in PROBED and (requests := self.in_flight()):
            body = {"status": "busy", "requests_in_flight": requests}
            await JSONResponse(body)(scope, receive, send)
        elif path in PROBED and self.paused():
            await JSONResponse({"status": "paused"})(scope, receive, send)
        else:
            await self.app(scope, receive, send)

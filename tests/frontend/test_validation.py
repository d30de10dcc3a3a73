"""What FastAPI finds wrong is one line that names the field, and no file of the server."""

import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel

from llm42_sglang.frontend.validation import in_one_line

PATHS = ("/generate", "/v1/messages")


class Body(BaseModel):
    seed: int
    n: int = 1
    stop: list[str] = []
    model: str = ""


async def of_sglang(request: Request, error: RequestValidationError) -> JSONResponse:
    """As http_server.validation_exception_handler does it."""
    text, errors = str(error), str(error.errors())
    message = f"{text} {errors}" if errors and errors != text else text
    return JSONResponse({"message": message}, 400)


def app(handler) -> TestClient:
    served = FastAPI()
    served.add_exception_handler(RequestValidationError, handler)
    for path in PATHS:

        @served.post(path)
        async def answer(body: Body) -> str:
            return "done"

    return TestClient(served)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"seed": {"a": 1}}', "seed: Input should be a valid integer"),
        (b"{}", "seed: Field required"),
        (b'{"seed": 1, "stop": ["a", 5]}', "stop.1: Input should be a valid string"),
        (b"[" * 9, "byte "),
        (b'{"seed": "\\u001b[31m\\n"}', "seed: Input should be a valid integer"),
        (b'{"n": "", "stop": 5, "model": 5}', "; ..."),
    ],
)
def test_a_mistake_is_one_line(body, line):
    headers = {"content-type": "application/json"}
    refused = app(in_one_line(of_sglang)).post(PATHS[0], content=body, headers=headers)
    said = refused.json()["message"]
    assert refused.status_code == 400 and line in said
    assert "\n" not in said and ".py" not in said and len(said) < 2000
    alone = app(of_sglang).post(PATHS[0], content=body, headers=headers)
    assert "\n" in alone.json()["message"]  # negative control


def test_a_text_of_SGLangs_own_stays():
    both = [
        app(handler).post("/v1/messages", json={}).json()["message"]
        for handler in (of_sglang, in_one_line(of_sglang))
    ]
    assert both[0] == both[1]

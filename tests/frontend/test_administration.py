"""The rules of administration endpoints, and the last resort, before an app that checks nothing."""

import json

import pytest
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from llm42_sglang.frontend import last_resort
from llm42_sglang.frontend.administration import RULES, AdministrationGate
from llm42_sglang.frontend.health import HealthGate
from llm42_sglang.frontend.last_resort import LastResort
from tests.engine import hostile_others

HARMFUL = [
    (path, body)
    for path, body, *_ in hostile_others.OTHERS
    if path in RULES and isinstance(body, dict) and (path, body) not in hostile_others.PROFILES
]
app = FastAPI()


@app.post("/raises")
async def raises():
    raise KeyError("temperature")


@app.post("/says")
async def says():
    return JSONResponse({"message": "Internal server error: no such key"}, 500)


@app.websocket("/v1/realtime")
async def talks(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text("welcome")


@app.post("/leaves")
async def leaves():
    def late() -> None:
        raise AttributeError("is_single")

    tasks = BackgroundTasks()
    tasks.add_task(late)
    return JSONResponse("done", background=tasks)


@app.post("/begins")
@app.post("/api/generate")
async def begins():
    async def events():
        if True:
            raise ValueError("too many tokens")
        yield "never"

    return StreamingResponse(events())


@app.post("/breaks")
async def breaks():
    async def events():
        yield 'data: {"text": "a"}\n\n'
        raise TypeError("n is\nNone")

    return StreamingResponse(events(), media_type="text/event-stream")


@app.post("/read")
@app.post("/api/chat")
async def read(request: Request):
    return len(await request.body())


@app.post("/{path:path}")
async def done(path: str):
    return "done"


@app.get("/health")
async def probed():
    return "asked the scheduler"


@pytest.mark.parametrize(("path", "body"), HARMFUL)
def test_rules_hold_or_say_what_to_do(path, body):
    gated = TestClient(AdministrationGate(app, lambda name: None)).post(path, json=body)
    alone = TestClient(app).post(path, json=body)
    passes = [("/abort_request", {"rid": 5}), ("/abort_request", {"rid": "nobody"})]
    harmless = (path, body) in [*passes, ("/get_weights_by_name", {"name": "none"})]
    assert alone.status_code == 200
    assert gated.status_code == (200 if harmless else 400), gated.text
    assert harmless or path in gated.json()["error"]["message"]


def test_websockets_are_refused_before_they_are_accepted():
    with TestClient(app).websocket_connect("/v1/realtime") as alone:
        assert alone.receive_text() == "welcome"
    gated = TestClient(AdministrationGate(app, lambda name: None))
    with pytest.raises(WebSocketDisconnect), gated.websocket_connect("/v1/realtime"):
        pytest.fail("it was accepted")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("MAX_BYTES", b"x" * 50),
        ("MAX_COMMAS", b"[" + b"," * 50),
        ("MAX_BRACKETS", b"[{" * 25),
        ("MAX_QUOTES", b"[" + b'"\\""' * 25),
        ("MAX_WORDS", b"[" + b"null," * 50),
        ("MAX_COMMAS", '["\u2200\\""'.encode("utf-16") + ("," * 50).encode("utf-16")),
    ],
)
def test_a_body_that_takes_long_to_read_is_refused(monkeypatch, name, body):
    assert read_in_parts(body) == 200
    monkeypatch.setattr(last_resort, name, 49)
    assert read_in_parts(body) == 413


def test_what_fails_after_an_answer_does_not_break_the_connection():
    assert TestClient(LastResort(app, lambda: None)).post("/leaves").json() == "done"
    with pytest.raises(AttributeError):  # negative control
        TestClient(app).post("/leaves")


def test_a_stream_that_fails_at_its_beginning_is_refused():
    client = TestClient(LastResort(app, lambda: None), raise_server_exceptions=False)
    refused = client.post("/api/generate")
    assert refused.status_code == 400 and "too many tokens" in refused.json()["error"]["message"]
    assert client.post("/begins").status_code == 200  # negative control: it has begun


def test_a_stream_that_breaks_off_ends_with_the_reason():
    events = TestClient(LastResort(app, lambda: None)).post("/breaks").text.split("\n\n")
    first, last, *end = events
    assert (first, end) == ('data: {"text": "a"}', ["data: [DONE]", ""])
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["message"] == "llm42: the request could not be served: TypeError: n is None"
    with pytest.raises(TypeError):  # the server itself has a problem
        TestClient(LastResort(app, lambda: "gone")).post("/breaks")


def test_where_texts_are_read_in_the_event_loop_less_is_allowed(monkeypatch):
    monkeypatch.setattr(last_resort, "MAX_BYTES_IN_LOOP", 49)
    assert [read_in_parts(b"x" * 50, path) for path in ("/read", "/api/chat")] == [200, 413]


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": "' + rb"[1],{a}\\\"" * 40 + b'"}',  # of a code prompt
        b"--boundary\r\n" + b"[{,null" * 50,  # of a file
    ],
)
def test_what_is_text_does_not_count(monkeypatch, body):
    for name in ("MAX_COMMAS", "MAX_BRACKETS", "MAX_QUOTES", "MAX_WORDS"):
        monkeypatch.setattr(last_resort, name, 9)
    assert read_in_parts(body) == 200


def read_in_parts(body: bytes, path: str = "/read") -> int:
    """The status. The parts' lengths are told to nobody, and cut escapes in two."""
    served = FastAPI(routes=app.routes)
    served.add_middleware(LastResort, problem=lambda: None)
    parts = (body[i : i + 7] for i in range(0, len(body), 7))
    return TestClient(served).post(path, content=parts).status_code


@pytest.mark.parametrize("path", ["/raises", "/says"])
def test_a_500_is_the_requests_fault_while_the_server_lives(path):
    problem: list[str | None] = [None]
    served = FastAPI(routes=app.routes)
    served.add_middleware(LastResort, problem=lambda: problem[0])
    client = TestClient(served, raise_server_exceptions=False)
    response = client.post(path, json={})
    assert response.status_code == 400
    assert "could not be served" in response.json()["error"]["message"]
    problem[0] = "gone"
    assert client.post(path, json={}).status_code == 500


def test_health_tells_busy_from_paused_from_idle_and_from_gone():
    def ask(problem: str | None, in_flight: int, paused: bool = False):
        gate = HealthGate(app, lambda: problem, lambda: in_flight, lambda: paused)
        return TestClient(gate).get("/health")

    assert ask(None, 3).json() == {"status": "busy", "requests_in_flight": 3}
    assert ask(None, 3, True).json() == {"status": "busy", "requests_in_flight": 3}
    assert ask(None, 0, True).json() == {"status": "paused"}
    assert ask(None, 0).json() == "asked the scheduler"
    assert ask("gone", 3).status_code == ask("gone", 0, True).status_code == 503

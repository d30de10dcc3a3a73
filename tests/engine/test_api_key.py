"""The server's API keys hold on every route of the app, ours and SGLang's, as SGLang's rule says.

The routes are the real ones, and SGLang's own function puts the keys before them. A probe stands
where a route would go on. No server.
"""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from sglang.srt.entrypoints import http_server
from sglang.srt.utils import auth
from sglang.srt.utils.auth import AuthLevel, decide_request_auth
from starlette.routing import Route

from llm42_sglang.core.config import Config
from llm42_sglang.core.receipts import FACTS_PATH, VERIFY_PATH
from llm42_sglang.engine.front import keys
from llm42_sglang.engine.front.gatekeeper import Gatekeeper

KEY, ADMIN = "key", "admin"
GIVEN = (None, KEY, ADMIN, "other", "", "k\xe9y")
CONFIGURED = [(KEY, None), (None, ADMIN), (KEY, ADMIN)]
REACHED = PlainTextResponse("the route", status_code=299)
# What the gates look at before a route does. None of it may be looked at without the key.
REFUSED_BY_A_GATE = {"deterministic": "x", "rid": "", "mode": "x", "truncate_size": -1}


def probed(routes: list) -> list:
    """Copies of the routes, of which none does anything."""
    copies = [copy.copy(route) for route in routes if isinstance(route, Route)]
    for route in copies:
        route.app = REACHED
    return copies


def served(monkeypatch, api_key: str | None, admin_api_key: str | None, gate_first: bool = True):
    """The app as it is when the server listens."""
    app = FastAPI(routes=http_server.app.routes)
    for of_error, handler in http_server.app.exception_handlers.items():
        app.add_exception_handler(of_error, handler)
    flags = dict.fromkeys(("enable_http2", "enable_ssl_refresh", "ssl_certfile"))
    serving = SimpleNamespace(
        **{"tokenizer_worker_num": 1, "api_key": api_key, "admin_api_key": admin_api_key},
        **{"host": "x", "port": 1, "fastapi_root_path": "", "ssl_keyfile": None},
        **{"ssl_ca_certs": None, "ssl_keyfile_password": None, **flags},
    )
    nothing = lambda *args, **kwargs: None  # noqa: E731
    decide = partial(keys.decide, auth.decide_request_auth)
    monkeypatch.setattr(auth, "decide_request_auth", decide)
    monkeypatch.setattr(http_server, "app", app)
    monkeypatch.setattr(http_server, "get_serving", lambda: serving)
    levels = SimpleNamespace(log_level_http=0, log_level=0)
    monkeypatch.setattr(http_server, "get_observability", lambda: levels)
    monkeypatch.setattr(http_server, "set_global_state", nothing)
    monkeypatch.setattr(http_server, "set_uvicorn_logging_configs", nothing)
    uvicorn = SimpleNamespace(Config=nothing, Server=lambda config: SimpleNamespace(run=nothing))
    monkeypatch.setattr(http_server, "uvicorn", uvicorn)
    gate = Gatekeeper(Config()).gate_app
    steps = [gate, lambda: run_server(http_server)]
    for step in steps if gate_first else reversed(steps):
        step()
    app.router.routes[:] = probed(app.router.routes)
    return app


def run_server(module) -> None:
    """SGLang's own function, up to where it would listen."""
    manager = SimpleNamespace(set_server_stop_hook=lambda hook: None)
    module._setup_and_run_http_server(SimpleNamespace(), manager, None, None, [{}], None)


def unlocked(app: FastAPI, api_key: str | None, admin_api_key: str | None) -> list:
    """Requests that SGLang's rule denies, and that get another answer than its own."""
    client = TestClient(app, raise_server_exceptions=False)
    wrong = []
    for route in app.router.routes:
        level = getattr(route.endpoint, "_auth_level", AuthLevel.NORMAL)
        path = route.path.replace("{", "").replace("}", "").replace(":path", "")
        for method in route.methods:
            for given in GIVEN:
                header = {} if given is None else {"Authorization": f"Bearer {given}".encode()}
                known = given if given is None or given.isascii() else "no key"
                rule = decide_request_auth(
                    method=method,
                    path=path,
                    authorization_header=None if known is None else f"Bearer {known}",
                    api_key=api_key,
                    admin_api_key=admin_api_key,
                    auth_level=level,
                )
                body = REFUSED_BY_A_GATE if method in ("POST", "PUT", "DELETE") else None
                status = client.request(method, path, headers=header, json=body).status_code
                denied = status in (401, 403)
                if denied is rule.allowed or (denied and status != rule.error_status_code):
                    wrong.append((method, path, given, status))
    return wrong


@pytest.mark.parametrize(("api_key", "admin_api_key"), CONFIGURED)
def test_every_route_is_locked_as_SGLang_locks_it(monkeypatch, api_key, admin_api_key):
    app = served(monkeypatch, api_key, admin_api_key)
    paths = {route.path for route in app.router.routes}
    assert {FACTS_PATH, VERIFY_PATH, "/generate", "/abort_request"} <= paths and len(paths) > 60
    assert unlocked(app, api_key, admin_api_key) == []


def test_negative_control_gates_before_the_lock(monkeypatch):
    """They would answer whoever asks."""
    app = served(monkeypatch, KEY, None, gate_first=False)
    assert ("POST", "/generate", None, 400) in unlocked(app, KEY, None)


def test_negative_control_without_the_lock(monkeypatch):
    app = served(monkeypatch, None, None)
    found = unlocked(app, KEY, None)
    assert ("GET", FACTS_PATH, None, 503) in found or ("GET", FACTS_PATH, None, 299) in found


def test_negative_control_a_key_that_is_not_ascii_alone():
    with pytest.raises(TypeError):
        decide_request_auth(
            method="GET",
            path=FACTS_PATH,
            authorization_header="Bearer k\xe9y",
            api_key=KEY,
            admin_api_key=None,
            auth_level=AuthLevel.NORMAL,
        )

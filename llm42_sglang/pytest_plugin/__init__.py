"""A pytest plugin: assert that a model's answers are reproducible, and are the recorded ones.

    def test_capital(assert_reproducible):
        answer = assert_reproducible("The capital of France is", max_tokens=16)
        assert "Paris" in answer.text

The session starts one server, or uses that of --llm42-url, LLM42_URL or the ini option. `pytest
--llm42-update` records answers beside the test. pytest loads this plugin in every project of an
environment that has it, so it imports nothing else of this package before a fixture is used.
"""

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llm42_sglang.pytest_plugin.reproducible import Reproducible
    from llm42_sglang.repro.endpoint import Endpoint

MARKER = "llm42"
URL, UPDATE = "llm42_url", "llm42_update"
FIXTURES = {"llm42_url", "llm42_endpoint", "assert_reproducible"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("llm42", "reproducible answers")
    group.addoption("--llm42-url", dest=URL, help="a running server; default: start one")
    group.addoption(
        "--llm42-update",
        dest=UPDATE,
        action="store_true",
        help="record the answers if they are the same under all conditions",
    )
    parser.addini("llm42_url", "a running server; default: start one")
    parser.addini("llm42_command", "the command that starts a server; {port} is the port")
    parser.addini("llm42_in_flight", "requests under way at once, in load", default="8")
    parser.addini("llm42_conditions", "conditions of each prompt; default: all", type="args")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(**sampling): how the prompts of this test are sampled; every test that uses an "
        "llm42 fixture has the marker",
    )
    workers = getattr(config.option, "numprocesses", None)
    if config.getoption(UPDATE) and workers:
        raise pytest.UsageError(
            "leave out -n: workers would share files that --llm42-update writes"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKER)


@pytest.fixture(scope="session")
def llm42_url(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of the session's server. The session starts one if none is named."""
    url = pytestconfig.getoption(URL) or os.environ.get("LLM42_URL") or pytestconfig.getini(URL)
    if url:
        yield url
        return
    from llm42_sglang.cli.launch import ServerProcess
    from llm42_sglang.cli.signals import as_ctrl_c
    from llm42_sglang.pytest_plugin.reproducible import failing

    argv = shlex.split(pytestconfig.getini("llm42_command")) or None  # None: llm42 serve
    log = tmp_path_factory.mktemp("llm42") / "server.log"
    with failing(), as_ctrl_c(), ServerProcess(argv=argv, log_path=log) as server:
        yield server.url


@pytest.fixture(scope="session")
def llm42_endpoint(llm42_url: str) -> "Iterator[Endpoint]":
    """A connection to the session's server."""
    from llm42_sglang.pytest_plugin.reproducible import failing
    from llm42_sglang.repro.endpoint import connect

    with failing():
        endpoint = connect(llm42_url)
    with endpoint:
        yield endpoint


@pytest.fixture
def assert_reproducible(
    request: pytest.FixtureRequest, llm42_endpoint: "Endpoint"
) -> "Reproducible":
    """A function of a prompt or messages, and of sampling parameters, that returns the answer."""
    from llm42_sglang.pytest_plugin.reproducible import Reproducible, failing

    with failing():
        return Reproducible.of(request, llm42_endpoint, update=request.config.getoption(UPDATE))

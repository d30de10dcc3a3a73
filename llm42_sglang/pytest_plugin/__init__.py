"""pytest plugin: assert that a model's answers are reproducible, and the recorded ones.

    def test_capital(assert_reproducible):
        answer = assert_reproducible("The capital of France is", max_tokens=16)
        assert "Paris" in answer.text

A server is started once a session, or named by --llm42-url, LLM42_URL or the ini option. Answers
are recorded beside the test by `pytest --llm42-update`. Nothing of this package is imported before
a fixture is used: pytest loads the plugin in every project of an environment that has it.
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
        help="record the answers, if they are the same under all conditions",
    )
    parser.addini("llm42_url", "a running server; default: start one")
    parser.addini("llm42_command", "what starts a server; {port} stands for the port")
    parser.addini("llm42_in_flight", "requests under way at once, under load", default="8")
    parser.addini("llm42_conditions", "under which each prompt is asked", type="args")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(**sampling): a test of reproducible answers, and how its prompts are sampled; "
        "tests that use the fixtures have it by themselves",
    )
    workers = getattr(config.option, "numprocesses", None)
    if config.getoption(UPDATE) and workers:
        raise pytest.UsageError("--llm42-update writes files that workers share: drop -n")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKER)


@pytest.fixture(scope="session")
def llm42_url(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of the session's server."""
    named = pytestconfig.getoption(URL) or os.environ.get("LLM42_URL") or pytestconfig.getini(URL)
    if named:
        yield named
        return
    from llm42_sglang.cli.launch import ServerProcess
    from llm42_sglang.pytest_plugin.reproducible import failing

    argv = shlex.split(pytestconfig.getini("llm42_command")) or None  # None: llm42 serve
    log = tmp_path_factory.mktemp("llm42") / "server.log"
    with failing(), ServerProcess(argv=argv, log_path=log) as server:
        yield server.url


@pytest.fixture(scope="session")
def llm42_endpoint(llm42_url: str) -> "Iterator[Endpoint]":
    """The server, connected."""
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
    """Call it with a prompt, or with messages, and how to sample; it returns the answer."""
    from llm42_sglang.pytest_plugin.reproducible import Reproducible, failing

    with failing():
        return Reproducible.of(request, llm42_endpoint, update=request.config.getoption(UPDATE))

"""Fixtures for tests on real servers, which are run server by server.

A test says by its mark which server it wants: `pytest.mark.server("tiny")`. A test that starts its
servers itself has the bare mark.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from llm42_sglang.cli.main import main
from tests.engine import client, constrained
from tests.engine.preloaded import preload
from tests.engine.servers import CONFIGURATIONS, ENV, Servers
from tests.engine.weights import Weights, fingerprint
from tests.fire.drill import Right

# Prompts that end before, at and after a page's end, a chat, and one that is sampled.
SUITE = """
sampling: {max_tokens: 40, ignore_eos: true}
cases:
  - {id: short, prompt: The moon is}
  - {id: long, prompt: "%s"}
  - {id: chat, messages: [{role: user, content: Name three colours.}]}
  - {id: sampled, prompt: A song about the sea, sampling: {temperature: 0.9, seed: 7}}
""" % ("Once upon a time there was a small town by the sea. " * 5)


def llm42(*arguments: object) -> int:
    """Run a command in this process; its exit status."""
    with pytest.raises(SystemExit) as left:
        main(list(map(str, arguments)))
    return left.value.code


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests without a server first, then server by server, in the order of CONFIGURATIONS. The
    mark of a test that ends its server says `last=True`."""
    order = [None, *CONFIGURATIONS]

    def place(item: pytest.Item) -> tuple[int, bool]:
        mark = item.get_closest_marker("server")
        if mark is None or not mark.args:
            return (len(order) if mark else 0), False
        return order.index(mark.args[0]), mark.kwargs.get("last", False)

    items.sort(key=place)


SERVERS = pytest.StashKey[Servers]()


@pytest.fixture(scope="session")
def servers(tmp_path_factory, pytestconfig) -> Iterator[Servers]:
    preload(ENV)
    servers = Servers(tmp_path_factory.mktemp("servers"))
    pytestconfig.stash[SERVERS] = servers
    try:
        yield servers
    finally:
        servers.stop()


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if (servers := config.stash.get(SERVERS, None)) is not None:
        starts = [f"{name} {seconds:.0f} s" for name, seconds in servers.seconds.items()]
        counted = f"{len(starts)} of {len(CONFIGURATIONS)} servers started"
        terminalreporter.write_line(f"{counted}: {', '.join(starts)}")


@dataclass(frozen=True)
class Recorded:
    """What the server "tiny" answered one by one: what the others must reproduce."""

    reference: list[client.Answer]  # to `client.prompts()`
    constrained: list[client.Answer]  # to `constrained.requests` of these
    drilled: Right  # to the requests of drills
    golden: Path  # SUITE, with its receipts in the folder `receipts` beside it


@pytest.fixture(scope="session")
def recorded(servers, tmp_path_factory) -> Recorded:
    """All at once, for "tiny" is started only once."""
    folder, url = tmp_path_factory.mktemp("golden"), servers.url("tiny")
    reference = client.run(url, in_flight=1)
    answers = client.ask_all(url, constrained.requests(reference), in_flight=1)
    suite, golden = folder / "suite.yaml", folder / "golden.json"
    suite.write_text(SUITE)
    arguments = ("--url", url, "--out", golden, "--receipts", folder / "receipts")
    assert llm42("record", suite, *arguments) == 0
    return Recorded(reference, answers, Right.of(url), golden)


@pytest.fixture
def reference(recorded) -> list[client.Answer]:
    return recorded.reference


@pytest.fixture
def golden(recorded) -> Path:
    return recorded.golden


@pytest.fixture
def url(servers, request) -> str:
    """The URL of the server that the test's mark names."""
    (name,) = request.node.get_closest_marker("server").args
    # Before any other server is started. Some tests of "other weights" compare with "tiny".
    compared = {"recorded", "reference", "golden"} & {*request.fixturenames}
    if compared or name in ("tiny", "other weights"):
        request.getfixturevalue("recorded")
    return servers.url(name)


@pytest.fixture
def api(url) -> openai.OpenAI:
    """OpenAI's own client of that server."""
    http = httpx.Client(trust_env=False, timeout=client.TIMEOUT_S)
    return openai.OpenAI(base_url=f"{url}/v1", api_key="-", http_client=http, max_retries=0)


@pytest.fixture
def weights(url, servers):
    """A server has its own weights again at the end, and they have the old name."""
    model = servers.configuration.model.partition(",")[0]
    both = Weights(url, servers.folder, model)
    before = fingerprint(url)
    yield both
    own = both.plain if servers.configuration.model == model else both.changed
    assert both.update(own, weight_version="default") == before

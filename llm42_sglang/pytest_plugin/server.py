"""The session's server. What a user can get wrong ends in a line, not in a traceback."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.errors import UserError
from llm42_sglang.repro.endpoint import Endpoint, connect


@contextmanager
def started(command: str, log_path: Path) -> Iterator[str]:
    """The URL of a server that runs in the block; without a command `llm42 serve`."""
    server = ServerProcess(argv=shlex.split(command) or None, log_path=log_path)
    with _failing():
        server.start()
    try:
        yield server.url
    finally:
        server.stop()


def connected(url: str) -> Endpoint:
    """To be used as a context manager."""
    with _failing():
        return connect(url)


@contextmanager
def _failing() -> Iterator[None]:
    """A UserError becomes the test's failure, without the history of both."""
    try:
        yield
    except UserError as error:
        failure = pytest.fail.Exception(f"llm42: {error}", pytrace=False)
        raise failure from None

"""The list of servers: nobody starts one that is not in it, or one twice."""

import pytest

from tests.engine.servers import CONFIGURATIONS, Servers


def test_a_server_is_started_once(tmp_path):
    servers = Servers(tmp_path)
    servers.seconds["tiny"] = 9.0
    with pytest.raises(AssertionError, match="a second time"):
        servers.make("tiny")
    with pytest.raises(KeyError):
        servers.make("another")


def test_every_server_of_the_list_is_asked_by_a_test(request):
    """By its mark, or by name in a test that starts it itself."""
    texts = [file.read_text() for file in request.path.parent.glob("test_*.py")]
    assert [name for name in CONFIGURATIONS if not any(f'"{name}"' in t for t in texts)] == []

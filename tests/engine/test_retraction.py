"""Retraction: the engine takes a request's KV back in the middle of a page and starts it again.

On small pages, in a small group, with a short wait: another shape of the canonical pass, and other
times for it, are tested as well.
"""

import pytest

from tests.engine import client
from tests.engine.conftest import Server

pytestmark = pytest.mark.server

SHAPE = ("--llm42-page", "16", "--llm42-group", "4", "--llm42-wait", "6")
# SGLang's own switch: a retraction every few steps while more than one request decodes.
SERVER = Server(
    (*SHAPE, "--max-total-tokens", "8000", "--chunked-prefill-size", "64"),
    env=(("SGLANG_TEST_RETRACT", "1"), ("SGLANG_TEST_RETRACT_INTERVAL", "12")),
)
SHORT = slice(1, 6)


def test_retracted_requests_answer_as_ever(servers):
    url = servers.url(SERVER)
    alone = client.run(url, in_flight=1, only=SHORT)
    assert sum(answer.meta["num_retractions"] for answer in alone) == 0
    client.flush(url)
    with client.ordinary_traffic(url, streams=1):
        crowded = client.run(url, in_flight=5, shuffle=5, only=SHORT)
    assert client.ids_of(crowded) == client.ids_of(alone)
    assert sum(answer.meta["num_retractions"] for answer in crowded) > 0
    assert all(answer.meta["llm42"]["verified"] for answer in crowded)

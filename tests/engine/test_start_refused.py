"""Servers that must not start, or must not look healthy."""

import os

import pytest

from llm42_sglang.cli.launch import ServerError
from llm42_sglang.errors import UserError
from tests.engine import client
from tests.engine.preloaded import Forked
from tests.engine.servers import ENV, errors_in

pytestmark = pytest.mark.server


def test_a_false_assumption_that_one_rank_sees_keeps_all_from_starting(servers):
    """The others, and what each comparison finds: `test_certify.py`."""
    server = servers.make("rank 1")
    with pytest.raises(ServerError, match="ended with status"):
        server.start()
    log = server.log_path.read_text()
    (said,) = {*errors_in(log)}
    assert "assumption A1" in said
    assert "Traceback" not in log


PAST_THE_VOCABULARY = {"text": "Hi", "return_logprob": True, "top_logprobs_num": 60000}


class _SeenEnough(Exception):
    """Ends the wait for a health that never comes."""


def test_health_is_not_200_without_hooks_and_without_bounds_a_request_ends_the_server(servers):
    server = servers.make("no hooks")
    chat = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
    chat |= {"deterministic": True, "stream": True}
    asked = {"/generate": client.body([5]), "/v1/chat/completions": chat}
    responses = []

    def ask(seconds: float, line: str) -> None:
        if "The server is fired up" in server.log_path.read_text():
            for path, body in asked.items():
                request = client.post(server.url, body, path=path)
                responses.append((request.status, request.text))
            health = client.get(server.url, "/health")
            responses.append((health.status_code, health.text))
            with pytest.raises(UserError):  # negative control of `test_hostile`
                client.post(server.url, PAST_THE_VOCABULARY)
            raise _SeenEnough

    server._progress = ask
    with pytest.raises(_SeenEnough):
        server.start()
    assert [status for status, _ in responses] == [503, 503, 503]
    assert all("not live" in text for _, text in responses)


BAD_FLAGS = {
    "--llm42-page 24": "choose one of 16, 32, 64",
    "--llm42-page many": "--llm42-page",
    "--llm42-group 3": "choose one of 1, 2, 4",
    "--page-size 64": "use --llm42-page",
    "--max-total-tokens lots": "--max-total-tokens",
    "--no-such-flag": "--no-such-flag",
    "--enable-mixed-chunk": "--enable-mixed-chunk",
    "--model-path /no/such/model": "/no/such/model",
    "--tp-size 3 --nnodes 2 --dist-init-addr 127.0.0.1:9": "tp_size must be divisible",
    "--chunked-prefill-size 100": "chunked_prefill_size must be divisible by page_size",
}


@pytest.mark.parametrize("flags", BAD_FLAGS)
def test_bad_flags_are_one_line(servers, tmp_path, flags):
    log = tmp_path / "log"
    status = Forked(["serve", *flags.split()], os.environ | ENV, log).wait(timeout=120)
    text = log.read_text()
    (line,) = errors_in(text)
    assert status != 0
    assert BAD_FLAGS[flags] in line
    assert "Traceback" not in text

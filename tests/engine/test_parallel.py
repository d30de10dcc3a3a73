"""Tensor and data parallelism, of a mixture of experts: two ranks on two nodes or on one, and two
replicas, over gloo."""

import time
from concurrent.futures import ThreadPoolExecutor as pool_of

import httpx
import pytest

from llm42_sglang.errors import UserError
from llm42_sglang.repro.endpoint import connect
from tests.engine import client, matrix
from tests.engine.servers import errors_in


@pytest.fixture(scope="session")  # tests of other files come in between
def seen() -> dict[str, dict]:
    """By server: the facts of its fingerprint, and for "alone" the answers of the matrix."""
    return {}


def facts(url: str) -> dict:
    return client.get(url, "/llm42/fingerprint").json()["facts"]


def fingerprints(answers) -> set[str]:
    return {answer.receipt["fingerprint"] for answer in answers}


@pytest.mark.server("two nodes")
def test_two_ranks_on_two_nodes_give_one_answer(url, seen):
    answers = matrix.run(url, perturbed=True)
    seen["two nodes"], seen["alone"] = facts(url), answers
    assert (seen["two nodes"]["tp"], seen["two nodes"]["nodes"]) == (2, 2)
    assert len(fingerprints(answers)) == 1


@pytest.mark.server("two nodes", last=True)
def test_a_node_that_is_killed_ends_the_others_and_whoever_waits_is_told(servers, url):
    server = servers.forget()
    with pool_of(1) as pool:
        asked = pool.submit(client.post, url, client.body([5, 6, 7], max_new_tokens=1500))
        time.sleep(1)
        (scheduler,) = server.other.schedulers()
        scheduler.kill()
        with pytest.raises((httpx.HTTPError, UserError)):
            asked.result(timeout=60).require_ok()
    assert server._process.wait(timeout=60) != 0
    assert server.other.wait() != 0
    (said,) = {*errors_in(server.log_path.read_text())}
    assert "another rank may have ended" in said
    assert "a scheduler of node 1 has ended with status -9" in server.other.log_path.read_text()


@pytest.mark.server("two replicas")
def test_the_replicas_give_the_same_bits(url, seen):
    """The matrix over both, then every request on one and on the other."""
    matrix.run(url, perturbed=True)
    seen["two replicas"] = facts(url)
    requests = [client.body(ids) | {"return_logprob": True} for ids in client.prompts()[3:7]]
    ones = [
        client.ask_all(url, [one | {"routed_dp_rank": replica} for one in requests], in_flight=4)
        for replica in (0, 1)
    ]
    assert [{answer.meta["dp_rank"] for answer in one} for one in ones] == [{0}, {1}]
    assert client.ids_of(ones[0]) == client.ids_of(ones[1])
    digests = [[answer.meta["llm42"]["output_digest"] for answer in one] for one in ones]
    logprobs = [[answer.meta["output_token_logprobs"] for answer in one] for one in ones]
    assert digests[0] == digests[1] and logprobs[0] == logprobs[1]
    assert len({answer.meta["llm42"]["fingerprint"] for one in ones for answer in one}) == 1


@pytest.mark.server("two replicas")
def test_the_number_of_ranks_is_in_the_fingerprint(url, seen):
    """The model is the same, its weights are divided otherwise."""
    if "two nodes" not in seen:
        pytest.skip('needs the server "two nodes" in the same run')
    one, two = seen["two replicas"], seen["two nodes"]
    assert {name for name in two if one.get(name) != two[name]} == {"tp", "nodes", "weights"}


@pytest.mark.server
def test_one_node_gives_the_bits_of_two_and_a_rank_that_disagrees_ends_the_server(servers, seen):
    """Rank 1 draws other tokens than rank 0, some passes after its certification. Long prompts that
    the cache does not know take many passes."""
    if "alone" not in seen:
        pytest.skip('needs the answers of the server "two nodes" in the same run')
    text = client.prompts()[9]
    rounds = [[client.body(text[4 * i + j :]) for j in range(4)] for i in range(40)]
    with servers.make("a rank strays") as server:
        with connect(server.url) as endpoint:
            alone = matrix.answers(endpoint, "alone")
        matrix.require_equal(seen["alone"], alone)
        with pytest.raises((httpx.HTTPError, AssertionError, UserError)):
            for requests in rounds:
                client.ask_all(server.url, requests, in_flight=4)
        assert server._process.wait(timeout=120) != 0
        (said,) = {*errors_in(server.log_path.read_text())}
        assert "rank 1 disagrees with rank 0" in said

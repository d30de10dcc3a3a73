"""Tensor and data parallelism, of a mixture of experts: two ranks, two replicas, over gloo."""

import re

import httpx
import pytest

from llm42_sglang.cli.launch import ServerProcess, local_client
from llm42_sglang.core.receipts import FACTS_PATH
from tests.engine import client, matrix
from tests.engine.conftest import CORES
from tests.engine.tiny_models import FP32

pytestmark = pytest.mark.server

TENSOR, DATA = ("--tp-size", "2"), ("--dp-size", "2")


def facts(url: str) -> dict:
    with local_client(url, client.TIMEOUT_S) as http:
        return http.get(FACTS_PATH).json()["facts"]


@pytest.fixture(scope="module")
def two_ranks(servers, tiny) -> tuple[list[client.Answer], dict]:
    """The matrix's answers, and the facts of the fingerprint."""
    url = servers.url(tiny("qwen3_moe", *FP32, *TENSOR, LLM42_FAULT="decode", **CORES))
    return matrix.run(url), facts(url)


@pytest.fixture(scope="module")
def two_replicas(servers, tiny, two_ranks) -> str:
    return servers.url(tiny("qwen3_moe", *FP32, *DATA, LLM42_FAULT="decode", **CORES))


def test_two_ranks_give_one_answer(two_ranks):
    answers, facts = two_ranks
    assert facts["tp"] == 2
    assert len({answer.meta["llm42"]["fingerprint"] for answer in answers}) == 1


def test_the_replicas_give_the_same_bits(two_replicas):
    """The matrix over both, then every request on one and on the other."""
    matrix.run(two_replicas)
    ones = [
        client.ask_all(two_replicas, matrix.requests(routed_dp_rank=replica), in_flight=4)
        for replica in (0, 1)
    ]
    assert [{answer.meta["dp_rank"] for answer in one} for one in ones] == [{0}, {1}]
    assert matrix.bits_of(ones[0]) == matrix.bits_of(ones[1])
    assert len({answer.meta["llm42"]["fingerprint"] for one in ones for answer in one}) == 1


def test_the_number_of_ranks_is_in_the_fingerprint(two_ranks, two_replicas):
    """The model is the same, its weights are divided otherwise."""
    one, two = facts(two_replicas), two_ranks[1]
    assert {name for name in one if one[name] != two[name]} == {"tp", "weights"}


def test_a_rank_that_disagrees_ends_the_server(tiny, servers, tmp_path):
    """Rank 1 draws other tokens than rank 0, some passes after its certification."""
    servers.stop()
    configuration = tiny("qwen3", *TENSOR, "--llm42-tune", LLM42_FAULT="rank1,stray", **CORES)
    log_path = tmp_path / "server.log"
    env = dict(configuration.env)
    with ServerProcess(configuration.args, log_path=log_path, env=env) as server:
        tuned = re.findall(r"llm42: tuned: .*", log_path.read_text())
        assert len(tuned) == 2 and len(set(tuned)) == 1  # each rank by the first one's costs
        with pytest.raises((httpx.HTTPError, AssertionError)):
            for _ in range(20):  # each takes several passes
                client.ask_all(server.url, matrix.requests(), in_flight=12)
        _wait_for_end(server)
        (said,) = _errors(log_path.read_text())
    assert "rank 1 disagrees with rank 0" in said


def _errors(log: str) -> set[str]:
    """What the ranks and replicas have said before they left; the same, if all is well."""
    return set(re.findall(r"^llm42: error(?: on rank \d of replica \d)?: (.*)", log, re.M))


def _wait_for_end(server: ServerProcess) -> None:
    assert server._process.wait(timeout=120) != 0

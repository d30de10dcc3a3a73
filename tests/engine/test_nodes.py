"""Nodes that are alike start, others are named. Real stores, no server."""

import json
import threading
import time
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace

import msgspec
import pytest
import torch
import torch.distributed as dist
from sglang.srt.server_args import ServerArgs

from llm42_sglang.cli.launch import free_port
from llm42_sglang.core.config import Config
from llm42_sglang.engine.errors import RanksDisagreeError, UnsupportedError
from llm42_sglang.engine.front import followers
from llm42_sglang.engine.passes.ranks import nobody_lost
from llm42_sglang.engine.start import launch, nodes, ready
from llm42_sglang.engine.weights import checkpoint
from llm42_sglang.engine.weights.digest import Writes
from tests.engine.node_starts import (
    LAYOUTS,
    STARTS,
    Layout,
    Seen,
    Start,
    differs,
    problems_of_layout,
    problems_of_start,
)
from tests.engine.started import One
from tests.engine.test_ranks import beside

DEFAULTS = {
    field.name: None if field.default is msgspec.NODEFAULT else field.default
    for field in msgspec.structs.fields(ServerArgs)
}


@pytest.fixture(autouse=True)
def as_given(monkeypatch):
    monkeypatch.setattr(nodes, "resolving_view", lambda args: args)


def card(node: int, config: Config | None = None, **flags) -> nodes.Card:
    fields = {**DEFAULTS, "tp_size": 2, "nnodes": 2, "node_rank": node, **flags}
    args = SimpleNamespace(**fields, __struct_fields__=ServerArgs.__struct_fields__)
    return nodes.card_of(args, config or Config())


def test_nodes_that_are_alike_may_serve_and_what_belongs_to_one_does_not_count():
    own = {"port": 7, "host": "a", "model_path": "/here", "random_seed": 4, "api_key": "secret"}
    own |= {"grpc_port": 8, "file_storage_path": "/b", "log_requests_target": ["/c"]}
    own |= {"export_metrics_to_file_dir": "/d", "mooncake_ib_device": "mlx5_0"}
    own |= {"disaggregation_ib_device": "mlx5_1"}
    assert own.keys() <= {*ServerArgs.__struct_fields__}
    other = card(1, Config(signing_key="/key"), **own)
    assert nodes.problem_of([card(0), other]) is None
    assert nodes.problem_of([card(0)]) is nodes.problem_of([]) is None
    assert "secret" not in other.line()
    assert nodes.Card(**json.loads(other.line())) == other


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"config": Config(page=16)}, "--llm42-page (16, not 32)"),
        ({"config": Config(group=2)}, "--llm42-group (2, not 16)"),
        ({"config": Config(verify="always")}, "--llm42-verify (always, not uncertified)"),
        ({"config": Config(drafts="ngram")}, "--llm42-drafts (ngram, not off)"),
        ({"tp_size": 4}, "--tp-size (4, not 2)"),
        ({"nnodes": 3}, "--nnodes (3, not 2)"),
        ({"chunked_prefill_size": 64}, "--chunked-prefill-size (64, not None)"),
    ],
)
def test_other_settings_are_named_with_their_node(other, named):
    said = nodes.problem_of([card(1, **other), card(0)])
    assert said.startswith("node 1 differs from node 0 in ") and named in said and "\n" not in said


def test_other_versions_and_variables_are_named(monkeypatch):
    first = card(0)
    with monkeypatch.context() as patch:
        patch.setattr("llm42_sglang.engine.start.fingerprint.__version__", "0.0.1")
        patch.setenv("LLM42_CPU_LINEAR", "native")
        patch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        other = card(1, Config(group=1))
    said = nodes.problem_of([first, other])
    assert "llm42 (0.0.1, not " in said and "--llm42-group" in said
    assert "LLM42_CPU_LINEAR (native, not None)" in said and "1 more" in said


def test_network_devices_belong_to_a_node_and_the_fingerprint_has_those_of_rank_0(monkeypatch):
    first = card(0)
    there = {"NCCL_SOCKET_IFNAME": "eth0", "GLOO_SOCKET_IFNAME": "eth0", "NCCL_IB_HCA": "mlx5_0"}
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    assert nodes.problem_of([first, card(1)]) is None
    monkeypatch.setenv("NCCL_ALGO", "Ring")  # negative control: it chooses how to add
    assert "NCCL_ALGO (Ring, not nothing)" in nodes.problem_of([first, card(1)])
    ranks = SimpleNamespace(
        gather=lambda mine: [{"NCCL_SOCKET_IFNAME": "a", "NCCL_PROTO": "LL"}, mine]
    )
    own = {"NCCL_ALGO": "Ring", "NCCL_SOCKET_IFNAME": "b", "NCCL_IB_HCA": "c"}
    seen = ready._with_devices_of_first(ranks, own)
    assert seen == {"NCCL_ALGO": "Ring", "NCCL_SOCKET_IFNAME": "a"}


@pytest.mark.parametrize("other", [{"more": 1}, {"process": None}])
def test_a_card_of_another_version_with_other_fields_is_read_and_named(other):
    """None: the field is not there."""
    said = json.loads(card(1).line()) | other
    said["says"]["llm42"] = "9.0"
    line = json.dumps({name: value for name, value in said.items() if value is not None}) + "\n"
    store = dist.HashStore()
    store.append(nodes.KEY, card(0).line() + line)
    assert "node 1 differs from node 0 in llm42 (9.0, not " in outcome(store, 2)


def test_two_nodes_of_one_rank_are_told_apart():
    assert "two nodes have --node-rank 1" in nodes.problem_of([card(0), card(1), card(1)])


def at(port: int, is_first: bool) -> dist.TCPStore:
    return nodes._store(f"127.0.0.1:{port}", is_first, 20)


def outcome(store: dist.Store, cards: int, **limits) -> str:
    try:
        nodes.wait_for_all(store, cards, **{"deadline_s": 20, **limits})
    except UnsupportedError as error:
        return str(error)
    return "together"


def met(other: nodes.Card, **limits) -> set[str]:
    """What node 0 and another one say, which comes later."""
    port, said = free_port(), []
    store = at(port, True)
    store.append(nodes.KEY, card(0).line())

    def later() -> None:
        time.sleep(0.3)
        theirs = at(port, False)
        theirs.append(nodes.KEY, other.line())
        said.append(outcome(theirs, 2, **limits))

    thread = threading.Thread(target=later)
    thread.start()
    said.append(outcome(store, 2, **limits))
    thread.join()
    return {*said}


def test_nodes_wait_for_each_other_and_all_say_the_same():
    assert met(card(1)) == {"together"}
    (said,) = met(card(1, Config(page=16)))
    assert "--llm42-page (16, not 32)" in said


@pytest.mark.parametrize("stock", [0, 1])
def test_a_process_without_a_card_is_noticed(stock):
    """SGLang's own rank counts itself in the store; the first one waits there for the others."""
    port = free_port()

    def sglangs() -> None:
        with suppress(RuntimeError):  # nobody else has come
            dist.TCPStore("127.0.0.1", port, 2, stock == 0, timedelta(seconds=3), multi_tenant=True)

    thread = threading.Thread(target=sglangs)
    if stock == 0:
        thread.start()
        time.sleep(0.5)
    store = at(port, stock == 1)
    store.append(nodes.KEY, card(1 - stock).line())
    if stock == 1:
        thread.start()
    said = outcome(store, 2, grace_s=0.5)
    thread.join()
    assert f"no word from node {stock}" in said and "llm42 serve" in said


def test_a_node_that_does_not_come_is_named_in_the_end():
    store = at(free_port(), True)
    store.append(nodes.KEY, card(0).line())
    began = time.monotonic()
    assert "no word from nodes 1-2 for 0.5 s" in outcome(store, 3, deadline_s=0.5, grace_s=0.1)
    assert time.monotonic() - began < 5


def test_a_port_where_nobody_answers_is_one_line(monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    parallel = {"nnodes": 2, "node_rank": 1, "tp_rank": 1, "tp_size": 2, "dist_timeout": 1}
    there = SimpleNamespace(dist_init_addr=address, **parallel)
    monkeypatch.setattr(nodes, "get_parallel", lambda: there)
    with pytest.raises(UnsupportedError, match="node 1 cannot meet the others at") as refused:
        nodes.meet(SimpleNamespace(), Config())
    assert "\n" not in str(refused.value)


def read_on(monkeypatch, *tensors, nnodes=2) -> str:
    monkeypatch.setattr(checkpoint, "get_parallel", lambda: SimpleNamespace(nnodes=nnodes))
    seen = [*checkpoint.read(lambda loader: iter(tensors), None)]
    assert [name for name, _ in seen] == [name for name, _ in tensors]
    return checkpoint.take()


def test_what_is_read_has_a_digest_whatever_the_order(monkeypatch):
    a, b = ("a", torch.arange(4.0)), ("b", torch.ones(2))
    digest = read_on(monkeypatch, a, b)
    assert digest == read_on(monkeypatch, b, a) != ""
    changed = ("a", torch.tensor([0.0, 1.0, 2.0, 3.5]))
    assert digest not in (read_on(monkeypatch, changed, b), read_on(monkeypatch, a))
    assert read_on(monkeypatch, a, b, nnodes=1) == ""


@pytest.mark.parametrize(
    ("read", "other", "said"),
    [
        ("one", "two", "node 1 has read other weights than node 0"),
        ("", "", "--load-format dummy"),
        ("one", "one", None),
    ],
)
def test_nodes_that_have_read_other_weights_do_not_start(monkeypatch, read, other, said):
    monkeypatch.setattr(ready, "get_parallel", lambda: SimpleNamespace(nnodes=2))
    monkeypatch.setattr(ready, "get_model", lambda: SimpleNamespace(load_format="dummy"))
    monkeypatch.setattr(checkpoint, "take", lambda: read)
    ranks = beside(other)
    ranks.size = 2
    if said is None:
        return ready._require_same_checkpoint(ranks)
    with pytest.raises(UnsupportedError, match=said):
        ready._require_same_checkpoint(ranks)


def test_ranks_of_other_facts_are_named_with_what_differs():
    with pytest.raises(UnsupportedError, match=r"rank 1 differs from rank 0 in threads \(2, not 1"):
        ready._require_same_facts(beside({"threads": 2, "page": 16}), {"threads": 1, "page": 16})
    ready._require_same_facts(beside({"threads": 1}), {"threads": 1})


def test_a_lost_rank_is_one_line_and_other_errors_stay_what_they_are():
    with (
        pytest.raises(RanksDisagreeError, match="another rank may have ended") as lost,
        nobody_lost(2),
    ):
        raise RuntimeError("[/gloo/transport/tcp/pair.cc:534] Connection closed\nmore")
    assert "\n" not in str(lost.value)
    for other in (RuntimeError("out of memory"), RanksDisagreeError("late (gloo: timeout)")):
        with pytest.raises(RuntimeError) as raised, nobody_lost(2):
            raise other
        assert raised.value is other


def test_an_engine_of_several_nodes_is_refused():
    with pytest.raises(launch.LaunchError, match="several nodes are not supported with Engine"):
        launch.arguments_of(Config(), model_path="any", nnodes=2)


def test_a_node_without_a_front_leaves_as_its_schedulers_did(monkeypatch):
    monkeypatch.setattr(followers, "get_parallel", lambda: SimpleNamespace(node_rank=1))
    ended = [SimpleNamespace(exitcode=status) for status in (0, -9)]
    init = SimpleNamespace(block_until_scheduler_exits=lambda: None)
    followers.watch_followers((init, ended))
    with pytest.raises(SystemExit, match="a scheduler of node 1 has ended with status -9"):
        init.block_until_scheduler_exits()
    init.block_until_scheduler_exits = lambda: None
    followers.watch_followers((init, ended[:1]))
    init.block_until_scheduler_exits()


def test_what_is_read_is_hashed_while_writes_are_watched(monkeypatch):
    """As during an update; hashing is no write."""
    pair = ("a", torch.arange(4.0))
    writes = Writes()
    with writes:
        watched = read_on(monkeypatch, pair)
    assert watched == read_on(monkeypatch, pair) and not writes.storages


WRONG = Start("node 1 has another T", (One(), One()), differs("--llm42-page"))
KILLED = Start("node 1 is killed", (One(), One()), "another rank may have ended", "kill node 1")
LATE = Start("a third node", (One(), One(), One()), "two nodes", may_serve=True)
SAYS = ["node 1 differs from node 0 in --llm42-page (32, not 16); start all nodes alike"]


@pytest.mark.parametrize(
    ("start", "seen", "found"),
    [
        (WRONG, Seen(False, [1, 1], SAYS), ""),
        (WRONG, Seen(False, [1, 1], ["killed"]), "nobody said"),
        (WRONG, Seen(True, [None, None], SAYS), "it serves"),
        (WRONG, Seen(False, [1, 0], SAYS), "node 1 ends with status 0"),
        (WRONG, Seen(False, [None, 1], SAYS), "node 0 still runs"),
        (KILLED, Seen(True, [1, -9], ["another rank may have ended (x)"], "an error"), ""),
        (
            KILLED,
            Seen(True, [1, -9], ["another rank may have ended"], "a 200", True),
            "the client got",
        ),
        (KILLED, Seen(True, [None, -9], ["another rank may have ended"]), "node 0 still runs"),
        (KILLED, Seen(False, [1, 1], ["another rank may have ended"]), "did not serve at first"),
        (LATE, Seen(True, [None, None, 1], ["two nodes have"]), ""),
        (LATE, Seen(True, [None, None, None], ["two nodes have"]), "node 2 still runs"),
    ],
)
def test_scripts_nodes_judges_what_it_sees(start, seen, found):
    problems = problems_of_start(start, seen, range(len(start.nodes)))
    assert found in "; ".join(problems) and bool(problems) == bool(found)


def test_a_layout_holds_or_is_refused():
    any_, must = Layout(("--tp-size", "3")), Layout(("--tp-size", "2"), holds=True)
    refused = Seen(False, [1], ["assumption A2 does not hold"])
    assert problems_of_layout(any_, refused, False) == []
    assert problems_of_layout(must, refused, False) == ["it does not serve"]
    assert problems_of_layout(must, Seen(True, [None], []), True) == []
    assert problems_of_layout(any_, Seen(True, [None], []), False) != []
    assert problems_of_layout(any_, Seen(False, [None], []), False) != []
    assert all(start.expected for start in STARTS) and any(one.holds for one in LAYOUTS)

"""Several nodes start together, and alike, or none of them starts.

A node is one `llm42 serve`, with one part of the ranks. Its ranks meet those of the other nodes at
`--dist-init-addr`, in a store of torch's that is there before any process group. Each node leaves a
card: its versions, its flags, and what else may differ. The first difference, by name, keeps all
nodes from starting. So does a process that is there without a card: it was started without llm42.

What a card cannot know is compared after the model is loaded: the weights (`weights.checkpoint`)
and the facts of the fingerprint.
"""

import json
import logging
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

import torch.distributed as dist
from sglang.srt.arg_groups.overrides import resolving_view
from sglang.srt.runtime_context import get_parallel
from sglang.srt.server_args import ServerArgs
from sglang.srt.utils.network import NetworkAddress

from llm42_sglang.core.config import Config
from llm42_sglang.core.ranges import ranges
from llm42_sglang.engine.errors import UnsupportedError
from llm42_sglang.engine.start.fingerprint import (
    library_variables,
    of_all_nodes,
    package_versions,
)

logger = logging.getLogger(__name__)

KEY = "llm42/cards"  # one line for each node; every version of llm42 must find it there
DEADLINE_S = 600  # until which all nodes must have come, without --dist-timeout
GRACE_S = 20  # for a card, from when on somebody without one is there
LINGER_S = 2  # in which other nodes read why this one will not start
POLL_S = 0.2
SHOWN = 3  # differences that a line names
WIDTH = 40  # letters of a value that it shows

# Flags that belong to one node: where things lie, who may look at it, and what it writes.
_OF_ONE_NODE = """
    node_rank host port model_path tokenizer_path served_model_name random_seed nccl_port
    base_gpu_id gpu_id_step numa_node download_dir api_key admin_api_key crash_dump_folder
    watermark_config watermark_key watermark_key_b log_level log_level_http chat_template
    ssl_keyfile ssl_certfile ssl_ca_certs ssl_keyfile_password fastapi_root_path grpc_port
    smg_http_sidecar_port file_storage_path log_requests log_requests_level log_requests_format
    log_requests_target export_metrics_to_file export_metrics_to_file_dir mooncake_ib_device
    disaggregation_ib_device
"""
_OUR_VARIABLES = ("LLM42_CPU_LINEAR", "LLM42_PLATFORM")


@dataclass(frozen=True, slots=True)
class Card:
    """What a node says about itself."""

    node: int
    process: str  # tells two nodes of the same rank apart
    says: Mapping[str, str]  # by name, what must be the same on all nodes

    def line(self) -> str:
        """Return the card as the store keeps it."""
        return json.dumps(asdict(self)) + "\n"


def card_of(args: ServerArgs, config: Config) -> Card:
    """Return the card of this process's node."""
    flags = resolving_view(args)
    layout = {"--nnodes": flags.nnodes, "--tp-size": flags.tp_size}
    ours = {name: value for name, value in asdict(config).items() if name != "signing_key"}
    theirs = {
        name: getattr(flags, name)
        for name in sorted(args.__struct_fields__)
        if name not in _OF_ONE_NODE.split() and not name.startswith("_")
    }
    variables = {name: os.environ.get(name) for name in _OUR_VARIABLES}
    variables |= of_all_nodes(library_variables())
    says = layout | package_versions()
    says |= {_flag(f"llm42_{name}"): value for name, value in ours.items()}
    says |= {_flag(name): value for name, value in theirs.items()} | variables
    return Card(
        flags.node_rank, uuid.uuid4().hex, {name: str(value) for name, value in says.items()}
    )


def meet(args: ServerArgs, config: Config) -> dist.Store | None:
    """Return when all nodes are here and alike. A server of one node does not wait.

    Returns the store. SGLang's process group uses the same one, so it must be held until then.
    Raises UnsupportedError if a node is not like node 0, or does not come.
    """
    parallel = get_parallel()
    if parallel.nnodes == 1:
        return None
    deadline_s = parallel.dist_timeout or DEADLINE_S
    try:
        store = _store(parallel.dist_init_addr, parallel.tp_rank == 0, deadline_s)
        if parallel.tp_rank % (parallel.tp_size // parallel.nnodes) == 0:
            store.append(KEY, card_of(args, config).line())
        wait_for_all(store, parallel.nnodes, deadline_s)
    except UnsupportedError:
        if parallel.tp_rank == 0:
            time.sleep(LINGER_S)  # the store ends with this process
        raise
    except RuntimeError as error:
        raise UnsupportedError(
            f"node {parallel.node_rank} cannot meet the others at {parallel.dist_init_addr} "
            f"({str(error).splitlines()[0]}); start node 0 there, and see its log"
        ) from error
    return store


def _store(address: str, is_first: bool, deadline_s: float) -> dist.TCPStore:
    """Return the store at the address. is_first: whether this process is the one that keeps it.

    SGLang's own store of the same port in that process will be this one (`multi_tenant`). Nobody is
    counted as a worker here (`wait_for_workers`), so SGLang can still wait until all are there.
    """
    where = NetworkAddress.parse(address)
    return dist.TCPStore(
        where.host,
        where.port,
        None,
        is_master=is_first,
        timeout=timedelta(seconds=deadline_s),
        wait_for_workers=False,
        multi_tenant=True,
    )


def wait_for_all(
    store: dist.Store, nodes: int, deadline_s: float, grace_s: float = GRACE_S
) -> None:
    """Return when the cards of all nodes are in the store, and are alike.

    Raises UnsupportedError at a difference; if somebody is there without a card for `grace_s`
    seconds; and after `deadline_s` seconds.
    """
    began = time.monotonic()
    stranger_since = None
    while True:
        cards = _cards_in(store)
        if problem := problem_of(cards):
            raise UnsupportedError(problem)
        missing = sorted({*range(nodes)} - {card.node for card in cards})
        if not missing:
            return
        now = time.monotonic()
        # The key of the cards is ours. A process that waits for its group has another one.
        if store.num_keys() <= bool(cards):
            stranger_since = None
        elif stranger_since is None:
            stranger_since = now
        elif now - stranger_since > grace_s:
            raise UnsupportedError(
                f"a process came without llm42, and no word from {_named(missing)}; start every "
                "node with `llm42 serve`"
            )
        if now - began > deadline_s:
            raise UnsupportedError(
                f"no word from {_named(missing)} for {deadline_s:g} s; start all nodes"
            )
        time.sleep(POLL_S)


def _cards_in(store: dist.Store) -> list[Card]:
    lines = store.get(KEY).decode().splitlines() if store.check([KEY]) else []
    return [_card_in(line) for line in lines]


def _card_in(line: str) -> Card:
    """Read a card. Another version's may have other fields; `says` then names the version."""
    said = json.loads(line)
    return Card(said["node"], said.get("process", ""), said.get("says", {}))


def _named(nodes: Sequence[int]) -> str:
    return f"node{'s' if len(nodes) > 1 else ''} {ranges(nodes)}"


def problem_of(cards: Sequence[Card]) -> str | None:
    """Return why these nodes cannot serve together, in one line, or None."""
    by_node = {card.node: card for card in reversed(cards)}
    for card in cards:
        if by_node[card.node].process != card.process:
            return (
                f"two nodes have --node-rank {card.node}, or it was started twice; start all "
                "nodes again, each with its own"
            )
    for node in sorted(by_node):
        first = min(by_node)
        if differs := difference(by_node[node].says, by_node[first].says):
            return f"node {node} differs from node {first} in {differs}; start all nodes alike"
    return None


def difference(these: Mapping[str, object], first: Mapping[str, object]) -> str:
    """Return what differs, with both values, in the order of names; empty if nothing does."""
    names = [name for name in {**first, **these} if these.get(name) != first.get(name)]
    shown = [f"{name} ({_short(these, name)}, not {_short(first, name)})" for name in names[:SHOWN]]
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join(shown + more)


def _short(says: Mapping[str, object], name: str) -> str:
    text = str(says.get(name, "nothing"))
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"

"""What a scheduler process does after it has loaded its model and before it serves."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.runtime_context import get_model, get_parallel

from llm42_sglang.core.config import Config
from llm42_sglang.core.drafts import Costs
from llm42_sglang.engine import faults
from llm42_sglang.engine.errors import UnsupportedError
from llm42_sglang.engine.passes.backends import canonical_mode
from llm42_sglang.engine.passes.canonical import CanonicalForward
from llm42_sglang.engine.passes.ranks import Ranks, join_ranks
from llm42_sglang.engine.start.certify import Certificate, certify
from llm42_sglang.engine.start.fingerprint import facts_of, library_variables, of_all_nodes
from llm42_sglang.engine.start.limits import require_whole_pages
from llm42_sglang.engine.start.nodes import difference
from llm42_sglang.engine.start.timing import measure_costs
from llm42_sglang.engine.weights import checkpoint
from llm42_sglang.engine.weights.identity import Identity
from llm42_sglang.engine.weights.naming import ByContent, ByVersion

logger = logging.getLogger(__name__)


class Ready(NamedTuple):
    """What the scheduler needs in order to serve deterministic requests."""

    forward: CanonicalForward  # of the certified shape
    certificate: Certificate
    identity: Identity
    costs: Costs | None  # None: there are no drafts


def make_ready(scheduler: Scheduler, config: Config) -> Ready:
    """Certify the scheduler's model and name its weights. All ranks do this together.

    Raises UnsupportedError, CertificationError or RanksDisagreeError.
    """
    runner = scheduler.tp_worker.model_runner
    _require_supported_model(scheduler, config)
    mode = canonical_mode(runner)
    keep_from_reset(runner)
    ranks = join_ranks()
    _require_same_checkpoint(ranks)
    facts = facts_of(runner, config, scheduler.tokenizer, scheduler.max_req_len)
    facts["libraries"] = _with_devices_of_first(ranks, library_variables())
    _require_same_facts(ranks, facts)  # before the exam, which may fail where they differ
    fault = faults.pass_fault(ranks.rank)
    forward_of = partial(CanonicalForward, runner, config, fault=fault, mode=mode, ranks=ranks)
    certificate = certify(forward_of(), with_steps=config.verify == "uncertified")
    logger.info("llm42: %s", certificate)
    forward = forward_of(shape=certificate.shape)
    naming_class = ByVersion if config.weights_digest == "version" else ByContent
    identity = Identity(facts, naming_class(runner, ranks))
    _require_same_facts(ranks, identity.facts)
    logger.info("llm42: fingerprint %s", identity.fingerprint)
    costs = measure_costs(forward) if config.drafts == "ngram" else None
    return Ready(forward, certificate, identity, costs)


def _require_same_checkpoint(ranks: Ranks) -> None:
    """Raise UnsupportedError unless all nodes have read the same weights."""
    nodes = get_parallel().nnodes
    read = ranks.gather(checkpoint.take())
    if nodes > 1 and not read[0]:
        raise UnsupportedError(
            f"several nodes cannot compare weights of --load-format {get_model().load_format}; "
            "use a checkpoint that --load-format auto can read"
        )
    for rank, other in enumerate(read):
        if other != read[0]:
            node = rank * nodes // ranks.size
            raise UnsupportedError(
                f"node {node} has read other weights than node 0; give all nodes the same model"
            )


def _with_devices_of_first(ranks: Ranks, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with the network devices of rank 0, so that all have one fingerprint."""
    first = ranks.gather(variables)[0]
    devices = {name: first[name] for name in first.keys() - of_all_nodes(first).keys()}
    return dict(sorted((of_all_nodes(variables) | devices).items()))


def _require_same_facts(ranks: Ranks, facts: Mapping[str, object]) -> None:
    """Raise UnsupportedError unless all ranks have the same fingerprint."""
    everybodys = ranks.gather(facts)
    for rank, others in enumerate(everybodys):
        if differs := difference(others, everybodys[0]):
            raise UnsupportedError(f"rank {rank} differs from rank 0 in {differs}; make them alike")


def _require_supported_model(scheduler: Scheduler, config: Config) -> None:
    """Raise UnsupportedError for a model that canonical passes cannot run."""
    model = scheduler.tp_worker.model_runner.model_config
    if scheduler.is_hybrid_swa:
        raise UnsupportedError(
            "a separate KV pool for sliding windows is not supported with deterministic service; "
            "add --disable-hybrid-swa-memory, and use another attention backend than flashinfer"
        )
    if scheduler.is_hybrid_ssm or model.is_multimodal:
        raise UnsupportedError(
            "models with recurrent state or images are not supported with deterministic "
            "service yet; serve this one without llm42"
        )
    require_whole_pages(model.context_len, config)


def keep_from_reset(runner: ModelRunner) -> None:
    """Let /weights_checker look at the weights, but not overwrite them."""
    runner.check_weights = partial(_check_without_reset, runner.check_weights)


def _check_without_reset(original, *, action: str, **kwargs):
    if action == "reset_tensors":
        raise ValueError("llm42: weights change by updates only")  # SGLang answers with it
    return original(action=action, **kwargs)

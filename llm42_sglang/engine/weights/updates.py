"""Weight updates of a running server.

    before   All requests under way are retracted, as by SGLang's /pause_generation. Committed
             tokens stay. No row of the KV is needed any more.
    load     SGLang's, whatever the source of the weights.
    after    The weights are named again. If they are others, the deterministic requests go on
             under the new fingerprint: their receipts will say which tokens belong to which. Pages
             of the old weights are freed. A small part of certification runs again.

Certification is about shapes and kernels, not about values, so it holds for the new weights too.

An update that fails and has changed nothing leaves everything as it was. One that fails half way
ends deterministic service, until another update succeeds.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import torch
from sglang.srt.managers import io_struct
from sglang.srt.managers.io_struct import ContinueGenerationReqInput, PauseGenerationReqInput
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.mem_cache.base_prefix_cache import EvictParams
from sglang.srt.runtime_context import get_serving

from llm42_sglang.engine.errors import RanksDisagreeError
from llm42_sglang.engine.hooks import around
from llm42_sglang.engine.names import RECHECK_FAILED, UPDATE_FAILED
from llm42_sglang.engine.passes.ranks import Ranks
from llm42_sglang.engine.service import Service
from llm42_sglang.engine.weights import checkpoint
from llm42_sglang.engine.weights.identity import Identity

logger = logging.getLogger(__name__)

_UPDATER = "sglang.srt.managers.scheduler_components.weight_updater.SchedulerWeightUpdaterManager"
_LOADS = (
    "update_weights_from_disk,update_weights_from_tensor,update_weights_from_distributed,"
    "update_weights_from_ipc,begin_weight_update,end_weight_update"
)
# What SGLang answers to each request.
_ANSWERS = {
    io_struct.UpdateWeightFromDiskReqInput: io_struct.UpdateWeightFromDiskReqOutput,
    io_struct.UpdateWeightsFromTensorReqInput: io_struct.UpdateWeightsFromTensorReqOutput,
    io_struct.UpdateWeightsFromDistributedReqInput: io_struct.UpdateWeightsFromDistributedReqOutput,
    io_struct.UpdateWeightsFromIPCReqInput: io_struct.UpdateWeightsFromIPCReqOutput,
    io_struct.BeginWeightUpdateReqInput: io_struct.BeginWeightUpdateReqOutput,
    io_struct.EndWeightUpdateReqInput: io_struct.EndWeightUpdateReqOutput,
}
_SESSION = (io_struct.BeginWeightUpdateReqInput, io_struct.EndWeightUpdateReqInput)
# After these SGLang waits for all ranks, unless an exception has come before.
_RANKS_MEET = (
    io_struct.UpdateWeightsFromTensorReqInput,
    io_struct.UpdateWeightsFromIPCReqInput,
    *_SESSION,
)
_LOADS_OF_SESSION = (
    io_struct.UpdateWeightsFromTensorReqInput,
    io_struct.UpdateWeightsFromDistributedReqInput,
)
_ALONE = (io_struct.UpdateWeightFromDiskReqInput, io_struct.UpdateWeightsFromIPCReqInput)
_LOAD_FORMATS = (None, "direct", "flattened_bucket")  # SGLang's own, of tensors


class WeightUpdates:
    """Runs SGLang's updates, and has all else follow."""

    def __init__(
        self,
        scheduler: Scheduler,
        identity: Identity,
        service: Service,
        ranks: Ranks,
        recheck: Callable[[], str | None],
    ):
        """recheck: runs a part of certification again. It returns what is wrong, or None."""
        self.scheduler = scheduler
        self.identity = identity
        self.service = service
        self.ranks = ranks
        self.recheck = recheck
        self._loads = 0  # of the session that is open
        self._broken = False  # one of them has failed half way
        self._to_recheck = False  # there are weights that no recheck has seen

    def run(self, load: Callable[[Any], Any], request: Any) -> Any:
        """Return SGLang's answer to an update, with our report. All ranks do this together.

        load: SGLang's handler. request: what it handles.
        """
        answer = self._refused(request) or self._run(load, request)
        answer.message = self.identity.report(self.service.problem).added_to(answer.message)
        return answer

    def _refused(self, request: Any) -> Any:
        """The answer to a load that must not come, or None."""
        if not isinstance(request, (*_ALONE, *_LOADS_OF_SESSION)):
            return None
        mended = self.service.problem == UPDATE_FAILED
        refusal = self.identity.weights.refusal(request.weight_version, mended)
        refusals = [*filter(None, self.ranks.gather(refusal))]
        return _failure(request, refusals[0]) if refusals else None

    def _run(self, load: Callable[[Any], Any], request: Any) -> Any:
        version = get_serving().weight_version
        checkpoint.take()
        with self._retracted(), self.identity.weights.watching():
            answer = self._load(load, request)
        # A rank may load for minutes longer than another; our own agreement does not wait for that.
        torch.distributed.barrier(group=self.scheduler.weight_updater.tp_cpu_group)
        done, read = zip(*self.ranks.gather((answer.success, checkpoint.take())), strict=True)
        if all(done) and len({*read}) > 1:
            answer = _failure(request, "the nodes have read other weights; give them the same")
        answer.success = answer.success and all(done)
        if not answer.success:  # on this rank it may have succeeded
            self.scheduler.record_weight_version_change(new_version=version)
        elif isinstance(request, _SESSION):
            self.identity.weights.session(isinstance(request, io_struct.BeginWeightUpdateReqInput))
        try:
            others = self.identity.follow(everything=self._writes_unseen(request))
        except RanksDisagreeError:
            raise
        except RuntimeError:  # such as a device without memory for the hash
            logger.exception("llm42: the weights cannot be named")
            others, answer = True, _failure(request, "the weights cannot be named; see the log")
        self._follow(others, answer.success, request)
        return answer

    def renamed(self) -> None:
        """The weights are what they were, and SGLang has another version for them."""
        if self.identity.renamed():
            with self._retracted():
                self._go_on()

    def _load(self, load: Callable[[Any], Any], request: Any) -> Any:
        """SGLang's answer; its exceptions would end the server. The cache is flushed later."""
        try:
            if hasattr(request, "flush_cache"):
                request = msgspec.structs.replace(request, flush_cache=False)
            return load(request)
        except Exception as error:
            logger.exception("llm42: a weight update has failed")
            if isinstance(request, _RANKS_MEET):
                torch.distributed.barrier(group=self.scheduler.weight_updater.tp_cpu_group)
            return _failure(request, f"the update failed: {type(error).__name__}: {error}")

    def _follow(self, others: bool, succeeded: bool, request: Any) -> None:
        """Have everything follow the weights. others: whether they are not those of before."""
        if others:
            self._go_on()
        self._to_recheck |= others
        if others and not succeeded:
            self._broken = True
            self._end_service(UPDATE_FAILED)
        match request:
            case io_struct.BeginWeightUpdateReqInput() if succeeded:
                self._loads, self._broken = 0, False
            case io_struct.EndWeightUpdateReqInput() if succeeded:
                self._complete(mended=self._loads > 0 and not self._broken)
            case _ if isinstance(request, _LOADS_OF_SESSION):
                self._loads += succeeded
            case _ if isinstance(request, _ALONE) and succeeded:
                self._complete(mended=True)
        if succeeded and getattr(request, "flush_cache", False):
            self.scheduler.flush_cache(empty_cache=request.torch_empty_cache)

    def _writes_unseen(self, request: Any) -> bool:
        """Whether weights may have been written otherwise than by PyTorch's operators here."""
        match request:
            case io_struct.UpdateWeightsFromIPCReqInput():
                return True
            case io_struct.UpdateWeightsFromTensorReqInput():
                return request.load_format not in _LOAD_FORMATS  # else a loader of the user's
        return False

    def _complete(self, mended: bool) -> None:
        """An update by itself, or a session of loads, is over. mended: whether all weights of it
        have come, so that it makes up for one that has failed half way."""
        if mended:
            self.service.updated()
        if self._to_recheck and self.service.live:
            self._evict()
            problem = self.recheck()
            self._to_recheck = False
            if problem:
                self._end_service(RECHECK_FAILED.format(problem))

    @contextmanager
    def _retracted(self) -> Iterator[None]:
        """No request holds KV meanwhile. Those that were paused stay paused."""
        paused = self.scheduler._engine_paused
        self.scheduler.pause_generation(PauseGenerationReqInput(mode="retract"))
        yield
        if not paused:
            self.scheduler.continue_generation(ContinueGenerationReqInput(torch_empty_cache=False))

    def _under_way(self) -> list[Any]:
        """The deterministic requests that nothing has ended. All of them wait now."""
        return self.scheduler.not_ended([self.scheduler.running_batch])

    def _end_service(self, problem: str) -> None:
        self.service.end(problem)
        self.scheduler.end_all(self._under_way(), [self.scheduler.running_batch])

    def _go_on(self) -> None:
        """Requests go on under the new fingerprint. Pages that the old weights have computed are
        freed, those of ordinary requests too."""
        self.scheduler.end_retracted([req for req in self._under_way() if req.to_finish])
        for req in self._under_way():
            req.follow_weights(self.identity.fingerprint)
        self._evict()

    def _evict(self) -> None:
        cache = self.scheduler.tree_cache
        cache.evict(EvictParams(num_tokens=cache.evictable_size()))


def _failure(request: Any, message: str) -> Any:
    return _ANSWERS[type(request)](success=False, message=message)


@around(f"{_UPDATER}.{{{_LOADS}}}", "have determinism follow the weights")
def update(original, updater, recv_req):
    """An update, or the begin or the end of a session of them."""
    updates: WeightUpdates = updater.scheduler.llm42_updates
    return updates.run(partial(original, updater), recv_req)

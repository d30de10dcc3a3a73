"""SGLang's scheduler with verification between its steps.

The loop, admission, batching, decode, retraction and aborts are SGLang's. This class adds: who is
deterministic (`_create_generation_req`), whose forward is canonical (`init_tp_model_worker`), and
when candidates are verified (`get_next_batch_to_run`).
"""

import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

import psutil
import torch
from sglang.srt.managers.io_struct import AbortReq
from sglang.srt.managers.schedule_batch import NextBatchPlan, Req, ScheduleBatch
from sglang.srt.managers.schedule_policy import PrefillAdder
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer
from sglang.srt.managers.utils import GenerationBatchResult
from sglang.srt.runtime_context import get_observability, get_parallel, get_serving

from llm42_sglang.core.config import Config
from llm42_sglang.core.receipts import fingerprint
from llm42_sglang.engine import faults, hooks, settings
from llm42_sglang.engine.start import weights
from llm42_sglang.engine.loop.aborts import hidden_namesakes
from llm42_sglang.engine.loop.admission import (
    HomogeneousPrefillAdder,
    is_deterministic,
    ordinary_decodes,
)
from llm42_sglang.engine.passes.backends import canonical_mode
from llm42_sglang.engine.passes.canonical import CanonicalForward
from llm42_sglang.engine.start.certify import certify
from llm42_sglang.engine.start.exam import CertificationError
from llm42_sglang.engine.loop.fastpath import drawing
from llm42_sglang.engine.start.fingerprint import facts_of
from llm42_sglang.engine.loop.lane import CanonicalLane
from llm42_sglang.engine.start.limits import UnsupportedError, require_supported, require_whole_pages
from llm42_sglang.engine.metrics import LaneMetrics
from llm42_sglang.engine.names import AUDIT_FAILED, INFO_KEY, REFUSED_TO_START
from llm42_sglang.engine.passes.ranks import RanksDisagreeError, join_ranks
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.loop.results import DeterministicResultProcessor, PrefillResult
from llm42_sglang.engine.seams import SeamError
from llm42_sglang.engine.loop.streamer import DeterministicOutputStreamer
from llm42_sglang.engine.loop.verifier import Verifier
from llm42_sglang.frontend.options import Refused, asks_for_determinism, refuse_unsupported
from llm42_sglang.platform.gemm import one_row_as_two

logger = logging.getLogger(__name__)


class DeterministicScheduler(Scheduler):
    """Replaces `sglang.srt.managers.scheduler.Scheduler` in the scheduler process."""

    def __init__(self, server_args, port_args):
        config = settings.load()
        assert config is not None, "installed without a configuration"
        self.llm42_config: Config = config
        try:
            hooks.require_live()
            require_supported(server_args, config)
            super().__init__(server_args, port_args)
            self._certify()
        except (CertificationError, RanksDisagreeError, SeamError, UnsupportedError) as error:
            _say(error)
            sys.exit(REFUSED_TO_START)  # the parent knows the status

    def _certify(self) -> None:
        runner, config = self.tp_worker.model_runner, self.llm42_config
        if self.is_hybrid_swa:
            raise UnsupportedError(
                "a KV pool of its own for sliding windows is not supported with deterministic "
                "service; add --disable-hybrid-swa-memory (not with flashinfer attention)"
            )
        if self.is_hybrid_ssm or runner.model_config.is_multimodal:
            raise UnsupportedError(
                "models with recurrent state or images are not supported with deterministic "
                "service yet; serve this one without llm42"
            )
        require_whole_pages(runner.model_config.context_len, config)
        mode = canonical_mode(runner)
        weights.freeze(runner)
        ranks = join_ranks()
        fault = faults.pass_fault(ranks.rank)
        forward = CanonicalForward(runner, config, fault, mode, ranks)
        self.llm42_certificate = certify(forward, with_steps=config.verify == "uncertified")
        name, rank = get_serving().served_model_name, get_parallel().tp_rank
        labels = {"model_name": name, "tp_rank": str(rank)}
        metrics = LaneMetrics(labels, get_observability().enable_metrics)
        lane = CanonicalLane(forward, config, metrics)
        self.llm42_verifier = Verifier(self, lane, config)
        DeterministicResultProcessor.committed = staticmethod(self._committed)
        self.llm42_facts = facts_of(runner, config, self.tokenizer, self.max_req_len, ranks)
        self.llm42_fingerprint = fingerprint(self.llm42_facts)
        if len({*ranks.gather(self.llm42_fingerprint)}) > 1:
            raise UnsupportedError(
                "the ranks differ in device, threads or versions; give them the same"
            )
        logger.info("llm42: fingerprint %s", self.llm42_fingerprint)

    def _committed(self, req: DeterministicReq, stepped: bool) -> None:
        """As `CanonicalLane.committed`; the very output that follows tells of a failed audit."""
        lane = self.llm42_verifier.lane
        lane.committed(req, stepped)
        DeterministicOutputStreamer.audit_failed = lane.audit.failed

    def get_init_info(self) -> dict:
        """Tells the parent process that deterministic service is live, and certified."""
        return super().get_init_info() | {
            INFO_KEY: {
                "fingerprint": self.llm42_fingerprint,
                "facts": self.llm42_facts,
                "certificate": self.llm42_certificate.as_dict(),
            }
        }

    def run_event_loop(self) -> None:
        """As SGLang's, until the ranks disagree: then the server ends."""
        try:
            super().run_event_loop()
        except RanksDisagreeError as error:
            _say(error)
            # As SGLang does when a scheduler fails: the parent ends all the others.
            psutil.Process().parent().send_signal(signal.SIGQUIT)
            sys.exit(REFUSED_TO_START)

    # -- SGLang's own extension points --

    def get_prefill_adder_class(self) -> Callable[..., PrefillAdder]:
        overtaking = not self.enable_priority_scheduling  # or a lower priority would overtake
        slots = self.llm42_config.group
        return partial(HomogeneousPrefillAdder, slots=slots, overtaking=overtaking)

    def _should_defer_prefill(self, running_batch: ScheduleBatch) -> bool:
        """SGLang's `--prefill-decode-interval` in small: ordinary requests that decode get a step
        between two prompts of which one is deterministic, unless more wait than decode."""
        deferred = super()._should_defer_prefill(running_batch)  # counts steps
        many_decode = running_batch.batch_size() > len(self.waiting_queue)
        owed = self.llm42_verifier.owes_decode(self._next_prompt())
        return deferred or (owed and many_decode and ordinary_decodes(running_batch))

    def _next_prompt(self) -> Req | None:
        """Whose prompt SGLang would most likely prefill next."""
        return self.chunked_req or next(iter(self.waiting_queue), None)

    def get_output_streamer_class(self) -> type[SchedulerOutputStreamer]:
        return DeterministicOutputStreamer

    def _create_generation_req(self, recv_req, *args, **kwargs) -> Req:
        if not asks_for_determinism(recv_req.sampling_params.custom_params):
            return super()._create_generation_req(recv_req, *args, **kwargs)
        req = DeterministicReq(
            *args,
            page_size=self.llm42_config.page,
            fingerprint=self.llm42_fingerprint,
            **kwargs,
        )
        try:  # again: nothing may come in past the tokenizer process
            refuse_unsupported(recv_req.sampling_params, recv_req)
        except Refused as error:
            req.set_finish_with_abort(str(error))
        if self.llm42_verifier.lane.audit.failed:
            req.withdraw()
        return req

    def abort_request(self, recv_req: AbortReq) -> None:
        """As SGLang's, for this one name, or for all."""
        if recv_req.abort_all:
            super().abort_request(recv_req)
            return
        queued = [*self.waiting_queue, *self.grammar_manager.grammar_queue, self.chunked_req]
        with hidden_namesakes([*queued, *self.collect_inflight_reqs()], recv_req.rid):
            super().abort_request(recv_req)

    def end_deterministic_service(self, batches: Sequence[ScheduleBatch]) -> None:
        """After an audit has failed: ordinary requests go on, all deterministic ones end."""
        logger.error(AUDIT_FAILED)
        DeterministicOutputStreamer.audit_failed = True
        decoding = [req for batch in batches for req in batch.reqs]
        waiting = [*self.waiting_queue, *self.grammar_manager.grammar_queue, self.chunked_req]
        known = {id(req): req for req in [*decoding, *waiting] if _goes_on(req)}
        for req in known.values():
            req.withdraw()
        # Those who decode end here and now: nothing drains or verifies for them any more.
        ending = [known[key] for key in dict.fromkeys(map(id, decoding)) if key in known]
        self.batch_result_processor.commit(ending, [[] for _ in ending])

    def init_tp_model_worker(self) -> None:
        """Deterministic prefill batches go to the canonical lane; every other batch is SGLang's."""
        super().init_tp_model_worker()
        worker = self.tp_worker
        worker.forward_batch_generation = partial(
            self._forward_batch_generation, worker.forward_batch_generation
        )

    def _forward_batch_generation(
        self, original, batch: ScheduleBatch | None, *args, **kwargs
    ) -> GenerationBatchResult:
        if batch is None or not any(map(is_deterministic, batch.reqs)):
            return original(batch, *args, **kwargs)
        if not batch.forward_mode.is_extend():
            return self._decode(original, batch, *args, **kwargs)
        assert all(map(is_deterministic, batch.reqs)), "a prefill batch mixes both kinds"
        tokens = self.llm42_verifier.prefill(batch)
        return PrefillResult(next_token_ids=torch.tensor(tokens, device=batch.device))

    def _decode(self, original, batch: ScheduleBatch, *args, **kwargs) -> GenerationBatchResult:
        certified = self.llm42_verifier.launching(batch)
        with drawing(batch.reqs), one_row_as_two() if certified else nullcontext():
            result = original(batch, *args, **kwargs)
        if (sample := result.delay_sample_func) is not None:  # overlap, and a grammar in the batch

            def sample_later():
                with drawing(batch.reqs):
                    return sample()

            result.delay_sample_func = sample_later
        return result

    def run_batch(self, batch: ScheduleBatch, *args, **kwargs) -> GenerationBatchResult:
        """As SGLang's; due pages may have ridden in the batch."""
        result = super().run_batch(batch, *args, **kwargs)
        self.llm42_verifier.launched(batch)
        return result

    def get_next_batch_to_run(
        self, running_batch: ScheduleBatch, last_batch: ScheduleBatch | None
    ) -> NextBatchPlan:
        """Verify whom the policy chooses, then plan the next step as SGLang does."""
        self.llm42_verifier.between_steps(running_batch, last_batch)
        plan = super().get_next_batch_to_run(running_batch, last_batch)
        self.llm42_verifier.planned(plan.batch_to_run)
        return plan


def _goes_on(req: Req | None) -> bool:
    """Whether it is a deterministic request that nothing has ended yet."""
    return isinstance(req, DeterministicReq) and not req.finished()


def _say(error: Exception) -> None:
    """One line instead of SGLang's traceback; every rank has its own."""
    parallel = get_parallel()
    rank, replica = parallel.tp_rank, parallel.dp_rank or 0
    where = f" on rank {rank} of replica {replica}" if rank or replica else ""
    print(f"llm42: error{where}: {error}", file=sys.stderr, flush=True)

"""SGLang's scheduler with verification between its steps.

The loop, admission, batching, decode, retraction and aborts are SGLang's. This class adds three
things: who is deterministic (`_create_generation_req`), which forwards are canonical passes
(`init_tp_model_worker`), and when candidates are verified (`get_next_batch_to_run`). docs/loop.md
walks through it.
"""

import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import psutil
import torch
from sglang.srt.managers.io_struct import AbortReq, UpdateWeightVersionReqOutput
from sglang.srt.managers.schedule_batch import FINISH_ABORT, NextBatchPlan, Req, ScheduleBatch
from sglang.srt.managers.schedule_policy import PrefillAdder
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer
from sglang.srt.managers.utils import GenerationBatchResult
from sglang.srt.runtime_context import get_observability, get_parallel, get_serving

from llm42_sglang.core.config import Config
from llm42_sglang.engine import hooks, settings
from llm42_sglang.engine.errors import EngineError, RanksDisagreeError
from llm42_sglang.engine.loop.aborts import hidden_namesakes
from llm42_sglang.engine.loop.admission import (
    HomogeneousPrefillAdder,
    is_deterministic,
    longest_prompt,
    ordinary_decodes,
)
from llm42_sglang.engine.loop.claim import ClaimReq
from llm42_sglang.engine.loop.drafting import Drafting
from llm42_sglang.engine.loop.fastpath import drawing
from llm42_sglang.engine.loop.lane import CanonicalLane
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.loop.results import DeterministicResultProcessor, PrefillResult
from llm42_sglang.engine.loop.streamer import DeterministicOutputStreamer
from llm42_sglang.engine.loop.verifier import Verifier
from llm42_sglang.engine.metrics import LaneMetrics
from llm42_sglang.engine.names import INFO_KEY, REFUSED_TO_START
from llm42_sglang.engine.passes.ranks import nobody_lost
from llm42_sglang.engine.passes.shape import fitting
from llm42_sglang.engine.service import Service
from llm42_sglang.engine.start.certify import recheck
from llm42_sglang.engine.start.limits import require_supported
from llm42_sglang.engine.start.nodes import meet
from llm42_sglang.engine.start.ready import Ready, make_ready
from llm42_sglang.engine.weights.updates import WeightUpdates
from llm42_sglang.frontend.claims import claim_of
from llm42_sglang.frontend.options import Refused, asks_for_determinism, refuse_unsupported

logger = logging.getLogger(__name__)


@hooks.stand_in("verify between decode steps")
class DeterministicScheduler(Scheduler):
    """Stands in for `sglang.srt.managers.scheduler.Scheduler` in the scheduler process."""

    batch_result_processor: DeterministicResultProcessor
    waiting_queue: list[Req]
    max_req_input_len: int

    def __init__(self, server_args, port_args):
        config = settings.load()
        assert config is not None, "installed without a configuration"
        self.llm42_config: Config = config
        self.llm42_service = Service()
        try:
            hooks.require_live()
            require_supported(server_args, config)
            with nobody_lost(server_args.tp_size):
                store = meet(server_args, config)
                super().__init__(server_args, port_args)
                del store  # SGLang's process group has it now
                self._get_ready()
        except EngineError as error:
            _say(error)
            sys.exit(REFUSED_TO_START)  # the parent knows the status

    def _get_ready(self) -> None:
        """Certify the loaded model, before the first request."""
        config = self.llm42_config = self._with_fitting_group(self.llm42_config)
        longest = longest_prompt(self.max_total_num_tokens, config.page)
        self.max_req_input_len = min(self.max_req_input_len, longest)  # validate_input_length
        self.llm42: Ready = make_ready(self, config)
        labels = {
            "model_name": get_serving().served_model_name,
            "tp_rank": str(get_parallel().tp_rank),
        }
        metrics = LaneMetrics(labels, get_observability().enable_metrics)
        service = self.llm42_service
        forward = self.llm42.forward
        lane = CanonicalLane(forward, config, service, metrics)
        costs = self.llm42.costs
        drafting = None if costs is None else Drafting(costs)
        self.llm42_verifier = Verifier(self, lane, config, drafting)
        self.llm42_updates = WeightUpdates(
            self, self.llm42.identity, service, forward.ranks, partial(recheck, forward)
        )
        self.batch_result_processor = replace(self.batch_result_processor, lane=lane)

    def _with_fitting_group(self, config: Config) -> Config:
        """Lower G to what SGLang's buffers hold: its requests at once, and its pool's pages."""
        requests, pages = self.max_running_requests, self.max_total_num_tokens // config.page
        group = fitting(config.group, min(requests, pages))
        if group < config.group:
            logger.info(
                "llm42: G is %d here: the server runs %d requests at once and has %d KV pages "
                "(--max-running-requests, --max-total-tokens)",
                *(group, requests, pages),
            )
        return replace(config, group=group)

    def get_init_info(self) -> dict:
        """Tell the parent process that deterministic service is live and certified."""
        return super().get_init_info() | {
            INFO_KEY: {
                "fingerprint": self.llm42.identity.fingerprint,
                "facts": self.llm42.identity.facts,
                "certificate": self.llm42.certificate.as_dict(),
            }
        }

    def run_event_loop(self) -> None:
        """As SGLang's. If the ranks disagree, or one is gone, the server ends."""
        try:
            with nobody_lost(get_parallel().tp_size):
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
        """SGLang's `--prefill-decode-interval` in small: `core.fairness` says when."""
        deferred = super()._should_defer_prefill(running_batch)  # counts steps
        owed = self.llm42_verifier.since.owes_step(
            next_is_deterministic=is_deterministic(self._next_prompt()),
            decoding=running_batch.batch_size(),
            waiting=len(self.waiting_queue),
        )
        return deferred or (owed and ordinary_decodes(running_batch))

    def _next_prompt(self) -> Req | None:
        """The request whose prompt SGLang would most likely prefill next."""
        return self.chunked_req or next(iter(self.waiting_queue), None)

    def get_output_streamer_class(self) -> Callable[..., SchedulerOutputStreamer]:
        return partial(DeterministicOutputStreamer, service=self.llm42_service)

    def _create_generation_req(self, recv_req, *args, **kwargs) -> Req:
        custom_params = recv_req.sampling_params.custom_params
        if not asks_for_determinism(custom_params):
            return super()._create_generation_req(recv_req, *args, **kwargs)
        kind = DeterministicReq if claim_of(custom_params) is None else ClaimReq
        req = kind(
            *args,
            page_size=self.llm42_config.page,
            fingerprint=self.llm42.identity.fingerprint,
            **kwargs,
        )
        try:  # again: nothing may come in past the tokenizer process
            refuse_unsupported(recv_req.sampling_params, recv_req)
        except Refused as error:
            req.set_finish_with_abort(str(error))
        if self.llm42_service.problem is not None:
            req.withdraw(self.llm42_service.problem)
        return req

    def abort_request(self, recv_req: AbortReq) -> None:
        """As SGLang's, but a name ends no other request whose name begins with it. A retracted
        request that waits is answered with what it has."""
        named = [r for r in self.waiting_queue if recv_req.abort_all or r.rid == recv_req.rid]
        self.end_retracted(named)
        if recv_req.abort_all:
            super().abort_request(recv_req)
            return
        queued = [*self.waiting_queue, *self.grammar_manager.grammar_queue, self.chunked_req]
        with hidden_namesakes([*queued, *self.collect_inflight_reqs()], recv_req.rid):
            super().abort_request(recv_req)

    def handle_update_weight_version(self, recv_req) -> UpdateWeightVersionReqOutput:
        """As SGLang's. The facts have the new version."""
        answer = super().handle_update_weight_version(recv_req)
        self.llm42_updates.renamed()
        return answer

    def not_ended(self, batches: Sequence[ScheduleBatch]) -> list[DeterministicReq]:
        """Deterministic requests that nothing has ended, in these batches or waiting."""
        waiting = [*self.waiting_queue, *self.grammar_manager.grammar_queue, self.chunked_req]
        known = {id(req): req for req in [*_reqs_of(batches), *waiting] if _goes_on(req)}
        return list(known.values())

    def end_all(self, reqs: Sequence[DeterministicReq], batches: Sequence[ScheduleBatch]) -> None:
        """End these requests with an error: the service has ended. Ordinary ones go on."""
        assert self.llm42_service.problem is not None, "the service is live"
        for req in reqs:
            req.withdraw(self.llm42_service.problem)
        # Those who decode end here and now: nothing drains or verifies for them any more. A prompt
        # with a next chunk is in a batch too, and SGLang goes on with it: it ends at its last one.
        decoding = {*map(id, _reqs_of(batches))} - {id(self.chunked_req)}
        ending = [req for req in reqs if id(req) in decoding]
        self.batch_result_processor.commit(ending, [[] for _ in ending])

    def end_retracted(self, reqs: Sequence[Req]) -> None:
        """End the deterministic ones of these waiting requests that have output, as aborted.

        SGLang would only say that they are gone, or prefill them again to end with another token.
        """
        ending = [req for req in reqs if isinstance(req, DeterministicReq) and req.output_ids]
        self.waiting_queue = [req for req in self.waiting_queue if req not in ending]
        for req in ending:
            req.to_finish = req.to_finish or FINISH_ABORT()
            req.update_finish_state(0)
            self._release_aborted_request(req)
            self.output_streamer.stream_output([req], req.return_logprob)

    def init_tp_model_worker(self) -> None:
        """Send deterministic prefill batches to the canonical lane. All others are SGLang's."""
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
        self.llm42_verifier.launching(batch)
        with drawing(batch.reqs):
            result = original(batch, *args, **kwargs)
        if (sample := result.delay_sample_func) is not None:  # overlap, and a grammar in the batch

            def sample_later():
                with drawing(batch.reqs):
                    return sample()

            result.delay_sample_func = sample_later
        return result

    def run_batch(self, batch: ScheduleBatch, *args, **kwargs) -> GenerationBatchResult:
        """As SGLang's. Pages that were verified in the batch are settled."""
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


def _reqs_of(batches: Sequence[ScheduleBatch]) -> list[Req]:
    return [req for batch in batches for req in batch.reqs]


def _goes_on(req: Req | None) -> bool:
    """Whether it is a deterministic request that nothing has ended yet."""
    return isinstance(req, DeterministicReq) and not req.finished() and not req.withdrawn


def _say(error: Exception) -> None:
    """One line instead of SGLang's traceback; every rank has its own."""
    parallel = get_parallel()
    rank, replica = parallel.tp_rank, parallel.dp_rank or 0
    where = f" on rank {rank} of replica {replica}" if rank or replica else ""
    print(f"llm42: error{where}: {error}", file=sys.stderr, flush=True)
    settings.give_reason(str(error))

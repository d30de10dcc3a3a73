"""SGLang's scheduler with verification between its steps.

The loop, admission, batching, decode, retraction and aborts are SGLang's. This class adds: who is
deterministic (`_create_generation_req`), whose forward is canonical (`init_tp_model_worker`), and
when candidates are verified (`get_next_batch_to_run`).
"""

import logging
import sys
from functools import partial

import torch
from sglang.srt.managers.overlap_utils import RelayPayload
from sglang.srt.managers.schedule_batch import NextBatchPlan, Req, ScheduleBatch
from sglang.srt.managers.schedule_policy import PrefillAdder
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer
from sglang.srt.managers.utils import GenerationBatchResult

from llm42_sglang.core.config import Config
from llm42_sglang.engine import faults, hooks, settings, weights
from llm42_sglang.engine.admission import HomogeneousPrefillAdder, is_deterministic
from llm42_sglang.engine.canonical import CanonicalForward
from llm42_sglang.engine.certify import CertificationError, certify
from llm42_sglang.engine.fastpath import proposing
from llm42_sglang.engine.fingerprint import fingerprint_of
from llm42_sglang.engine.lane import CanonicalLane
from llm42_sglang.engine.limits import UnsupportedError, require_supported, require_whole_pages
from llm42_sglang.engine.names import INFO_KEY, REFUSED_TO_START
from llm42_sglang.engine.request import DeterministicReq
from llm42_sglang.engine.seams import SeamError
from llm42_sglang.engine.streamer import DeterministicOutputStreamer
from llm42_sglang.frontend.options import Refused, asks_for_determinism, refuse_unsupported

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
        except (CertificationError, SeamError, UnsupportedError) as error:
            # One line instead of SGLang's traceback; the parent knows the status.
            print(f"llm42: error: {error}", file=sys.stderr, flush=True)
            sys.exit(REFUSED_TO_START)

    def _certify(self) -> None:
        runner, config = self.tp_worker.model_runner, self.llm42_config
        if self.is_hybrid_swa or self.is_hybrid_ssm or runner.model_config.is_multimodal:
            raise UnsupportedError(
                "models with sliding-window pools, recurrent state or images are not supported "
                "with deterministic service yet; serve this one without llm42"
            )
        require_whole_pages(runner.model_config.context_len, config)
        weights.freeze(runner)
        forward = CanonicalForward(runner, config, faults.pass_fault())
        self.llm42_certificate = certify(forward)
        self.llm42_lane = CanonicalLane(forward, config)
        self.llm42_fingerprint = fingerprint_of(runner, config, self.tokenizer, self.max_req_len)
        logger.info("llm42: fingerprint %s", self.llm42_fingerprint)

    def get_init_info(self) -> dict:
        """Tells the parent process that deterministic service is live, and certified."""
        return super().get_init_info() | {
            INFO_KEY: {
                "fingerprint": self.llm42_fingerprint,
                "certificate": self.llm42_certificate.as_dict(),
            }
        }

    # -- SGLang's own extension points --

    def get_prefill_adder_class(self) -> type[PrefillAdder]:
        return HomogeneousPrefillAdder

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
        return req

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
            with proposing(batch.reqs):
                return original(batch, *args, **kwargs)
        assert all(map(is_deterministic, batch.reqs)), "a prefill batch mixes both kinds"
        tokens = self.llm42_lane.prefill(batch)
        return GenerationBatchResult(next_token_ids=torch.tensor(tokens, device=batch.device))

    # -- Verification, between decode steps --

    def get_next_batch_to_run(
        self, running_batch: ScheduleBatch, last_batch: ScheduleBatch | None
    ) -> NextBatchPlan:
        """Verify every due request, then plan the next step as SGLang does."""
        due = [req for req in running_batch.reqs if is_deterministic(req) and req.due]
        if due:
            self._verify(running_batch, due)
        return super().get_next_batch_to_run(running_batch, last_batch)

    def _verify(self, running_batch: ScheduleBatch, due: list[DeterministicReq]) -> None:
        """One canonical pass per G due requests; commit what agrees, roll back what does not."""
        runs: list[list[int]] = []
        for req, rows in self.llm42_lane.verify(due):
            action = req.verified(rows)
            runs.append(list(action.commit))
            if action.dropped:
                logger.debug("llm42: rolled back %d tokens of %s", action.dropped, req.rid)
        self._rewind(running_batch, due, [run[-1] for run in runs])
        self.batch_result_processor.commit(due, runs)

    def _rewind(
        self, batch: ScheduleBatch, reqs: list[DeterministicReq], next_inputs: list[int]
    ) -> None:
        """Make the decode batch continue from what was committed.

        A request never decodes past the page under verification, so a rollback frees no page: the
        next steps write the same slots again.
        """
        index = {id(req): i for i, req in enumerate(batch.reqs)}
        at = torch.tensor([index[id(req)] for req in reqs])
        lengths = torch.tensor([req.track.kv_len for req in reqs])
        # New tensors, as SGLang does: an earlier step may still read the old ones.
        batch.seq_lens = batch.seq_lens.index_copy(
            0, at.to(batch.device), lengths.to(batch.device, batch.seq_lens.dtype)
        )
        batch.seq_lens_cpu = batch.seq_lens_cpu.index_copy(
            0, at, lengths.to(batch.seq_lens_cpu.dtype)
        )
        batch.orig_seq_lens = batch.orig_seq_lens.index_copy(
            0, at.to(batch.device), lengths.to(batch.device, batch.orig_seq_lens.dtype)
        )
        batch.seq_lens_sum = None
        for req in reqs:
            req.kv.kv_committed_len = req.kv.kv_allocated_len = req.track.kv_len
        rows = batch.req_pool_indices[at.to(batch.device)]
        self.future_map.stash(
            rows, RelayPayload(bonus_tokens=torch.tensor(next_inputs, device=batch.device))
        )

"""SGLang's loop and the canonical forward, made up, for tests without a server.

Requests, tracks, the policy, the verifier, the lane and its audit are the real ones between them.
"""

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from sglang.srt.managers.schedule_batch import FINISH_LENGTH, Req
from sglang.srt.model_executor.forward_batch_info import ForwardMode
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.core.config import Config
from llm42_sglang.core.track import Track
from llm42_sglang.engine.loop.drafting import Drafting
from llm42_sglang.engine.loop.lane import CanonicalLane
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.loop.verifier import Verifier
from llm42_sglang.engine.metrics import LaneMetrics
from llm42_sglang.engine.passes.ranks import Ranks
from llm42_sglang.engine.passes.shape import Shape
from llm42_sglang.engine.scheduler import DeterministicScheduler
from llm42_sglang.engine.service import Service

T = 16
TOKENIZER = SimpleNamespace(encode=lambda text, **how: [0])  # counts the tokens of stop strings
FULL = T - 2  # candidates that fill the page behind a prompt and an output of one token each


def request(
    kind: type[Req] = DeterministicReq, name: str = "id", prompt: Sequence[int] = (0,), **sampling
) -> Req:
    """Greedy, unless it says otherwise."""
    params = SamplingParams(**{"temperature": 0, "max_new_tokens": 99, **sampling})
    params.normalize(TOKENIZER)
    extra = {"page_size": T, "fingerprint": "f"} if issubclass(kind, DeterministicReq) else {}
    return kind(name, "", array("q", prompt), params, vocab_size=6, **extra)


def decoding(
    name: str = "id",
    candidates: int = 0,
    row: int = 1,
    prompt: Sequence[int] = (0,),
    output: Sequence[int] = (0,),
    **sampling,
) -> DeterministicReq:
    """A deterministic request that decodes; every candidate is token 0."""
    req = request(DeterministicReq, name, prompt, **sampling)
    req.output_ids.extend(output)
    known = len(prompt) + len(output)
    req.track = Track(T, known, known - 1, candidates=(0,) * candidates, decoding=True)
    req.kv.req_pool_idx, req.kv.kv_allocated_len = row, req.track.kv_len
    return req


def ordinary(name: str = "ordinary", output: int = 2) -> Req:
    """An ordinary request with so many tokens of output: from two on it decodes."""
    req = request(Req, name)
    req.output_ids.extend([0] * output)
    return req


def prompt(tokens: int = T, row: int = 9) -> DeterministicReq:
    """A deterministic request whose prompt, of so many tokens, is about to run."""
    req = request(prompt=range(tokens))
    req.full_untruncated_fill_ids, req.extend_end = req.origin_input_ids, tokens
    req.kv.req_pool_idx = row
    return req


def end(req: Req) -> Req:
    req.finished_reason = FINISH_LENGTH(1)
    return req


def batch_of(*reqs: Req, mode: ForwardMode = ForwardMode.DECODE) -> SimpleNamespace:
    """SGLang's batch; by default it decodes."""
    lengths = torch.zeros(len(reqs), dtype=torch.int64)
    same = dict.fromkeys(("seq_lens", "seq_lens_cpu", "orig_seq_lens", "req_pool_indices"), lengths)
    size = {"batch_size": lambda: len(reqs)}
    return SimpleNamespace(reqs=[*reqs], forward_mode=mode, device="cpu", **same, **size)


class Forward:
    """Keeps every pass. Logits, [T, 1], say whose row they are, and which of its page's; with one
    token to choose from, every candidate is right."""

    def __init__(self, widths: tuple[int, ...] = (8,), step_sizes: Sequence[int] = (), audit=32):
        self.shape = Shape(widths, step_sizes=frozenset(step_sizes))
        self.config = Config(page=T, group=widths[-1], audit=audit)
        self.ranks = Ranks()
        self.passes: list[list[tuple[int, int, bool]]] = []  # row, page, whether it is scored
        self.kv: dict[tuple[int, int], float] = {}  # by row and page
        self.happened: Callable[[str], None] = lambda what: None

    def wait(self) -> None:
        """Nothing is running."""

    def kv_of(self, row: int, page: int) -> torch.Tensor:
        return torch.full((2, 2, T, 8), self.kv.get((row, page), 1.0))

    def __call__(self, slots) -> list[torch.Tensor | None]:
        self.happened("pass")
        self.passes.append([(slot.row, slot.page, slot.scored) for slot in slots])
        return [logits_of(slot.row) if slot.scored else None for slot in slots]


def logits_of(row: int) -> torch.Tensor:
    return 100 * row + torch.arange(float(T)).unsqueeze(1)


def lane(*widths: int, **more) -> CanonicalLane:
    """Certified for passes of these widths; more: of `Forward`."""
    forward = Forward(widths or (8,), **more)
    return CanonicalLane(forward, forward.config, Service(), LaneMetrics({}, enabled=False))


class Loop:
    """SGLang's scheduler, as the verifier sees it; `events` says what happened, in order."""

    def __init__(self, *reqs: Req, lane: CanonicalLane, drafting: Drafting | None = None):
        self.events: list[str] = []
        self.running_batch = batch_of(*reqs)
        self.result_queue: deque = deque()  # steps in flight: (batch, result)
        self.waiting_queue, self.chunked_req = [], None
        self.grammar_manager = SimpleNamespace(grammar_queue=[])
        self.future_map = SimpleNamespace(stash=lambda rows, payload: None)
        self.batch_result_processor = SimpleNamespace(commit=self._commit)
        lane.forward.happened = self.events.append
        self.verifier = Verifier(self, lane, lane.config, drafting)
        self.llm42_service = lane.service

    def before_step(self) -> None:
        self.verifier.between_steps(self.running_batch, None)

    def prefill(self) -> None:
        """A deterministic prompt of one page runs."""
        batch = batch_of(prompt(), mode=ForwardMode.EXTEND)
        self.verifier.prefill(batch)
        self.verifier.launched(batch)

    def process_batch_result(self, batch, result) -> None:
        self.events.append("results")

    not_ended, end_all = DeterministicScheduler.not_ended, DeterministicScheduler.end_all

    def _commit(self, reqs, runs) -> None:
        for req, run in zip(reqs, runs, strict=True):
            req.output_ids.extend(run)
            req.update_finish_state(len(run))
            self.events.append(f"{'end' if req.finished() else 'commit'} {req.rid}")

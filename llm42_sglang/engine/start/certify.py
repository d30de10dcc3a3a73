"""Start-up certification: A1 to A4 are measured on the loaded model.

    A1  the same inputs give the same bits
    A2  a slot depends on its own tokens and its request's earlier pages, not on its index, the
        other slots, the number of pages in the pass, or where in the KV pool the pages lie
    A3  a row depends on no row after it
    A4  a row of a decode step of n requests, over canonical rows, has the bits of a canonical pass

For A1 to A3 the exam runs the same pages in several ways. The logits and the KV of every layer must
be the same, bit for bit. Otherwise the server does not start.

Three things are left out if their bits differ, and the server starts without them:
- passes narrower than G slots;
- passes from CUDA graphs, which must have the bits of eager passes;
- canonical steps of n requests, where A4 is examined for each n. Other steps are verified.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from llm42_sglang.core.ranges import ranges
from llm42_sglang.engine.errors import CertificationError, RanksDisagreeError
from llm42_sglang.engine.passes.canonical import CanonicalForward, same_bits
from llm42_sglang.engine.passes.ranks import Ranks, is_lost
from llm42_sglang.engine.passes.shape import Shape
from llm42_sglang.engine.start.exam import CANNOT_RUN, Bits, Exam
from llm42_sglang.engine.start.step_exam import StepExam
from llm42_sglang.platform.experts import steps_follow_routing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What certification compared, and the shape of passes and steps that it found."""

    shape: Shape
    passes: int  # passes that were run
    rows: int  # rows that were compared: their logits, and their KV in every layer
    layers: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """Return the certificate in plain JSON types, as an endpoint shows it."""
        return {
            "passes": self.passes,
            "rows": self.rows,
            "layers": self.layers,
            "widths": self.shape.widths,
            "replayed": self.shape.replayed,
            "step_sizes": sorted(self.shape.step_sizes),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        """Return the certificate as one line of the log."""
        sizes = sorted(self.shape.step_sizes)
        graphs = f"those of {_either(self.shape.replayed)}" if self.shape.replayed else "none"
        return (
            f"certified in {self.seconds:.1f} s: A1, A2 and A3 hold bitwise over {self.passes} "
            f"passes, {self.rows} rows of logits and of KV in each of {self.layers} layers; passes "
            f"of {_either(self.shape.widths)} slots give the same bits, "
            f"{graphs} from CUDA graphs; decode steps of {ranges(sizes) or 'no number of'} rows "
            "are canonical (A4)"
        )


@torch.no_grad()
def certify(forward: CanonicalForward, with_steps: bool = True) -> Certificate:
    """Run every comparison and return what may be run. All ranks do this together.

    with_steps: whether to examine decode steps. Without that no step is canonical, so every token
    will be verified.
    Raises CertificationError, which names the assumption that failed, or RanksDisagreeError.
    """
    started = time.perf_counter()
    try:
        exam = Exam(forward)
        rows = sum(_compared_by_all(forward.ranks, *each) for each in exam.variations())
        shape = Shape(widths := exam.equal_widths(), exam.equal_graphs(widths))
        rows += sum(_compared_by_all(forward.ranks, *each) for each in exam.head_variations(shape))
        steps = StepExam(forward, shape)
        if with_steps and not _steps_follow_routing(forward):
            shape = replace(shape, step_sizes=frozenset(steps.canonical_sizes()))
    except (CertificationError, RanksDisagreeError):
        raise
    except CANNOT_RUN as error:
        if is_lost(error):
            raise
        raise CertificationError(
            f"this model cannot run a canonical pass ({type(error).__name__}: {error}); "
            "serve it without llm42"
        ) from error
    return Certificate(
        shape=shape,
        passes=exam.passes + steps.passes,
        rows=rows + steps.rows,
        layers=len(forward.layers),
        seconds=round(time.perf_counter() - started, 2),
    )


@torch.no_grad()
def recheck(forward: CanonicalForward) -> str | None:
    """Run a small part of certification again, after a weight update: what is wrong, or None.

    No request may hold KV. If something does, as a session of SGLang's, nothing is run. All ranks
    do this together.
    """
    allocator = forward.runner.token_to_kv_pool_allocator
    if not forward.config.recheck:
        return None
    if allocator.available_size() < allocator.size:
        logger.warning("llm42: canonical passes are not checked again: something holds KV")
        return None
    try:
        for each in Exam(forward).small_part(forward.shape):
            _compared_by_all(forward.ranks, *each)
        if size := StepExam(forward, forward.shape).lost(forward.shape.step_sizes):
            return f"A4, a step of {size} rows"
    except RanksDisagreeError:
        raise
    except CertificationError as error:
        return str(error)
    except CANNOT_RUN as error:
        if is_lost(error):
            raise
        return f"{type(error).__name__}: {error}"
    return None


def _steps_follow_routing(forward: CanonicalForward) -> bool:
    follow = steps_follow_routing(forward.runner.model, forward.runner.device)
    if follow:
        logger.info(
            "llm42: all decode steps will be verified: experts get the rows that chose them"
        )
    return follow


def _either(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def _compared_by_all(ranks: Ranks, name: str, expected: list[Bits], actual: list[Bits]) -> int:
    """Return the number of rows compared.

    If any rank sees a difference, all ranks raise the CertificationError of the first such rank.
    """
    rows, problem = 0, None
    try:
        rows = _compare(name, expected, actual)
    except CertificationError as error:
        problem = str(error)
    problems = list(filter(None, ranks.gather(problem)))
    if problems:
        raise CertificationError(problems[0])
    return rows


def _compare(name: str, expected: list[Bits], actual: list[Bits]) -> int:
    """Return the number of rows compared. Raises CertificationError at the first difference."""
    rows = 0
    for page, (want, got) in enumerate(zip(expected, actual, strict=True)):
        for what, a, b in (("logits", want.logits, got.logits), ("KV", want.kv, got.kv)):
            if not same_bits(a, b):
                raise CertificationError(
                    f"assumption {name} does not hold on this model and backend: the {what} of "
                    f"page {page} differ bitwise; deterministic service cannot start "
                    "(try --attention-backend torch_native or another --dtype; with more than two "
                    "ranks try fewer, for an all-reduce may sum in an order that follows the slot)"
                )
        rows += len(want.logits)
    return rows

"""The ranks of a tensor-parallel group must decide alike. Otherwise the server ends.

Every rank has a scheduler of its own, and a canonical pass is one forward of all ranks. So all of
them must run the same pass and draw the same tokens from it. Each keeps a digest of its decisions.
The digests are compared before every pass, and again before tokens of that pass are committed.

One rank alone may find that a page of its KV has other bits. Then all ranks are told.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from sglang.srt.runtime_context import get_parallel

from llm42_sglang.engine.errors import EngineError, RanksDisagreeError

logger = logging.getLogger(__name__)

Value = TypeVar("Value")
DEADLINE = timedelta(seconds=120)  # until which the slowest rank must have come to a pass


class Ranks:
    """The tensor-parallel group of this process, and its rank. A group of one costs nothing."""

    def __init__(self, group: dist.ProcessGroup | None = None, size: int = 1, rank: int = 0):
        self.group = group
        self.size = size
        self.rank = rank
        self._chain = hashlib.sha256()  # hash of all decisions so far

    def note(self, *decision: object) -> None:
        """Add a decision that every rank must make alike: plain values, hashed as text."""
        if self.size > 1:
            self._chain.update(repr(decision).encode())

    def agree(self, *decision: object) -> None:
        """Note the decision, if there is one, and wait until every rank has come here.

        Raises RanksDisagreeError if a rank has noted other decisions, or does not come.
        """
        if self.size == 1:
            return
        self.note(*decision)
        digest = int.from_bytes(self._chain.digest()[:7], "big")  # fits an int64
        mine = torch.tensor([digest])
        digests = [torch.empty_like(mine) for _ in range(self.size)]
        try:
            dist.all_gather(digests, mine, group=self.group)
        except RuntimeError as error:
            raise self._left_alone(error) from error
        odd = [rank for rank, other in enumerate(digests) if other != digests[0]]
        if odd:
            raise RanksDisagreeError(
                f"rank {odd[0]} disagrees with rank 0 on what a canonical pass holds, or on "
                "what it gave; restart the server"
            )

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all ranks, in order. They must be small, and picklable.

        Raises RanksDisagreeError if a rank does not come.
        """
        values = [value] * self.size
        if self.size > 1:
            try:
                dist.all_gather_object(values, value, group=self.group)
            except RuntimeError as error:
                raise self._left_alone(error) from error
        return values

    def _left_alone(self, error: RuntimeError) -> RanksDisagreeError:
        """Return our error for one of gloo's, which means that a rank is too late or has ended."""
        return RanksDisagreeError(
            f"rank {self.rank} is at a canonical pass that another rank has not come to "
            f"({str(error).splitlines()[0]}); restart the server"
        )


def join_ranks() -> Ranks:
    """Return the group of this scheduler. All its ranks must call this together.

    Raises RanksDisagreeError if one does not come.
    """
    parallel = get_parallel()
    if parallel.tp_size == 1:
        return Ranks()
    ranks = Ranks(None, parallel.tp_size, parallel.tp_rank)
    try:
        ranks.group = dist.new_group(parallel.tp_group.ranks, timeout=DEADLINE, backend="gloo")
    except RuntimeError as error:
        raise ranks._left_alone(error) from error
    return ranks


def is_lost(error: BaseException) -> bool:
    """Whether an error of torch means that a rank has ended, or its node."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


@contextmanager
def nobody_lost(ranks: int) -> Iterator[None]:
    """Raise RanksDisagreeError for an error inside that means that a rank has ended. The log has
    what torch says. ranks: how many there are; who is alone cannot lose one."""
    try:
        yield
    except RuntimeError as error:
        if ranks == 1 or isinstance(error, EngineError) or not is_lost(error):
            raise
        logger.exception("llm42: a collective of %d ranks failed", ranks)
        raise RanksDisagreeError(
            f"another rank may have ended ({str(error).splitlines()[0]}); see its log, and start "
            "the server again, on all nodes"
        ) from error

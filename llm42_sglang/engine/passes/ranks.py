"""The ranks of a tensor-parallel group decide alike, or the server ends.

Every rank has a scheduler of its own, and a canonical pass is one forward of all of them. So each
must run the same pass and draw the same tokens from it: a digest of all decisions is compared
before every pass, and again before anything that it gave is committed. What one rank alone can see,
a page of its own KV that comes out with other bits, becomes the finding of all.
"""

import hashlib
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from sglang.srt.runtime_context import get_parallel

from llm42_sglang.engine.errors import RanksDisagreeError

Value = TypeVar("Value")
DEADLINE = timedelta(seconds=120)  # for the slowest rank to come to the same pass


class Ranks:
    """This process's view of its tensor-parallel group. Alone, it costs nothing."""

    def __init__(self, group: dist.ProcessGroup | None = None, size: int = 1, rank: int = 0):
        self.group = group
        self.size = size
        self.rank = rank
        self._chain = hashlib.sha256()  # of all passes and decisions so far

    def note(self, *decision: object) -> None:
        """Something that every rank must have decided alike: plain values; their text counts."""
        if self.size > 1:
            self._chain.update(repr(decision).encode())

    def agree(self, *decision: object) -> None:
        """Note the decision, if there is one, and raise RanksDisagreeError unless every rank is
        here with the same decisions noted."""
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
        """Every rank's value, in order; small picklable ones. Raises RanksDisagreeError if a rank
        does not come."""
        values = [value] * self.size
        if self.size > 1:
            try:
                dist.all_gather_object(values, value, group=self.group)
            except RuntimeError as error:
                raise self._left_alone(error) from error
        return values

    def _left_alone(self, error: RuntimeError) -> RanksDisagreeError:
        """Of gloo's error: it timed out, or a rank is gone."""
        return RanksDisagreeError(
            f"rank {self.rank} is at a canonical pass that another rank has not come to "
            f"({str(error).splitlines()[0]}); restart the server"
        )


def join_ranks() -> Ranks:
    """The group of this scheduler; all its ranks must call this together."""
    parallel = get_parallel()
    if parallel.tp_size == 1:
        return Ranks()
    group = dist.new_group(parallel.tp_group.ranks, timeout=DEADLINE, backend="gloo")
    return Ranks(group, parallel.tp_size, parallel.tp_rank)

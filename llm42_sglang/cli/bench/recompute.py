"""What verification threw away, added up over receipts."""

from collections.abc import Sequence
from typing import NamedTuple

from llm42_sglang.cli.bench.outcome import Outcome
from llm42_sglang.cli.errors import UserError


class Recompute(NamedTuple):
    """Over deterministic requests."""

    requests: int
    tokens_out: int
    rolled_back: int  # tokens
    rollbacks: int
    passes: int

    @property
    def rate(self) -> float | None:
        """Of all tokens made, the share thrown away; None where nothing was made."""
        made = self.tokens_out + self.rolled_back
        return self.rolled_back / made if made else None


def recompute(outcomes: Sequence[Outcome]) -> Recompute:
    """Raises UserError if a deterministic answer is not verified: it would measure nothing."""
    served = [outcome for outcome in outcomes if outcome.request.deterministic]
    if not all(outcome.receipt.get("verified") is True for outcome in served):
        raise UserError("the server does not verify deterministic answers: is it `llm42 serve`?")
    return Recompute(
        len(served),
        sum(len(outcome.output_ids) for outcome in served),
        *(
            sum(outcome.receipt[counter] for outcome in served)
            for counter in ("tokens_rolled_back", "rollbacks", "verify_passes")
        ),
    )

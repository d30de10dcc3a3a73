"""What an ordinary request may have to wait for, because deterministic ones are served beside it.

    a pass          One canonical pass for verification may run between two decode steps. More run
                    only while a deterministic request is blocked (policy.py).
    a prompt        While ordinary requests decode, a deterministic prompt runs one pass at a time
                    (engine/loop/admission.py), and a decode step follows before any other prompt.
                    Nor does a deterministic prompt follow another prompt without a decode step in
                    between.
    the other kind  A prefill batch holds one kind of request. A request of the other kind is passed
                    over by one batch at most: the first one passed over leads the next batch.

While at least as many prompts wait as requests decode, prompts go first, as in SGLang.
"""

from dataclasses import dataclass
from enum import Enum

MOST_PASSED_OVER = 32  # requests; SGLang looks up the prefix of each one before it asks us


@dataclass(frozen=True, slots=True)
class SinceStep:
    """What has run since the last decode step."""

    passes: int = 0  # for verification
    prompts: bool = False  # a prompt of any kind, or a chunk of one
    deterministic_prompts: bool = False

    def owes_step(self, next_is_deterministic: bool, decoding: int, waiting: int) -> bool:
        """Whether the requests that decode get a step before the next prompt.

        next_is_deterministic: the kind of that prompt. decoding, waiting: how many requests decode,
        and how many prompts wait.
        """
        owed = self.deterministic_prompts or (self.prompts and next_is_deterministic)
        return owed and decoding > waiting


class Turn(Enum):
    """What a prefill batch does with the next request of the queue."""

    TAKE = "take"
    PASS_OVER = "pass over"  # and look at the one after it
    END = "end"


@dataclass(frozen=True, slots=True)
class PrefillBatch:
    """A prefill batch that is being put together."""

    kind: bool | None  # whether its requests are deterministic; None while it is empty
    passed_over: int  # requests of the other kind
    overtaking: bool  # whether requests may be passed over at all

    def turn(self, deterministic: bool, fits_whole: bool) -> Turn:
        """Decide what the batch does with the next request of the queue.

        deterministic: the kind of that request. fits_whole: its whole prompt fits into this batch.
        A request that overtakes others must fit whole. Otherwise its rest would lead the next
        batch, before those that were passed over.
        """
        if self.kind not in (None, deterministic):
            may_pass = self.overtaking and self.passed_over < MOST_PASSED_OVER
            return Turn.PASS_OVER if may_pass else Turn.END
        return Turn.END if self.passed_over and not fits_whole else Turn.TAKE

"""Verdicts. Nothing is asked here: recorded and observed outputs in, PASSED, FAILED or UNKNOWN out.

Two outputs are of the same fingerprint unless their receipts name two. Outputs of one fingerprint
must be equal to the bit; outputs of two may differ, and nobody has promised otherwise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

from llm42_sglang.errors import UserError
from llm42_sglang.repro.conditions import Observation
from llm42_sglang.repro.differences import Fingerprint, explain
from llm42_sglang.repro.golden import Golden, Recorded
from llm42_sglang.repro.output import Mismatch, Output, mismatch


class Verdict(Enum):
    """Of a case, and of a whole check."""

    PASSED = "PASSED"
    FAILED = "FAILED"  # bits differ, and nothing explains it
    UNKNOWN = "UNKNOWN"  # no answer, nobody vouches for it, or another fingerprint gave another one


@dataclass(frozen=True, slots=True)
class Difference:
    """Two outputs of one case that are not equal, the earlier one and where it is from."""

    source: str
    before: Output
    after: Observation
    mismatch: Mismatch


@dataclass(frozen=True, slots=True)
class Judged:
    """One case."""

    case: Recorded
    verdict: Verdict
    reason: str  # one line
    observations: tuple[Observation, ...]  # those with an answer
    difference: Difference | None = None  # that the verdict is about
    complete: bool = True  # whether all have one

    @property
    def consistent(self) -> bool:
        """Whether all conditions gave the same bits, recorded ones aside."""
        outputs = [one.answer.output for one in self.observations]
        same = all(mismatch(a, b) is None for a, b in combinations(outputs, 2))
        return self.complete and same


@dataclass(frozen=True, slots=True)
class Checked:
    """A whole check."""

    cases: tuple[Judged, ...]
    recorded: Fingerprint | None
    observed: Fingerprint | None

    @property
    def verdict(self) -> Verdict:
        """The worst there is."""
        worst_first = (Verdict.FAILED, Verdict.UNKNOWN)
        return next(filter(self.count, worst_first), Verdict.PASSED)

    @property
    def change(self) -> str:
        """One line about the two fingerprints."""
        return explain(self.recorded, self.observed)

    def count(self, verdict: Verdict) -> int:
        """Cases with this verdict."""
        return sum(judged.verdict is verdict for judged in self.cases)


def judge(
    case: Recorded,
    observations: Sequence[Observation],
    recorded: Fingerprint | None,
    observed: Fingerprint | None,
) -> Judged:
    """One case under all conditions. Fingerprints: of the golden file, and of the server now.

    What counts is the first contradiction; else the first answer that is missing; else the first
    difference.
    """
    assert observations, "nothing was observed"
    seen = tuple(one for one in observations if one.answer is not None)
    missing = [one for one in observations if one.answer is None]
    differences = list(_differences(case, seen))
    for one in differences:
        if _same_print(one.before, one.after.answer.output):
            reason = f"{place(one.after.condition)}, {one.mismatch.told(one.source)}"
            return Judged(case, Verdict.FAILED, reason, seen, one, not missing)
    for one in missing:
        reason = f"{place(one.condition)}, no answer: {one.error}"
        return Judged(case, Verdict.UNKNOWN, reason, seen, complete=False)
    for one in differences:
        change = explain(recorded, observed)
        told = one.mismatch.told(one.source)
        reason = f"the answer changed with the fingerprint ({change}): {told}"
        return Judged(case, Verdict.UNKNOWN, reason, seen, one)
    outputs = [one.answer.output for one in seen]
    if not all(output.receipt for output in outputs):
        return Judged(case, Verdict.UNKNOWN, "same bits, but the answers carry no receipt", seen)
    if not all(output.verified for output in outputs):
        return Judged(case, Verdict.UNKNOWN, "same bits, but not every answer is verified", seen)
    reason = f"same bits under {len(seen)} condition{'s' * (len(seen) > 1)}, verified"
    if not all(_same_print(case.output, output) for output in outputs):
        reason += ", though under another fingerprint"
    return Judged(case, Verdict.PASSED, reason, seen)


def _differences(case: Recorded, seen: Sequence[Observation]) -> Iterator[Difference]:
    pairs = [("recorded", case.output, one) for one in seen]
    pairs += [
        (f"{place(early.condition)} gave", early.answer.output, late)
        for early, late in combinations(seen, 2)
    ]
    for source, before, after in pairs:
        if found := mismatch(before, after.answer.output):
            yield Difference(source, before, after, found)


def _same_print(left: Output, right: Output) -> bool:
    """Without a receipt nobody says that anything has changed."""
    prints = {left.fingerprint, right.fingerprint} - {None}
    return len(prints) <= 1


def place(condition: str) -> str:
    """A condition in a sentence."""
    return {"load": "in load", "warm": "with a warm cache"}.get(condition, condition)


def updated(golden: Golden, checked: Checked, model: str) -> Golden:
    """The golden file with the answers seen now, those that were checked.

    Raises UserError where answers differ between conditions, are missing or, on a server that gives
    receipts, are not verified: noise is not to be recorded; and where only some cases were checked
    though the fingerprint has changed: a file has one.
    """
    new = {}
    for judged in checked.cases:
        name = judged.case.id
        outputs = [one.answer.output for one in judged.observations]
        if not judged.consistent:
            raise UserError(
                f"case {name} is not the same under all conditions: {judged.reason}; "
                "the golden file is as it was"
            )
        if any(output.receipt and not output.verified for output in outputs):
            raise UserError(f"case {name} is not verified; the golden file is as it was")
        # Of the condition that tells most: streams may lack token ids.
        fullest = max(outputs, key=lambda one: (one.ids is not None, one.logprobs is not None))
        new[name] = judged.case.model_copy(update={"output": fullest})
    if len(new) < len(golden.cases) and checked.recorded != checked.observed:
        raise UserError("the fingerprint has changed: update all cases, without --only and --tag")
    cases = [new.get(case.id, case) for case in golden.cases]
    return Golden(model=model, fingerprint=checked.observed, cases=cases)

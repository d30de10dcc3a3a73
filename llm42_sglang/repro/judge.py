"""Verdicts. Nothing is asked here: recorded and observed outputs in, PASSED, FAILED or UNKNOWN out.

Two outputs are of the same fingerprint unless their receipts name two. Outputs of one fingerprint
must be equal to the bit; outputs of two may differ, and nobody has promised otherwise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations
from typing import NamedTuple

from llm42_sglang.repro.conditions import Observation
from llm42_sglang.repro.differences import Fingerprint, explain
from llm42_sglang.repro.golden import Recorded
from llm42_sglang.repro.output import Mismatch, Output, mismatch


class Verdict(Enum):
    """Of a case, and of a whole check."""

    PASSED = "PASSED"
    FAILED = "FAILED"  # bits differ, and nothing explains it
    UNKNOWN = "UNKNOWN"  # nobody vouches for the answer, or another fingerprint gave another one


@dataclass(frozen=True, slots=True)
class Judged:
    """One case."""

    case: Recorded
    verdict: Verdict
    reason: str  # one line
    observations: tuple[Observation, ...]
    mismatch: Mismatch | None = None
    condition: str | None = None  # under which the mismatch was seen
    against: Output | None = None  # the output it differs from
    differing: Output | None = None

    @property
    def consistent(self) -> bool:
        """Whether all conditions gave the same bits, recorded ones aside."""
        outputs = [one.answer.output for one in self.observations]
        return all(mismatch(a, b) is None for a, b in combinations(outputs, 2))


@dataclass(frozen=True, slots=True)
class Checked:
    """A whole check."""

    cases: tuple[Judged, ...]
    recorded: Fingerprint | None
    observed: Fingerprint | None

    @property
    def verdict(self) -> Verdict:
        """The worst there is."""
        verdicts = {judged.verdict for judged in self.cases}
        for worst in (Verdict.FAILED, Verdict.UNKNOWN):
            if worst in verdicts:
                return worst
        return Verdict.PASSED

    @property
    def fingerprint_changed(self) -> bool:
        """Whether both are known, and not the same."""
        both = self.recorded is not None and self.observed is not None
        return both and self.recorded.digest != self.observed.digest

    @property
    def change(self) -> str:
        """One line about the two fingerprints."""
        if not self.fingerprint_changed and None not in (self.recorded, self.observed):
            return "the same"
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
    """One case under all conditions. Fingerprints: of the golden file, and of the server now."""
    assert observations, "nothing was observed"
    seen = tuple(observations)
    if differing := _difference(case, seen, explain(recorded, observed)):
        return differing
    outputs = [one.answer.output for one in seen]
    if not all(output.receipt for output in outputs):
        return Judged(case, Verdict.UNKNOWN, "same bits, but the answers carry no receipt", seen)
    if not all(output.verified for output in outputs):
        return Judged(case, Verdict.UNKNOWN, "same bits, but not every answer is verified", seen)
    return Judged(case, Verdict.PASSED, _praise(case, seen), seen)


class _Pair(NamedTuple):
    """Two outputs of one case, the earlier one and where it is from."""

    source: str
    before: Output
    after: Observation


def _pairs(case: Recorded, seen: Sequence[Observation]) -> Iterator[_Pair]:
    for one in seen:
        yield _Pair("recorded", case.output, one)
    for early, late in combinations(seen, 2):
        yield _Pair(f"{place(early.condition)} gave", early.answer.output, late)


def _difference(case: Recorded, seen: tuple[Observation, ...], change: str) -> Judged | None:
    """The first contradiction: different bits of one fingerprint. Else the first different bits of
    two fingerprints."""
    differing = [
        (pair, difference)
        for pair in _pairs(case, seen)
        if (difference := mismatch(pair.before, pair.after.answer.output))
    ]
    if not differing:
        return None
    contradictions = [
        (pair, difference)
        for pair, difference in differing
        if _same_print(pair.before, pair.after.answer.output)
    ]
    pair, difference = (contradictions or differing)[0]
    where = place(pair.after.condition) + ","
    if not contradictions:
        where = f"the answer changed with the fingerprint ({change}):"
    return Judged(
        case,
        Verdict.FAILED if contradictions else Verdict.UNKNOWN,
        f"{where} {difference.told(pair.source)}",
        seen,
        difference,
        pair.after.condition,
        pair.before,
        pair.after.answer.output,
    )


def _praise(case: Recorded, seen: tuple[Observation, ...]) -> str:
    conditions = f"{len(seen)} condition{'s' if len(seen) > 1 else ''}"
    changed = not all(_same_print(case.output, one.answer.output) for one in seen)
    other = ", though under another fingerprint" if changed else ""
    return f"same bits under {conditions}, verified{other}"


def _same_print(left: Output, right: Output) -> bool:
    """Without a receipt nobody says that anything has changed."""
    prints = {left.fingerprint, right.fingerprint} - {None}
    return len(prints) <= 1


def place(condition: str) -> str:
    """A condition in a sentence."""
    return {"load": "in load", "warm": "with a warm cache"}.get(condition, condition)

"""Verdicts. Nothing is asked here: recorded and observed outputs in, PASSED, FAILED or UNKNOWN out.

Two outputs are of the same fingerprint unless their receipts name two. Outputs of one fingerprint
must be equal to the bit; outputs of two may differ, and nobody has promised otherwise.
"""

from collections.abc import Iterable, Iterator, Sequence
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
    if found := _contradiction(case, seen):
        return found
    if found := _changed_answer(case, seen, explain(recorded, observed)):
        return found
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


def _differing(pairs: Iterable[_Pair]) -> tuple[_Pair, Mismatch] | None:
    """The first pair that differs."""
    for pair in pairs:
        if found := mismatch(pair.before, pair.after.answer.output):
            return pair, found
    return None


def _contradiction(case: Recorded, seen: tuple[Observation, ...]) -> Judged | None:
    """Different bits of the same fingerprint."""
    same = (one for one in _pairs(case, seen) if _same_print(one.before, one.after.answer.output))
    if (found := _differing(same)) is None:
        return None
    pair, difference = found
    reason = f"{place(pair.after.condition)}, {difference.told(pair.source)}"
    return _differs(case, Verdict.FAILED, reason, seen, pair, difference)


def _changed_answer(case: Recorded, seen: tuple[Observation, ...], change: str) -> Judged | None:
    """Different bits of different fingerprints."""
    if (found := _differing(_pairs(case, seen))) is None:
        return None
    pair, difference = found
    reason = f"the answer changed with the fingerprint ({change}): {difference.told(pair.source)}"
    return _differs(case, Verdict.UNKNOWN, reason, seen, pair, difference)


def _differs(
    case: Recorded,
    verdict: Verdict,
    reason: str,
    seen: tuple[Observation, ...],
    pair: _Pair,
    difference: Mismatch,
) -> Judged:
    outputs = (pair.before, pair.after.answer.output)
    return Judged(case, verdict, reason, seen, difference, pair.after.condition, *outputs)


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

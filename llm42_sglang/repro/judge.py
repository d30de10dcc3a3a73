"""The verdicts PASSED, FAILED and UNKNOWN, from recorded and observed outputs. No server is asked.

Outputs of one fingerprint must be equal to the bit. Outputs of two fingerprints may differ: nothing
is promised about them. Two outputs count as of one fingerprint unless their receipts name two.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

from llm42_sglang.errors import UserError
from llm42_sglang.repro.conditions import Observation
from llm42_sglang.repro.differences import Fingerprint, digest_of, explain
from llm42_sglang.repro.golden import Block, GoldenFile, RecordedCase
from llm42_sglang.repro.output import FirstDifference, Output, mismatch


class CheckVerdict(Enum):
    """The verdict on a case, on a whole check, or on a receipt that is replayed."""

    PASSED = "PASSED"
    FAILED = "FAILED"  # bits differ under one fingerprint
    UNKNOWN = "UNKNOWN"  # no answer, an unverified one, or one that changed with the fingerprint


@dataclass(frozen=True, slots=True)
class Difference:
    """Two outputs of one case that are not equal. `source` says where the first one is from."""

    source: str
    before: Output
    after: Observation
    mismatch: FirstDifference

    @property
    def sides(self) -> tuple[Output, Output]:
        """The two choices that differ."""
        number = self.mismatch.choice or 0
        return self.before.choices[number], self.after.answer.output.choices[number]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What was observed of one case, and the verdict on it."""

    case: RecordedCase
    verdict: CheckVerdict
    reason: str  # one line
    observations: tuple[Observation, ...]  # those with an answer
    difference: Difference | None = None  # the one that the verdict is about
    complete: bool = True  # whether every observation had an answer

    @property
    def consistent(self) -> bool:
        """Whether all conditions gave the same bits. They need not be the recorded ones."""
        same = all(mismatch(a, b) is None for a, b in combinations(self.outputs, 2))
        return self.complete and same

    @property
    def outputs(self) -> list[Output]:
        """Those of the observations. A claim that was refuted has none."""
        answers = [observation.answer for observation in self.observations]
        return [answer.output for answer in answers if answer.refuted is None]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The results of all cases, and the fingerprints of the golden file and of the server.

    Of the file's `blocks`, `recorded` is the one of the server's fingerprint, or else the nearest.
    """

    cases: tuple[CaseResult, ...]
    recorded: Fingerprint | None
    observed: Fingerprint | None
    blocks: int = 1

    @property
    def verdict(self) -> CheckVerdict:
        """The worst verdict of any case."""
        worst_first = (CheckVerdict.FAILED, CheckVerdict.UNKNOWN)
        return next(filter(self.count, worst_first), CheckVerdict.PASSED)

    @property
    def change(self) -> str:
        """One line that says what differs between the two fingerprints."""
        changed = explain(self.recorded, self.observed)
        if self.blocks == 1 or digest_of(self.recorded) == digest_of(self.observed):
            return changed
        return f"none of {self.blocks} blocks has it; the nearest: {changed}"

    def count(self, verdict: CheckVerdict) -> int:
        """The number of cases with this verdict."""
        return sum(result.verdict is verdict for result in self.cases)


def judge(
    case: RecordedCase,
    observations: Sequence[Observation],
    recorded: Fingerprint | None,
    observed: Fingerprint | None,
) -> CaseResult:
    """Judge one case from its observations under all conditions.

    `recorded` and `observed` are the fingerprints of the golden file and of the server. The verdict
    is about the first difference under one fingerprint. If there is none, it is about the first
    answer that is missing, then about the first difference under two fingerprints.
    """
    assert observations, "nothing was observed"
    answered = tuple(o for o in observations if o.answer is not None)
    unanswered = [o for o in observations if o.answer is None]
    differences = list(_differences(case, answered))

    def result(verdict: CheckVerdict, reason: str, about: Difference | None = None) -> CaseResult:
        return CaseResult(case, verdict, reason, answered, about, complete=not unanswered)

    for difference in differences:
        if _same_fingerprint(difference.before, difference.after.answer.output):
            what = difference.mismatch.describe(difference.source)
            reason = f"{place(difference.after.condition)}, {what}"
            return result(CheckVerdict.FAILED, reason, difference)
    for observation in unanswered:
        reason = f"{place(observation.condition)}, no answer: {observation.error}"
        return result(CheckVerdict.UNKNOWN, reason)
    for difference in differences:
        what = difference.mismatch.describe(difference.source)
        change = explain(recorded, observed)
        reason = f"the answer changed with the fingerprint ({change}): {what}"
        return result(CheckVerdict.UNKNOWN, reason, difference)
    outputs = [observation.answer.output for observation in answered]
    if not all(output.stamped for output in outputs):
        return result(CheckVerdict.UNKNOWN, "same bits, but the answers carry no receipt")
    if not all(output.verified for output in outputs):
        return result(CheckVerdict.UNKNOWN, "same bits, but not every answer is verified")
    reason = f"same bits under {len(answered)} condition{'s' * (len(answered) > 1)}, verified"
    if not all(_same_fingerprint(case.output, output) for output in outputs):
        reason += ", though under another fingerprint"
    return result(CheckVerdict.PASSED, reason)


def _differences(case: RecordedCase, answered: Sequence[Observation]) -> Iterator[Difference]:
    """Yield the differences from the recorded output, then those between conditions."""
    pairs = [("recorded", case.output, observation) for observation in answered]
    whole = [o for o in answered if o.answer.refuted is None]  # a refuted claim has no answer
    pairs += [
        (f"{place(early.condition)} gave", early.answer.output, late)
        for early, late in combinations(whole, 2)
    ]
    for source, before, after in pairs:
        if first := mismatch(before, after.answer.output):
            yield Difference(source, before, after, first)


def _same_fingerprint(left: Output, right: Output) -> bool:
    """Whether both are of one fingerprint, as far as is known: an output may have no receipt."""
    prints = {left.fingerprint, right.fingerprint} - {None}
    return len(prints) <= 1


def place(condition: str) -> str:
    """A condition as words of a sentence."""
    return {"load": "in load", "warm": "with a warm cache"}.get(condition, condition)


def fullest(outputs: Sequence[Output]) -> Output:
    """The output with most details, which is to be recorded: those of streams may lack ids."""
    return max(outputs, key=lambda o: (o.ids is not None, o.logprobs is not None))


def updated(golden: GoldenFile, check: CheckResult, model: str) -> GoldenFile:
    """The golden file, with new answers for the cases that were checked.

    Other answers of this fingerprint stay. If there are none, the new ones take the place of those
    of the same kind of machine, if that has one block, and are added otherwise.

    Raises UserError if answers are missing or differ between conditions, or if a server that gives
    receipts does not verify one: such answers are not reproducible. Raises it also if only some
    cases were checked under a new fingerprint.
    """
    new = {}
    for result in check.cases:
        name = result.case.id
        outputs = result.outputs
        if not result.consistent:
            raise UserError(
                f"case {name} is not the same under all conditions: {result.reason}; "
                "the golden file is unchanged"
            )
        if not outputs:
            raise UserError(f"case {name} was only claimed; add another condition to record it")
        if any(o.receipt for output in outputs for o in output.choices) and not all(
            output.verified for output in outputs
        ):
            raise UserError(f"case {name} is not verified; the golden file is unchanged")
        new[name] = fullest(outputs)
    old = golden.of_machine(check.observed)
    if golden.of_fingerprint(check.observed) is not None:
        old = []
    elif len(new) < len(golden.cases):
        raise UserError("the fingerprint has changed: update all cases, without --only and --tag")
    block = Block(model=model, fingerprint=check.observed, outputs=new)
    return golden.with_block(block, golden.cases, old if len(old) == 1 else [])

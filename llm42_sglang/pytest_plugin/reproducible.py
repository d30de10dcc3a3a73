"""`assert_reproducible`: ask a prompt under all conditions, and compare with the golden file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llm42_sglang.errors import UserError, printable
from llm42_sglang.pytest_plugin.message import explanation
from llm42_sglang.repro.conditions import CONDITIONS, USUAL, Condition, Observation, observe
from llm42_sglang.repro.documents import validated
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.golden import GoldenFile, RecordedCase, load_golden, save_golden
from llm42_sglang.repro.judge import CheckVerdict, judge
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.suite import Case

SUFFIX = ".llm42.json"
HINT = "pytest --llm42-update records it"
Question = str | Sequence[Mapping[str, str]]  # a prompt, or messages


@dataclass
class Reproducible:
    """The value of the fixture. `test` is the test's name, and `golden` the file beside it."""

    endpoint: Endpoint
    golden: Path
    test: str
    conditions: Sequence[Condition]
    in_flight: int
    update: bool
    sampling: Mapping[str, Any]
    calls: int = 0

    @classmethod
    def of(cls, request: pytest.FixtureRequest, endpoint: Endpoint, update: bool) -> "Reproducible":
        """The fixture's value for the test that requests it. Raises UserError."""
        sampling: dict[str, Any] = {}
        for marker in reversed(list(request.node.iter_markers("llm42"))):  # the closest one wins
            sampling |= marker.kwargs
        names = request.config.getini("llm42_conditions") or USUAL
        for unknown in (name for name in names if name not in CONDITIONS):
            known = ", ".join(CONDITIONS)
            raise UserError(f"llm42_conditions: {unknown!r} is none of {known}")
        return cls(
            endpoint,
            request.path.with_name(request.path.stem + SUFFIX),
            request.node.nodeid.partition("::")[2],
            [CONDITIONS[name] for name in names],
            int(request.config.getini("llm42_in_flight")),
            update,
            sampling,
        )

    def __call__(self, question: Question, **sampling: Any) -> Output:
        """Ask the question and return the answer. The test fails unless it is reproducible.

        Under every condition the answer must be verified, and be the recorded one. Sampling has the
        names of a suite, such as `max_tokens`, `temperature` and `seed`. Each call in a test is a
        case of its own.
        """
        self.calls += 1
        with failing():
            case = self._case(question, sampling)
            golden = load_golden(self.golden) if self.golden.exists() else None
            return self._record(case, golden) if self.update else self._check(case, golden)

    def _case(self, question: Question, sampling: Mapping[str, Any]) -> Case:
        kind = "prompt" if isinstance(question, str) else "messages"
        name = self.test if self.calls == 1 else f"{self.test} #{self.calls}"
        content = {"id": name, kind: question, "sampling": {**self.sampling, **sampling}}
        return validated(Case, content, name)

    def _check(self, case: Case, golden: GoldenFile | None) -> Output:
        cases = golden.cases if golden else []
        recorded = next((other for other in cases if other.id == case.id), None)
        if golden is None or recorded is None:
            raise UserError(f"{self.golden.name} holds no answer of {case.id}; {HINT}")
        if recorded.model_dump(exclude={"output", "tags"}) != case.model_dump(exclude={"tags"}):
            raise UserError(f"{self.golden.name} holds the answer to another question; {HINT}")
        facts = golden.fingerprint  # of the last recording; an older answer may be of another one
        if facts is not None and facts.digest != recorded.output.fingerprint:
            facts = None
        result = judge(recorded, self._observe(recorded), facts, self.endpoint.fingerprint)
        if result.verdict is not CheckVerdict.PASSED:
            raise UserError(explanation(result, self.golden.name))
        return result.observations[0].answer.output

    def _observe(self, case: Case) -> list[Observation]:
        observations: list[Observation] = []
        for condition in self.conditions:
            observations += observe(self.endpoint, [case], condition, self.in_flight)
        return observations

    def _record(self, case: Case, golden: GoldenFile | None) -> Output:
        """Record the answer and return it. Raises UserError if the conditions differ."""
        observations = self._observe(case)
        output = observations[0].answer.output
        recorded = RecordedCase(**dict(case), output=output)
        facts = self.endpoint.fingerprint
        result = judge(recorded, observations, facts, facts)
        if result.verdict is not CheckVerdict.PASSED:
            raise UserError(f"not recorded: {explanation(result, self.golden.name)}")
        cases = [other for other in (golden.cases if golden else []) if other.id != case.id]
        cases = sorted([*cases, recorded], key=lambda case: case.id)
        new = GoldenFile(model=self.endpoint.model, fingerprint=facts, cases=cases)
        save_golden(new, self.golden)
        return output


@contextmanager
def failing() -> Iterator[None]:
    """Turn a UserError into the failure of the test, without tracebacks."""
    try:
        yield
    except UserError as error:
        raise pytest.fail.Exception(f"llm42: {printable(str(error))}", pytrace=False) from None

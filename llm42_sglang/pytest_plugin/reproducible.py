"""`assert_reproducible`: a prompt under all conditions, against the golden file beside the test."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llm42_sglang.errors import UserError, printable
from llm42_sglang.pytest_plugin.message import explained
from llm42_sglang.repro.conditions import CONDITIONS, Condition, Observation, observe
from llm42_sglang.repro.documents import validated
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.golden import Golden, Recorded, load_golden, save_golden
from llm42_sglang.repro.judge import Verdict, judge
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.suite import Case

SUFFIX = ".llm42.json"
HINT = "pytest --llm42-update records it"
Question = str | Sequence[Mapping[str, str]]  # a prompt, or messages


@dataclass
class Reproducible:
    """What the fixture gives. `test` is the test's name, `golden` the file beside it."""

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
        """For the test that asks for the fixture."""
        sampling: dict[str, Any] = {}
        for marker in reversed(list(request.node.iter_markers("llm42"))):  # the closest one wins
            sampling |= marker.kwargs
        names = request.config.getini("llm42_conditions") or list(CONDITIONS)
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
        """Ask and compare; fail the test unless every answer is verified and the recorded one.

        sampling: as in a suite, `max_tokens`, `temperature`, `seed` and so on. A second call in a
        test is a case of its own.
        """
        self.calls += 1
        with failing():
            case = self._case(question, sampling)
            golden = load_golden(self.golden) if self.golden.exists() else None
            return self._updated(case, golden) if self.update else self._checked(case, golden)

    def _case(self, question: Question, sampling: Mapping[str, Any]) -> Case:
        asked = "prompt" if isinstance(question, str) else "messages"
        name = self.test if self.calls == 1 else f"{self.test} #{self.calls}"
        content = {"id": name, asked: question, "sampling": {**self.sampling, **sampling}}
        return validated(Case, content, name)

    def _checked(self, case: Case, golden: Golden | None) -> Output:
        cases = golden.cases if golden else []
        recorded = next((one for one in cases if one.id == case.id), None)
        if golden is None or recorded is None:
            raise UserError(f"{self.golden.name} holds no answer of {case.id}; {HINT}")
        if recorded.model_dump(exclude={"output", "tags"}) != case.model_dump(exclude={"tags"}):
            raise UserError(f"{self.golden.name} holds the answer to another question; {HINT}")
        facts = golden.fingerprint  # they explain answers recorded together with them only
        if facts is not None and facts.digest != recorded.output.fingerprint:
            facts = None
        judged = judge(recorded, self._observed(recorded), facts, self.endpoint.fingerprint)
        if judged.verdict is not Verdict.PASSED:
            raise UserError(explained(judged, self.golden.name))
        return judged.observations[0].answer.output

    def _observed(self, case: Case) -> list[Observation]:
        seen: list[Observation] = []
        for condition in self.conditions:
            seen += observe(self.endpoint, [case], condition, self.in_flight)
        return seen

    def _updated(self, case: Case, golden: Golden | None) -> Output:
        """Record the answer, unless it is not the same under all conditions."""
        seen = self._observed(case)
        output = seen[0].answer.output
        recorded = Recorded(**dict(case), output=output)
        facts = self.endpoint.fingerprint
        judged = judge(recorded, seen, facts, facts)
        if judged.verdict is not Verdict.PASSED:
            raise UserError(f"not recorded: {explained(judged, self.golden.name)}")
        cases = [one for one in (golden.cases if golden else []) if one.id != case.id]
        cases = sorted([*cases, recorded], key=lambda one: one.id)
        save_golden(Golden(model=self.endpoint.model, fingerprint=facts, cases=cases), self.golden)
        return output


@contextmanager
def failing() -> Iterator[None]:
    """A UserError becomes the test's failure: its text, without the history of both."""
    try:
        yield
    except UserError as error:
        raise pytest.fail.Exception(f"llm42: {printable(str(error))}", pytrace=False) from None

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
from llm42_sglang.repro.golden import Block, GoldenFile, load_golden, save_golden, with_output
from llm42_sglang.repro.judge import CheckVerdict, fullest, judge
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.suite import Case

SUFFIX = ".llm42.json"
HINT = "pytest --llm42-update records it"
Question = str | Sequence[Mapping[str, Any]]  # a prompt, or messages
BESIDE = ("tools", "tool_choice", "response_format")  # of a case, beside its sampling


@dataclass
class Reproducible:
    """The value of the fixture. `test` is the test's name, and `golden` the file beside it."""

    endpoint: Endpoint
    golden: Path
    test: str
    conditions: Sequence[Condition]
    in_flight: int
    update: bool
    options: Mapping[str, Any]  # of the markers
    calls: int = 0

    @classmethod
    def of(cls, request: pytest.FixtureRequest, endpoint: Endpoint, update: bool) -> "Reproducible":
        """The fixture's value for the test that requests it. Raises UserError."""
        options: dict[str, Any] = {}
        for marker in reversed(list(request.node.iter_markers("llm42"))):  # the closest one wins
            options |= marker.kwargs
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
            options,
        )

    def __call__(self, question: Question, **options: Any) -> Output:
        """Ask the question and return the answer. The test fails unless it is reproducible.

        Under every condition the answer must be verified, and be the recorded one. Options have the
        names of a suite: `tools`, `tool_choice`, `response_format`, and those of sampling, such as
        `max_tokens`, `temperature` and `seed`. Each call in a test is a case of its own.
        """
        self.calls += 1
        with failing():
            case = self._case(question, {**self.options, **options})
            golden = load_golden(self.golden) if self.golden.exists() else None
            return self._record(case, golden) if self.update else self._check(case, golden)

    def _case(self, question: Question, options: dict[str, Any]) -> Case:
        kind = "prompt" if isinstance(question, str) else "messages"
        name = self.test if self.calls == 1 else f"{self.test} #{self.calls}"
        beside = {option: options.pop(option) for option in BESIDE if option in options}
        content = {"id": name, kind: question, "sampling": options, **beside}
        return validated(Case, content, name)

    def _check(self, case: Case, golden: GoldenFile | None) -> Output:
        cases = golden.cases if golden else []
        asked = next((known for known in cases if known.id == case.id), None)
        if golden is None or asked is None:
            raise UserError(f"{self.golden.name} holds no answer of {case.id}; {HINT}")
        if not asked.asks_the_same(case):
            raise UserError(f"{self.golden.name} holds the answer to another question; {HINT}")
        recorded, facts = golden.recorded(asked, self.endpoint.fingerprint)
        observations = self._observe(recorded, self.conditions)
        result = judge(recorded, observations, facts, self.endpoint.fingerprint)
        if result.verdict is not CheckVerdict.PASSED:
            raise UserError(explanation(result, self.golden.name))
        return result.observations[0].answer.output

    def _observe(self, case: Case, conditions: Sequence[Condition]) -> list[Observation]:
        observations: list[Observation] = []
        for condition in conditions:
            observations += observe(self.endpoint, [case], condition, self.in_flight)
        return observations

    def _record(self, case: Case, golden: GoldenFile | None) -> Output:
        """Record the answer and return it. Raises UserError if the conditions differ."""
        claimed = [condition for condition in self.conditions if condition.claimed]
        asked = [condition for condition in self.conditions if not condition.claimed]
        if not asked:
            raise UserError("llm42_conditions: an answer that is only claimed cannot be recorded")
        observations = self._observe(case, asked)
        output = fullest([observation.answer.output for observation in observations])
        observations += self._observe(with_output(case, output), claimed)
        facts = self.endpoint.fingerprint
        result = judge(with_output(case, output), observations, facts, facts)
        if result.verdict is not CheckVerdict.PASSED:
            raise UserError(f"not recorded: {explanation(result, self.golden.name)}")
        block = Block(model=self.endpoint.model, fingerprint=facts, outputs={case.id: output})
        new = GoldenFile(cases=[case], blocks=[block])
        if golden is not None:
            cases = [other for other in golden.cases if other.id != case.id] + [case]
            cases.sort(key=lambda case: case.id)
            new = golden.with_block(block, cases, golden.of_machine(facts))
        save_golden(new, self.golden)
        return output


@contextmanager
def failing() -> Iterator[None]:
    """Turn a UserError into the failure of the test, without tracebacks."""
    try:
        yield
    except UserError as error:
        raise pytest.fail.Exception(f"llm42: {printable(str(error))}", pytrace=False) from None

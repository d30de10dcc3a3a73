"""`assert_reproducible`: a prompt under all conditions, against the golden file beside the test."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pydantic import ValidationError

from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.errors import UserError
from llm42_sglang.pytest_plugin.message import explained
from llm42_sglang.repro.conditions import CONDITIONS, Condition, Observation, observe
from llm42_sglang.repro.documents import first_complaint
from llm42_sglang.repro.endpoint import Endpoint, connect
from llm42_sglang.repro.golden import Golden, Recorded, load_golden, save_golden
from llm42_sglang.repro.judge import Judged, Verdict, judge
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.suite import Case

SUFFIX = ".llm42.json"
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
    sampling: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 0

    @classmethod
    def of(cls, request: pytest.FixtureRequest, endpoint: Endpoint, update: bool) -> "Reproducible":
        """For the test that asks for the fixture."""
        sampling: dict[str, Any] = {}
        for marker in reversed(list(request.node.iter_markers("llm42"))):  # the closest one wins
            sampling |= marker.kwargs
        names = request.config.getini("llm42_conditions") or list(CONDITIONS)
        if unknown := [name for name in names if name not in CONDITIONS]:
            _fail(f"llm42_conditions: {unknown[0]!r} is none of {', '.join(CONDITIONS)}")
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
        __tracebackhide__ = True
        self.calls += 1
        with failing():
            case = self._case(question, sampling)
            return self._updated(case) if self.update else self._checked(case)

    def _case(self, question: Question, sampling: Mapping[str, Any]) -> Case:
        __tracebackhide__ = True
        asked = "prompt" if isinstance(question, str) else "messages"
        name = self.test if self.calls == 1 else f"{self.test} #{self.calls}"
        content = {"id": name, asked: question, "sampling": {**self.sampling, **sampling}}
        try:
            return Case.model_validate(content)
        except ValidationError as error:
            raise UserError(first_complaint(error)) from None

    def _checked(self, case: Case) -> Output:
        __tracebackhide__ = True
        hint = "pytest --llm42-update records it"
        golden = load_golden(self.golden) if self.golden.exists() else None
        cases = golden.cases if golden else []
        recorded = next((one for one in cases if one.id == case.id), None)
        if recorded is None:
            _fail(f"{self.golden.name} holds no answer of {case.id}; {hint}")
        if _question_of(recorded) != _question_of(case):
            _fail(f"{self.golden.name} holds the answer to another question; {hint}")
        judged = self._judged(recorded, golden)
        if judged.verdict is not Verdict.PASSED:
            _fail(explained(judged, self.golden.name))
        return judged.observations[0].answer.output

    def _judged(self, recorded: Recorded, golden: Golden | None) -> Judged:
        """Facts explain answers that were recorded together with them only."""
        facts = golden.fingerprint if golden else None
        if facts is not None and facts.digest != recorded.output.fingerprint:
            facts = None
        return judge(recorded, self._observed(recorded), facts, self.endpoint.fingerprint)

    def _observed(self, case: Case) -> list[Observation]:
        return [
            observation
            for condition in self.conditions
            for observation in observe(self.endpoint, [case], condition, self.in_flight)
        ]

    def _updated(self, case: Case) -> Output:
        """Record the answer, unless it is not the same under all conditions."""
        __tracebackhide__ = True
        seen = self._observed(case)
        output = seen[0].answer.output
        recorded = Recorded(**dict(case), output=output)
        judged = judge(recorded, seen, self.endpoint.fingerprint, self.endpoint.fingerprint)
        if judged.verdict is not Verdict.PASSED:
            _fail(f"not recorded: {explained(judged, self.golden.name)}")
        known = load_golden(self.golden).cases if self.golden.exists() else []
        cases = {one.id: one for one in known} | {case.id: recorded}
        golden = Golden(
            model=self.endpoint.model,
            fingerprint=self.endpoint.fingerprint,
            cases=sorted(cases.values(), key=lambda one: one.id),
        )
        save_golden(golden, self.golden)
        return output


@contextmanager
def started(command: str, log_path: Path) -> Iterator[str]:
    """The URL of a server that runs in the block; without a command `llm42 serve`."""
    server = ServerProcess(argv=shlex.split(command) or None, log_path=log_path)
    with failing():
        server.start()
    try:
        yield server.url
    finally:
        server.stop()


def connected(url: str) -> Endpoint:
    """To be used as a context manager."""
    with failing():
        return connect(url)


@contextmanager
def failing() -> Iterator[None]:
    """A UserError becomes the test's failure: a line, without the history of both."""
    __tracebackhide__ = True
    try:
        yield
    except UserError as error:
        failure = pytest.fail.Exception(f"llm42: {error}", pytrace=False)
        raise failure from None


def _question_of(case: Case) -> dict[str, Any]:
    return case.model_dump(include={"prompt", "input_ids", "messages", "sampling"})


def _fail(message: str) -> NoReturn:
    __tracebackhide__ = True
    pytest.fail(f"llm42: {message}", pytrace=False)
